"""Processes that run already: found by their id or a mark in their environment, and ended."""

import hashlib
import os
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import UnavailableError

if TYPE_CHECKING:
    import psutil

_SHOWN = 120
"""Characters of a command line that a message shows."""


def exists(pid: int) -> bool:
    """Say whether a process has this id now, whoever's it is."""
    import psutil

    return psutil.pid_exists(pid)


def marked(variable: str, value: str) -> list[int]:
    """Return the ids of this user's processes whose environment has `variable` at `value`.

    Processes inherit the mark from the one that was started with it, so this finds a whole tree,
    also when its root is gone. This process is never among them.
    """
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "uids", "status"]):
        if process.pid == os.getpid() or process.info["uids"] is None:
            continue
        if process.info["uids"].real != os.getuid():
            continue
        try:
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(variable) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def variable(pid: int, name: str) -> str | None:
    """Return an environment variable that the process was started with; None without either."""
    import psutil

    try:
        return psutil.Process(pid).environ().get(name)
    except (psutil.Error, OSError):
        return None


def commanded(words: Collection[str]) -> list[int]:
    """Return the ids of this user's processes whose command line has all these arguments."""
    import psutil

    return [
        process.pid
        for process in psutil.process_iter(["uids", "cmdline"])
        if process.info["uids"] is not None
        and process.info["uids"].real == os.getuid()
        and process.pid != os.getpid()
        and set(words) <= set(process.info["cmdline"] or ())
    ]


def with_descendants(pids: Iterable[int]) -> list[int]:
    """Return these processes and all that they have started, as far as they are still there."""
    import psutil

    found: list[int] = []
    for process in filter(None, map(_process, pids)):
        found.append(process.pid)
        with suppress(psutil.Error):
            found += [child.pid for child in process.children(recursive=True)]
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill the processes at once, so that they cannot act on a signal, and wait for their end.

    Raises:
        UnavailableError: some are still there afterwards.
    """
    _kill([p for pid in pids if (p := _process(pid)) is not None])


def end_marked(variable: str, value: str, *, grace: float) -> int:
    """End every process that `marked` finds, and return how many there were; see `end`.

    Raises:
        UnavailableError: some are still there afterwards.
    """
    return end(marked(variable, value), grace=grace)


def end(pids: Iterable[int], *, grace: float) -> int:
    """End the processes, and return how many there were.

    They get `grace` seconds after SIGTERM, then SIGKILL.

    Raises:
        UnavailableError: some are still there afterwards.
    """
    import psutil

    processes = [p for pid in pids if (p := _process(pid)) is not None]
    for process in processes:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    _kill(alive)
    return len(processes)


def _kill(processes: "Collection[psutil.Process]") -> None:
    import psutil

    for process in processes:
        _quietly(process.kill)
    _, alive = psutil.wait_procs(processes, timeout=5)
    if alive:
        raise UnavailableError(
            f"could not kill the processes {sorted(p.pid for p in alive)}, not even with SIGKILL; "
            "check with `ps` what they wait for"
        )


def _process(pid: int) -> "psutil.Process | None":
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _quietly(action: Callable[[], None]) -> None:
    import psutil

    try:
        action()
    except psutil.Error:
        return


def describe(pid: int) -> str:
    """Return the process's id and command, for a message."""
    import psutil

    try:
        words = " ".join(psutil.Process(pid).cmdline())
    except (psutil.Error, OSError):
        words = ""
    shown = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
    return f"process {pid}" + (f" ({shown})" if shown else "")


def identity(pid: int) -> str | None:
    """Return a word that this process has and no other process ever has, or None if it is gone.

    Its parts are the machine, the process id and the moment of the start.
    """
    if (birth := _birth(pid)) is None:
        return None
    return f"{machine()}.{pid}.{birth}"


def is_gone(word: str) -> bool:
    """Say whether the process whose `identity` this is has ended. False for other machines'."""
    where, _, rest = word.partition(".")
    pid = rest.partition(".")[0]
    return where == machine() and pid.isdigit() and identity(int(pid)) != word


@cache
def machine() -> str:
    """Return 12 characters that tell this machine or container from others, across its restarts."""
    try:
        known = Path("/etc/machine-id").read_text().strip()
    except OSError:
        known = ""
    return hashlib.sha256(f"{socket.gethostname()} {known}".encode()).hexdigest()[:12]


def sockets_prefix() -> str:
    """Return how folders in /tmp are called whose sockets belong to code servers of this machine.

    Runs name the socket of the code server that executes them: so it is known on which machine.
    """
    return f"mlops-ui-{machine()}-"


def _birth(pid: int) -> str | None:
    """Return when the process started, None of one that is gone or a zombie.

    On Linux in ticks since the machine's start, with the identity of that start: clocks that
    somebody sets change neither.
    """
    import psutil

    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        if boot.exists():
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if state in "ZX" else f"{boot.read_text()[:8]}-{fields[18]}"
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return f"{process.create_time():.0f}" if alive else None
    except (psutil.Error, OSError):
        return None
