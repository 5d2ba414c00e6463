"""The only door to other programs."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlops_pipeline.clients.errors import CommandError

_SHOWN = 2_000
"""Characters of each stream that an error shows."""
_GRACE = 1.0
"""Seconds in which the streams of an ended command must end."""


def run(
    command: Sequence[str],
    *,
    purpose: str,
    timeout: float,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Run `command` and return its standard output.

    `purpose` finishes the sentence "could not ..." in the error. `timeout` is in seconds;
    `environment` is added to this process's own. The command leads a process group of its own,
    which is ended when the wait for it ends early, so that nothing is left behind.

    Raises:
        CommandError: the program is missing, ran out of time or exited with another code than 0.
    """
    shown = shlex.join(command)
    process = _start(command, purpose, shown, environment, directory)
    try:
        output, errors = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        output, errors = _end(process)
        raise CommandError(
            f"could not {purpose}: `{shown}` was ended after {timeout:g} s"
            f"{_streams(output, errors)}"
        ) from error
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0:
        raise CommandError(
            f"could not {purpose}: `{shown}` exited with {process.returncode}"
            f"{_streams(output, errors)}"
        )
    return output


def _start(
    command: Sequence[str],
    purpose: str,
    shown: str,
    environment: Mapping[str, str] | None,
    directory: Path | None,
) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **environment} if environment else None,
            cwd=directory,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if directory is not None and not directory.is_dir():
            raise CommandError(
                f"could not {purpose}: the folder {directory} does not exist"
            ) from error
        raise CommandError(
            f"could not {purpose}: `{command[0]}` was not found; "
            "is the project's environment complete? Run `make up` or reinstall the package"
        ) from error
    except OSError as error:
        raise CommandError(f"could not {purpose}: `{shown}` did not start: {error}") from error


def _end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Kill the process group and return what its streams still held."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired as error:
        # A daemon that left the group still holds the streams: take what there is.
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()
        return _text(error.stdout), _text(error.stderr)


def _text(held: bytes | str | None) -> str:
    return held.decode(errors="replace") if isinstance(held, bytes) else held or ""


def _streams(output: str, errors: str) -> str:
    shown = ""
    for name, text in (("standard error", errors), ("standard output", output)):
        if text.strip():
            shown += f"\n--- end of {name} ---\n{text.strip()[-_SHOWN:]}"
    return shown
