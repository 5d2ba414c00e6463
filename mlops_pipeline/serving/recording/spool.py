"""The bounded folder of files that wait to be uploaded. One thread writes; nothing here is shared.

A file that is being written has another name (`format.OPEN`), and the writer holds a lock on it, so
that whoever uploads can tell it from one that a killed server left behind.
"""

import fcntl
import gzip
import os
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mlops_pipeline.serving.recording.format import OPEN, SUFFIX

MOST_BYTES = 4 << 20
"""Compressed bytes after which a file is complete."""
_LEVEL = 1
"""Of gzip: higher ones take several times longer for a tenth less."""
_PRIVATE = 0o600


class SpoolFull(Exception):
    """The files that wait take all the room."""


class Spool:
    """Appends lines to files below `folder`, which is one model's part of the spool."""

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int,
        batch_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """The files of all servers of the model together take at most about `most_bytes`."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._batch_seconds = batch_seconds
        self._now = now
        self._file: int | None = None
        self._path = folder
        self._opened = 0.0
        self._written = 0

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines as one compressed batch; complete the file if it is large enough.

        Raises:
            SpoolFull: the lines were not written.
            OSError: likewise; the disk is full, or the folder cannot be written.
        """
        batch = gzip.compress(b"".join(lines), _LEVEL, mtime=0)
        if self.size() + len(batch) > self._most_bytes:
            raise SpoolFull
        try:
            _write(self._open() if self._file is None else self._file, batch)
        except OSError:
            self.complete()  # A part of it may be there: what follows gets a file of its own.
            raise
        self._written += len(batch)
        self.complete_if_due()

    def complete_if_due(self) -> None:
        """Complete the file if it is old or large enough, or if the day is over."""
        if self._file is None:
            return
        age = self._now() - self._opened
        is_of_today = self._path.parent.name == _day(self._now())
        if age >= self._batch_seconds or self._written >= MOST_BYTES or not is_of_today:
            self.complete()

    def complete(self) -> None:
        """Give the file its final name, from which on it can be uploaded."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.rename(self._path, self._path.with_suffix(""))
        finally:
            os.close(file)

    def size(self) -> int:
        """Return the bytes of all files that wait, also of other servers of this model."""
        return sum(_size(path) for path in self._folder.glob("*/*"))

    def _open(self) -> int:
        now = self._now()
        folder = self._folder / _day(now)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stem = f"{datetime.fromtimestamp(now, UTC):%H%M%S}-{secrets.token_hex(6)}"
        self._path = folder / f"{stem}{SUFFIX}{OPEN}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._opened, self._written = now, 0
        return self._file


def _day(now: float) -> str:
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # It was uploaded meanwhile.
        return 0


def _write(file: int, content: bytes) -> None:
    """Write all bytes.

    Raises:
        OSError: there is no room.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
