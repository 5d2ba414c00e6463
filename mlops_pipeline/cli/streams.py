"""The three standard streams of a command: closed, full, or nobody reads them any more."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from mlops_pipeline.clients.errors import PipelineError, UnavailableError

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


class ErrorsLostError(UnavailableError, OSError):
    """Standard error cannot be written.

    It is an OSError too: `logging` and others drop their messages then, and go on.
    """


@contextmanager
def checked_streams() -> Iterator[None]:
    """Write what the block prints, and say so where that cannot be done.

    Raises:
        UnavailableError: standard output is closed, or the disk of an output is full.
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
    with _checked_output(), _checked_errors():
        yield


@contextmanager
def _checked_output() -> Iterator[None]:
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


@contextmanager
def _checked_errors() -> Iterator[None]:
    original = sys.stderr
    original.flush()
    # Handlers of `logging` keep this stream until the process ends, so it has its own buffer.
    buffer = os.fdopen(original.fileno(), "wb", closefd=False)
    sys.stderr = _Errors(
        buffer, encoding=original.encoding, errors=original.errors, line_buffering=True
    )
    try:
        yield
    finally:
        sys.stderr = original


def copy_of_errors() -> TextIO:
    """Return standard error as another stream, which stays as it is when `sys.stderr` changes.

    What is written to it raises what `checked_streams` raises.
    """
    return _Errors(os.fdopen(os.dup(sys.stderr.fileno()), "wb"), line_buffering=True)


def discard_output() -> None:
    """Send what is still buffered nowhere: Python writes it out when the process ends."""
    _discard(_OUTPUT)


def say(sentence: str) -> None:
    """Write a line to standard error, if that can be written."""
    try:
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
    except OSError:
        _discard(_ERRORS)  # Otherwise Python replaces the exit code when the process ends.


def _discard(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)


class _Output(io.TextIOWrapper):
    """Standard output that explains why it cannot be written."""

    _called = "standard output"
    _lost: type[PipelineError] = UnavailableError

    def write(self, text: str) -> int:
        with self._explained():
            return super().write(text)

    def flush(self) -> None:
        with self._explained():
            super().flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BrokenPipeError, ErrorsLostError):
            raise
        except OSError as error:
            raise self._lost(
                f"could not write to {self._called}: {error.strerror}; the command may have "
                "completed anyway"
            ) from error


class _Errors(_Output):
    """Standard error that explains why it cannot be written."""

    _called = "standard error"
    _lost = ErrorsLostError


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
