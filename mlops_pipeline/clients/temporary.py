"""Temporary folders that are deleted soon after their process ends, even if it is killed."""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

_PREFIX = "mlops-pipeline-tmp-"
_NAMED = re.compile(rf"[^\s'\"`]*/{_PREFIX}[\w-]+")


def temporary_folder(purpose: str, *, within: Path | None = None) -> AbstractContextManager[Path]:
    """Make an empty, private folder for a `with` block, in `within` or in the default place.

    The folder is locked while its process lives. Folders of killed processes in the same place are
    deleted first.

    Raises:
        OSError: it cannot be made.
    """
    place = within or Path(tempfile.gettempdir())
    _remove_abandoned(place)
    return _held(*_made(place, f"{_PREFIX}{purpose}-"))


@contextmanager
def _held(folder: Path, descriptor: int) -> Iterator[Path]:
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def without_temporary(text: str) -> str:
    """Return a text without the names of temporary folders, which differ each time."""
    return _NAMED.sub("…", text)


def is_temporary(path: Path) -> bool:
    """Say whether `temporary_folder` created this folder, for any process."""
    return path.name.startswith(_PREFIX)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and lock it; retry if another process deleted it as abandoned meanwhile."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=place, prefix=prefix))
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(
            OSError
        ):  # Some network file systems cannot lock folders: these are never deleted.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
