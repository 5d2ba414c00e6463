"""SQLite databases: who holds a lock on one, and whether it is damaged."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mlops_pipeline.clients.running import describe

_LOCKS = Path("/proc/locks")


def lockers(databases: Iterable[Path]) -> list[int]:
    """Return the ids of other processes that hold a write lock on one of the databases.

    Empty on operating systems other than Linux, which do not provide this.
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


def describe_damage(database: Path) -> str | None:
    """Return why a database cannot be read or written, or None.

    Reads all of it. A missing or locked database is not damaged.
    """
    if not database.exists():
        return None
    if not database.is_file():
        return "it is a folder"
    if not os.access(database, os.R_OK | os.W_OK):
        return "this user lacks read or write permission"
    address = f"file:{quote(str(database))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if said == "ok" else said


def describe_holders(databases: Iterable[Path]) -> str:
    """Return the processes that lock one of the databases, for a message."""
    return " and ".join(map(describe, lockers(databases))) or "another process"
