"""Programs that end when this process ends for any reason.

`Kept` starts a keeper: this module, run as a program. The keeper leads its own session, starts the
programs in it and holds the other end of a pipe. The pipe closes when this process closes it or
dies, also by SIGKILL. Then the keeper ends the whole process group, including grandchildren. A
terminal's Ctrl-C does not reach the group: this process decides.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlops_pipeline.clients import ports

_LOOK = 0.2
"""Seconds between two checks of the programs."""
_SPARE = 5.0
"""Seconds beyond the grace after which the keeper itself is killed."""


@dataclass(frozen=True)
class Program:
    """A program to keep."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Unix sockets: the program is started when all of them accept connections."""
    descriptors: tuple[int, ...] = ()
    """Open files of this process that the program inherits, under the same numbers."""


class Kept:
    """Programs that run while the context lasts. When one of them ends, all are stopped."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        environment: Mapping[str, str],
        folder: Path,
        grace: float,
        held: Sequence[int] = (),
    ) -> None:
        """Start the programs.

        `environment` is added to this process's own. `folder` is removed at the end. The programs
        have `grace` seconds between SIGTERM and SIGKILL. The keeper keeps the files `held`
        open until they have ended.
        """
        self._grace = grace
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlops_pipeline.clients.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            pass_fds=[*held, *(number for p in programs for number in p.descriptors)],
            start_new_session=True,
        )
        order = {
            "programs": [asdict(program) for program in programs],
            "folder": str(folder),
            "grace": grace,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def is_alive(self) -> bool:
        """Say whether the keeper runs, and with it every started program."""
        return self._process.poll() is None

    def wait(self) -> str:
        """Wait until a program ends unexpectedly, and return a message about it."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        return said or "the process that supervises the programs was killed"

    def end(self) -> None:
        """End every program; return when the last one is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(self._grace + _SPARE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()


class _Keeper:
    """What runs in the keeper's process."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._waiting = [Program(**program) for program in order["programs"]]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._order = order
        self._told = False

    def keep(self) -> str:
        """Run the programs until one ends or all must end; return a message, or an empty text."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # A handler, not SIG_IGN: programs inherit that, and a script's `&` sets it for SIGINT.
            signal.signal(number, self._take)
        while not self._told:
            self._start_next()
            for name, process in self._running.items():
                if (code := process.poll()) is not None:
                    return f"{name} ended unexpectedly ({_say_exit(code)})"
            if select.select([0], [], [], _LOOK)[0]:
                break
        return ""

    def end(self) -> None:
        """Ask the group to end, and return when it has or the grace is over."""
        os.killpg(0, signal.SIGTERM)
        deadline = time.monotonic() + self._order["grace"]
        while time.monotonic() < deadline and _others_in_group():
            for process in self._running.values():
                process.poll()
            select.select([], [], [], _LOOK)
        shutil.rmtree(self._order["folder"], ignore_errors=True)

    def _take(self, _number: int, _frame: object) -> None:
        self._told = True

    def _start_next(self) -> None:
        for program in [p for p in self._waiting if all(map(ports.accepts, p.after))]:
            self._waiting.remove(program)
            self._running[program.name] = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                pass_fds=program.descriptors,
            )


def _say_exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _others_in_group() -> list[int]:
    """Return the living processes of this process's group, without itself."""
    import psutil

    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(OSError, psutil.Error):
            same = os.getpgid(process.pid) == os.getpgrp() and process.pid != os.getpid()
            if same and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def main() -> None:
    """Keep the programs in the first line of standard input until standard input ends."""
    line = b""
    while not line.endswith(b"\n"):  # Not with `sys.stdin`, which reads ahead and hides the end.
        if not (part := os.read(0, 1 << 16)):
            return
        line += part
    keeper = _Keeper(json.loads(line))
    said = keeper.keep()
    with suppress(OSError):
        os.write(1, f"{said}\n".encode())
    keeper.end()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
