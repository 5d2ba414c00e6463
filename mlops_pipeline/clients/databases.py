"""SQLite databases that other processes hold a lock on."""

import os
from collections.abc import Iterable
from pathlib import Path

from mlops_pipeline.clients.running import describe

_LOCKS = Path("/proc/locks")


def lockers(databases: Iterable[Path]) -> list[int]:
    """Return the ids of other processes that hold a lock for writing on one of the databases.

    Empty where the operating system does not tell: only Linux does.
    """
    inodes = {
        file.stat().st_ino
        for database in databases
        for file in (database, database.with_name(f"{database.name}-shm"))
        if file.exists()
    }
    return sorted({pid for pid, inode in _write_locks() if inode in inodes} - {os.getpid()})


def _write_locks() -> Iterable[tuple[int, int]]:
    """Yield (process id, inode); see proc_locks(5)."""
    if not _LOCKS.exists():
        return
    for line in _LOCKS.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 6 and "WRITE" in fields and fields[1] != "->":
            at = fields.index("WRITE")
            yield int(fields[at + 1]), int(fields[at + 2].rpartition(":")[2])


def describe_holders(databases: Iterable[Path]) -> str:
    """Return who holds one of the databases, for a message."""
    return " and ".join(map(describe, lockers(databases))) or "another process"
