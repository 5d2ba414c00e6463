"""A state file with a copy beside it: damage of one of them loses nothing and is reported."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from mlops_pipeline.clients.files import PRIVATE, discard, set_aside, write_atomically, writing

Content = TypeVar("Content")
_COPY = ".copy"
_DAMAGED = (OSError, ValueError, TypeError)


def kept_paths(folder: Path, pattern: str) -> list[Path]:
    """Return the sorted paths of kept files, including those with only a copy left."""
    above, _, name = pattern.rpartition("/")
    copies = folder.glob(f"{above}/.{name}{_COPY}" if above else f".{name}{_COPY}")
    kept = {copy.with_name(copy.name.removeprefix(".").removesuffix(_COPY)) for copy in copies}
    return sorted({*folder.glob(pattern), *kept})


class KeptFile(Generic[Content]):
    """`path`, and `.<name>.copy` beside it. `parse` raises ValueError or TypeError."""

    def __init__(self, path: Path, parse: Callable[[str], Content]) -> None:
        self._path = path
        self._copy = path.with_name(f".{path.name}{_COPY}")
        self._parse = parse

    def find(self) -> Content | None:
        """Return the content, from the copy if the file is damaged or lost; None if both are."""
        for path in (self._path, self._copy):
            with suppress(*_DAMAGED):
                return self._parse(path.read_text())
        return None

    def exists(self) -> bool:
        """Say whether the file or its copy exists, undamaged or not."""
        return self._has(self._path) or self._has(self._copy)

    def describe_damage(self) -> str | None:
        """Say what is wrong with the file or its copy and what `up` will do; None if nothing is."""
        if not self.exists():
            return None
        # A writer may remove both during the reading: observers do not wait for its lock.
        if (reason := self._fault(self._path)) is not None and self.exists():
            cure = "moves it aside" if self.find() is None else "writes it again from its copy"
            return f"{self._path} is damaged ({reason}); `mlops-pipeline up` {cure}"
        if (reason := self._fault(self._copy)) is not None and self._has(self._copy):
            return f"{self._copy} is damaged ({reason}); `mlops-pipeline up` writes it again"
        return None

    def write(self, text: str) -> None:
        """Replace the file, then its copy, each atomically.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        for path in (self._path, self._copy):
            write_atomically(path, text, mode=PRIVATE)

    def repair(self) -> None:
        """Repair the file or its copy from the other one; if both are lost, move the file aside.

        The caller holds the lock of those who write it.
        """
        if not self.exists():
            return
        whole = [path for path in (self._path, self._copy) if self._fault(path) is None]
        if not whole:
            for path in filter(self._has, (self._path, self._copy)):
                with writing(path):
                    set_aside(path)
        elif len(whole) == 1:
            self.write(whole[0].read_text())

    def remove(self) -> None:
        """Remove the file and its copy, if they exist.

        Raises:
            ConfigurationError: one cannot be removed.
        """
        # The copy first: a copy without its file would mean that the file was lost.
        for path in (self._copy, self._path):
            discard(path)

    def _fault(self, path: Path) -> str | None:
        try:
            self._parse(path.read_text())
        except _DAMAGED as error:
            return str(error.strerror if isinstance(error, OSError) else error)
        return None

    @staticmethod
    def _has(path: Path) -> bool:
        return path.exists() or path.is_symlink()
