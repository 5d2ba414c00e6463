"""The only module that runs other programs."""

import logging
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.masking import Mask
from mlops_pipeline.clients.watcher import prepare, watched

_SHOWN = 2_000
"""Maximum number of characters of each stream in an error."""
_GRACE = 1.0
"""Seconds within which the streams of an ended command must end."""
_OURS = "is the project's environment complete? Run `make up` or reinstall the package"

Input = str | Path | IO[str] | None
"""Input of a command: a text, a file, or the output of another command."""
OnLine = Callable[[str, str], None]
"""Takes `out` or `err`, and a line with its end. Called in other threads, once at a time."""
_LINE = 8_192
"""Maximum number of characters that are read at once: a longer line is passed on in parts."""
_log = logging.getLogger(__name__)


def run(
    command: Sequence[str],
    *,
    purpose: str,
    timeout: float,
    stdin: Input = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    remedy: str = _OURS,
    secret: bool = False,
    on_line: OnLine | None = None,
) -> str:
    """Run `command` and return its standard output.

    `purpose` finishes the sentence "could not ..." in the error, `remedy` says what to do when the
    program is missing. `timeout` is in seconds; `environment` is added to this process's own. The
    command leads its own process group, which is killed if the wait for it ends early or this
    process is killed, so that nothing is left behind. The arguments and output of a `secret`
    command are not shown. `on_line` gets the output while the command runs, with secrets masked;
    then the command gets no input, and only the end of its output is returned. If `on_line` fails,
    it is not called again, and the command runs on.

    Raises:
        CommandError: the program is missing, timed out or exited with a code other than 0.
    """
    shown = command[0] if secret else shlex.join(command)
    with _opened(stdin, purpose) as source:
        if on_line is not None:
            source = subprocess.DEVNULL
        process = _start(
            command, purpose, shown, source, environment, directory, remedy, on_line=on_line
        )
    try:
        with watched(process.pid):
            output, errors = process.communicate(
                stdin if isinstance(stdin, str) else None, timeout=timeout
            )
    except subprocess.TimeoutExpired as error:
        output, errors = _end(process)
        raise CommandError(
            f"could not {purpose}: `{shown}` was killed after its timeout of {timeout:g} "
            f"s{_streams('' if secret else output, errors)}"
        ) from (None if secret else error)  # It contains the command.
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0:
        raise CommandError(
            f"could not {purpose}: `{shown}` exited with {process.returncode}"
            f"{_streams('' if secret else output, errors)}",
            exit_code=process.returncode,
        )
    return output


def pipe(
    producer: Sequence[str],
    consumer: Sequence[str],
    *,
    purpose: str,
    timeout: float,
    remedy: str = _OURS,
) -> str:
    """Pipe `producer` directly into `consumer`, and return the output of the latter.

    Raises:
        CommandError: one failed, or they timed out.
    """
    shown = shlex.join(producer)
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        source = _start(
            producer, purpose, shown, subprocess.DEVNULL, None, None, remedy, stderr=errors
        )
        try:
            with watched(source.pid):
                output = run(
                    consumer, purpose=purpose, timeout=timeout, stdin=source.stdout, remedy=remedy
                )
                # The consumer may end before the padding of its input: do not wait for that.
                source.communicate(timeout=timeout)
        except (CommandError, subprocess.TimeoutExpired) as error:
            raise CommandError(
                f"{error}\n(its input came from `{shown}`){_written(errors)}"
            ) from error
        finally:
            _end(source)
        if source.returncode != 0:
            raise CommandError(
                f"could not {purpose}: `{shown}` exited with {source.returncode}{_written(errors)}"
            )
    return output


@contextmanager
def _opened(stdin: Input, purpose: str) -> Iterator[IO[Any] | int]:
    """Yield the command's standard input."""
    if not isinstance(stdin, Path):
        yield subprocess.PIPE if stdin is None or isinstance(stdin, str) else stdin
        return
    try:
        file = stdin.open("rb")
    except OSError as error:
        raise CommandError(
            f"could not {purpose}: {stdin} cannot be read: {error.strerror}"
        ) from error
    with file:
        yield file


def _start(
    command: Sequence[str],
    purpose: str,
    shown: str,
    stdin: IO[Any] | int,
    environment: Mapping[str, str] | None,
    directory: Path | None,
    remedy: str,
    stderr: IO[str] | int = subprocess.PIPE,
    on_line: OnLine | None = None,
) -> "subprocess.Popen[str]":
    prepare()
    start = partial(_Followed, on_line=on_line) if on_line else subprocess.Popen
    try:
        return start(
            list(command),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
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
            f"could not {purpose}: `{command[0]}` was not found; {remedy}"
        ) from error
    except OSError as error:
        raise CommandError(f"could not {purpose}: `{shown}` did not start: {error}") from error


class _Followed(subprocess.Popen[str]):
    """A command whose output is passed on line by line; the end of both streams is kept."""

    def __init__(self, *arguments: Any, on_line: OnLine, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_line: OnLine | None = on_line
        self._passing = threading.Lock()
        self._mask = Mask()
        self._ends = {"out": "", "err": ""}
        streams = {"out": self.stdout, "err": self.stderr}
        self._threads = [
            threading.Thread(target=self._read, args=item, daemon=True) for item in streams.items()
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in self._mask.masked(iter(partial(stream.readline, _LINE), "")):
                self._ends[name] = (self._ends[name] + line)[-_SHOWN:]
                self._pass_on(name, line)

    def _pass_on(self, name: str, line: str) -> None:
        with self._passing:
            if self._on_line is None:
                return
            try:
                self._on_line(name, line)
            except Exception as error:  # noqa: BLE001  # whatever shows it, the command runs on
                self._on_line = None
                _log.warning(
                    "the rest of the output of process %d is not shown: %r", self.pid, error
                )

    def communicate(self, input: object = None, timeout: float | None = None) -> tuple[str, str]:
        """Return the ends of both streams, once the command has ended."""
        self.wait(timeout)
        for thread in self._threads:  # A daemon that left the group may hold the streams.
            thread.join(_GRACE)
        return self._ends["out"], self._ends["err"]


def _end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Kill the process group and return the rest of its streams."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired as error:
        # A daemon that left the group still holds the streams: return what was read.
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()
        return _text(error.stdout), _text(error.stderr)


def _text(held: bytes | str | None) -> str:
    return held.decode(errors="replace") if isinstance(held, bytes) else held or ""


def _written(errors: IO[str]) -> str:
    errors.seek(0)
    return _streams("", errors.read())


def _streams(output: str, errors: str) -> str:
    shown = ""
    for name, text in (("standard error", errors), ("standard output", output)):
        if text.strip():
            shown += f"\n--- end of {name} ---\n{text.strip()[-_SHOWN:]}"
    return shown
