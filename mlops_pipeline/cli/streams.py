"""The three standard streams of a command: closed, full, or nobody reads them any more."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlops_pipeline.clients.errors import UnavailableError

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


@contextmanager
def checked_streams() -> Iterator[None]:
    """Write what the block prints, and say so where that cannot be done.

    Raises:
        UnavailableError: standard output is closed or its disk is full.
        BrokenPipeError: nobody reads it any more.
    """
    for descriptor in (_INPUT, _ERRORS):
        if not _is_open(descriptor):  # The next file would get its number, and what is said.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # It stays open until the process ends.
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115  # It stays open until the process ends.
    if sys.stdout is None:
        raise UnavailableError(
            "standard output is closed, so nothing was done; use `>/dev/null` to discard it"
        )
    original = sys.stdout
    checked = _Output(
        original.buffer,
        encoding=original.encoding,
        errors=original.errors,
        line_buffering=bool(original.line_buffering),
    )
    sys.stdout = checked
    try:
        yield
    finally:
        sys.stdout = original
        checked.flush()
        checked.detach()  # It would close the buffer, which is the caller's, when it is collected.


def discard_output() -> None:
    """Send what is still buffered nowhere: Python writes it out when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _OUTPUT)


class _Output(io.TextIOWrapper):
    """Standard output that explains why it cannot be written."""

    def write(self, text: str) -> int:
        with _explained():
            return super().write(text)

    def flush(self) -> None:
        with _explained():
            super().flush()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnavailableError(
            f"could not write to standard output: {error.strerror}; the command may have "
            "completed anyway"
        ) from error


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
