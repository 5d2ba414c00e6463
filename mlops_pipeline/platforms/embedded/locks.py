"""One at a time, also between processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.files import PRIVATE, write_atomically


class Locks:
    """Named locks that are files in `folder`. A process that dies lets go of its own."""

    def __init__(self, folder: Path, *, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout

    @contextmanager
    def held(self, name: str, *, purpose: str) -> Iterator[None]:
        """Hold the lock `name`; `purpose` tells others what it is held for.

        Raises:
            UnavailableError: another process did not let go of it in time; names it.
        """
        from filelock import FileLock, Timeout

        holder = self._folder / f"{name}.holder"
        lock = FileLock(self._folder / f"{name}.lock", timeout=self._timeout, mode=PRIVATE)
        try:
            lock.acquire()
        except Timeout as error:
            raise UnavailableError(
                f"could not {purpose}: {_read(holder)} has held {lock.lock_file} for more than "
                f"{self._timeout:g} s; wait for it to end, or end it"
            ) from error
        try:
            write_atomically(holder, f"process {os.getpid()} ({purpose})", mode=PRIVATE)
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text()
    except OSError:
        return "another process"
