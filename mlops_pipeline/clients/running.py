"""Running processes: found by their id or a mark in their environment, and stopped."""

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
"""Maximum number of characters of a command line in a message."""


def exists(pid: int) -> bool:
    """Say whether a process with this id exists, of any user."""
    import psutil

    return psutil.pid_exists(pid)


def marked(variable: str, value: str) -> list[int]:
    """Return the ids of this user's processes with `variable` = `value` in their environment.

    Processes inherit the mark from their parent, so this finds a whole tree, even if its root has
    ended. It never includes this process.
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
    """Return an environment variable of the process at its start; None if either is missing."""
    import psutil

    try:
        return psutil.Process(pid).environ().get(name)
    except (psutil.Error, OSError):
        return None


def commanded(words: Collection[str]) -> list[int]:
    """Return the ids of this user's processes whose command line has all these arguments."""
    return _with_arguments(lambda arguments: set(words) <= set(arguments))


def started_as(program: str, word: str) -> list[int]:
    """Return the ids of this user's processes of a program, in any folder, with this argument.

    The program may be a script: its interpreter's argument.
    """
    return _with_arguments(
        lambda arguments: word in arguments and program in {Path(a).name for a in arguments}
    )


def _with_arguments(matches: Callable[[Collection[str]], bool]) -> list[int]:
    import psutil

    return [
        process.pid
        for process in psutil.process_iter(["uids", "cmdline"])
        if process.info["uids"] is not None
        and process.info["uids"].real == os.getuid()
        and process.pid != os.getpid()
        and matches(process.info["cmdline"] or ())
    ]


def has_open(pid: int, file: Path) -> bool:
    """Say whether the process has opened this file, under whatever path."""
    import psutil

    try:
        paths = [found.path for found in psutil.Process(pid).open_files()]
    except (psutil.Error, OSError):
        return False
    return str(file.resolve()) in paths


def with_descendants(pids: Iterable[int]) -> list[int]:
    """Return these processes and all their descendants that still exist."""
    import psutil

    found: list[int] = []
    for process in filter(None, map(_process, pids)):
        found.append(process.pid)
        with suppress(psutil.Error):
            found += [child.pid for child in process.children(recursive=True)]
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill the processes at once, so that they cannot handle a signal, and wait for their end.

    Raises:
        UnavailableError: some still exist afterwards.
    """
    _kill([p for pid in pids if (p := _process(pid)) is not None])


def end_marked(variable: str, value: str, *, grace: float) -> int:
    """Stop every process that `marked` finds, and return their number; see `end`.

    Raises:
        UnavailableError: some still exist afterwards.
    """
    return end(marked(variable, value), grace=grace)


def end(pids: Iterable[int], *, grace: float) -> int:
    """Stop the processes, and return their number.

    They get `grace` seconds after SIGTERM, then SIGKILL.

    Raises:
        UnavailableError: some still exist afterwards.
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
    """Return a unique identity of this process, or None if it has ended.

    Its parts are the machine, the process id and the moment of the start.
    """
    if (birth := _birth(pid)) is None:
        return None
    return f"{machine()}.{pid}.{birth}"


def is_gone(word: str) -> bool:
    """Say whether the process with this `identity` has ended. False for other machines."""
    where, _, rest = word.partition(".")
    pid = rest.partition(".")[0]
    return where == machine() and pid.isdigit() and identity(int(pid)) != word


@cache
def machine() -> str:
    """Return 12 characters that identify this machine or container, also after a restart."""
    try:
        known = Path("/etc/machine-id").read_text().strip()
    except OSError:
        known = ""
    return hashlib.sha256(f"{socket.gethostname()} {known}".encode()).hexdigest()[:12]


def sockets_prefix() -> str:
    """Return the prefix of the folders in /tmp with the sockets of this machine's code servers.

    Runs name the socket of their code server, which identifies the machine.
    """
    return f"mlops-ui-{machine()}-"


def _birth(pid: int) -> str | None:
    """Return when the process started; None if it has ended or is a zombie.

    On Linux: ticks since the machine's start, with the identity of that start. Changing the clock
    affects neither.
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
