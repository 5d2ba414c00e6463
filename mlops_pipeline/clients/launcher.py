"""Starts a supervised program only once, and adopts it if it already runs.

Supervisord runs `python launcher.py LOCK LOG SECONDS COMMAND...` for each program. The launcher
locks the file LOCK and becomes COMMAND, which keeps the lock for as long as it lives. So the kernel
knows whether the program runs, and in which process, whatever happened to supervisord or to the
machine. If another process has the lock, the launcher represents it: it forwards SIGTERM, sends
SIGKILL after SECONDS, and becomes COMMAND itself when that process has ended.

The program writes to LOG itself, so that it does not depend on supervisord for its output either.

Record locks of fcntl(2): `execve` keeps them, `fork` does not inherit them, and the end of the
process releases them. This file is run by its path and must import nothing of the project.
"""

import fcntl
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PRIVATE = 0o600
_LAYOUT, _TYPE, _PID = ("qqihh", 3, 2) if sys.platform == "darwin" else ("hhqqi", 0, 4)
"""Of `struct flock`, and where its fields `l_type` and `l_pid` are."""


def holder(lock: Path) -> int | None:
    """Return the id of the process that holds `lock`, or None. Raises nothing."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return None
    try:
        return _holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def describe_lack(file: Path) -> str | None:
    """Return why `file` cannot be locked, as on some network file systems, or None."""
    try:
        descriptor = os.open(file, os.O_RDWR)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            _holder(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.strerror
    return None


def main() -> None:
    """Become the program when no other process runs it."""
    lock, log, seconds, *command = sys.argv[1:]
    _write_to(log)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, _PRIVATE)
    stand_in = _StandIn(descriptor, float(seconds))
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    stand_in.retire()
    os.set_inheritable(descriptor, True)
    os.execvp(command[0], command)


class _StandIn:
    """Forwards supervisord's signals to the process that has the lock."""

    def __init__(self, lock: int, seconds: float) -> None:
        self._lock = lock
        self._seconds = seconds
        self._stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGALRM, self._kill)

    def retire(self) -> None:
        """Stop forwarding. Exit if the program was told to stop."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._stopping:
            sys.exit(0)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._send(signal.SIGTERM)
        # Supervisord kills this process after the same time, counted from a little earlier.
        signal.setitimer(signal.ITIMER_REAL, 0.8 * self._seconds)

    def _kill(self, _signal: int, _frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        # Supervisord makes each of its programs the leader of a process group.
        if pid := _holder(self._lock):
            with suppress(ProcessLookupError):
                os.killpg(pid, number)


def _holder(descriptor: int) -> int | None:
    question = [0] * 5
    question[_TYPE] = fcntl.F_WRLCK
    answer = struct.unpack(
        _LAYOUT, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_LAYOUT, *question))
    )
    return None if answer[_TYPE] == fcntl.F_UNLCK else int(answer[_PID])


def _write_to(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


if __name__ == "__main__":
    main()
