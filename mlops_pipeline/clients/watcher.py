"""Kills the commands of a process that is killed.

A process that starts commands has one watcher: another process, which learns of the start and the
end of each command through a pipe. The kernel closes the pipe when the first process ends for any
reason. Then the watcher kills the process groups of the commands that still run.

Linux offers this (PR_SET_PDEATHSIG) only for the thread that started the command, and macOS does
not. This file is run by its path and must import nothing of the project.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

_lock = threading.Lock()
_watcher: "subprocess.Popen[bytes] | None" = None
_owner = 0
"""Id of the process that started `_watcher`: a forked process has a copy, but no watcher."""


def prepare() -> None:
    """Start the watcher if none runs, so that reporting a command takes no time."""
    with _lock, suppress(OSError):
        _running()


@contextmanager
def watched(group: int) -> Iterator[None]:
    """Kill the process group `group` if this process ends while the block runs."""
    _tell(f"+{group}\n")
    try:
        yield
    finally:
        _tell(f"-{group}\n")


def _tell(line: str) -> None:
    """Tell the watcher. If it cannot be started, the command still runs."""
    with _lock, suppress(OSError):
        pipe = _running().stdin
        if pipe is not None:
            pipe.write(line.encode())


def _running() -> "subprocess.Popen[bytes]":
    global _watcher, _owner
    if _watcher is None or _owner != os.getpid() or _watcher.poll() is not None:
        _watcher, _owner = _start(), os.getpid()
        atexit.register(_stop, _watcher, _owner)
    return _watcher


def _start() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        # Some builds of Python need it to start.
        env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        start_new_session=True,
    )


def _stop(watcher: "subprocess.Popen[bytes]", owner: int) -> None:
    if owner == os.getpid() and watcher.stdin is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            watcher.stdin.close()
            watcher.wait(5)


def main(lines: Iterable[str]) -> None:
    """Track the named groups until the lines end, then kill the remaining ones."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin)
