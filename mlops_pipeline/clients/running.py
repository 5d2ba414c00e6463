"""Processes that run already: found by their id or a mark in their environment, and ended."""

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import UnavailableError

if TYPE_CHECKING:
    import psutil


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
            f"could not end the processes {sorted(p.pid for p in alive)}, not even with SIGKILL; "
            "see `ps` for what they wait for"
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
