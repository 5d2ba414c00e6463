"""The bounded folder of files that wait to be uploaded. One thread writes; nothing here is shared.

A file that is being written has another name (`format.OPEN`), and the writer holds a lock on it, so
that whoever uploads can tell it from one that a killed server left behind.
"""

import contextlib
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
MOST_FILES = 10_000
"""Files of one model that wait; no further one is begun."""
SCAN_SECONDS = 10.0
"""Seconds between two looks at what other servers of the model have written, and at uploads."""
_SCAN_SECONDS_IF_FULL = 1.0
_PATIENT = 4
"""Files that may wait before the next ones are written for longer: a batch time more for each
further four, so that their number grows only with the square root of the time."""
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
        self._scanned = float("-inf")
        self._bytes = self._files = 0
        """Of all files of the model when they were counted, and what was written since."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines as one compressed batch; complete the file if it is large enough.

        Raises:
            SpoolFull: the lines were not written.
            OSError: likewise; the disk is full, or the folder cannot be written.
        """
        batch = gzip.compress(b"".join(lines), _LEVEL, mtime=0)
        if not self._has_room(len(batch)):
            raise SpoolFull
        file = self._open() if self._file is None else self._file
        try:
            _write(file, batch)
        except OSError:
            self._cut(file)
            raise
        self._written += len(batch)
        self._bytes += len(batch)
        with contextlib.suppress(OSError):  # The lines are written, and whoever uploads finds them.
            self.complete_if_due()

    def complete_if_due(self) -> None:
        """Complete the file if it is old or large enough, or if the day is over."""
        if self._file is None:
            return
        age = self._now() - self._opened
        is_of_today = self._path.parent.name == _day(self._now())
        if age >= self._batch_seconds:
            self._scan(every=SCAN_SECONDS)
        is_old = age >= self._batch_seconds * max(1, self._files // _PATIENT)
        if is_old or self._written >= MOST_BYTES or not is_of_today:
            self.complete()

    def complete(self) -> None:
        """Give the file its final name, from which on it can be uploaded."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if self._written:
                os.rename(self._path, self._path.with_suffix(""))
            else:
                os.unlink(self._path)
        finally:
            os.close(file)

    def _has_room(self, size: int) -> bool:
        """Say whether a batch fits; the files are counted if that was long ago."""
        for every in (SCAN_SECONDS, _SCAN_SECONDS_IF_FULL):
            self._scan(every=every)
            has_place = self._file is not None or self._files < MOST_FILES
            if has_place and self._bytes + size <= self._most_bytes:
                return True
        return False

    def _scan(self, *, every: float) -> None:
        """Count all files that wait, also those of other servers, unless that was just done."""
        if 0 <= self._now() - self._scanned < every:
            return
        sizes = [_size(path) for path in self._folder.glob("*/*")]
        self._bytes, self._files, self._scanned = sum(sizes), len(sizes), self._now()

    def _cut(self, file: int) -> None:
        """Remove what was written of a batch; if that fails, what follows gets another file."""
        try:
            os.ftruncate(file, self._written)
            os.lseek(file, self._written, os.SEEK_SET)
        except OSError:
            with contextlib.suppress(OSError):
                self.complete()

    def _open(self) -> int:
        """Begin a file. It gets a name that others look for only once it is locked."""
        now = self._now()
        folder = self._folder / _day(now)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stem = f"{datetime.fromtimestamp(now, UTC):%H%M%S}-{secrets.token_hex(6)}"
        hidden, path = folder / f".{stem}", folder / f"{stem}{SUFFIX}{OPEN}"
        file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.rename(hidden, path)
        except OSError:
            os.close(file)
            raise
        self._file, self._path = file, path
        self._opened, self._written = now, 0
        self._files += 1
        return file


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
