"""A file of state with a copy beside it: damage of the one loses nothing, and is named."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from mlops_pipeline.clients.files import PRIVATE, write_atomically, writing

Content = TypeVar("Content")
_DAMAGED = (OSError, ValueError, TypeError)


class KeptFile(Generic[Content]):
    """`path`, and `.<name>.copy` beside it. `parse` raises ValueError or TypeError."""

    def __init__(self, path: Path, parse: Callable[[str], Content]) -> None:
        self._path = path
        self._copy = path.with_name(f".{path.name}.copy")
        self._parse = parse

    def find(self) -> Content | None:
        """Return the content, of the copy where the file is damaged; None where there is none."""
        if not self.exists():
            return None
        for path in (self._path, self._copy):
            with suppress(*_DAMAGED):
                return self._parse(path.read_text())
        return None

    def exists(self) -> bool:
        """Say whether something is at the path, whole or damaged."""
        return self._has(self._path)

    def describe_damage(self) -> str | None:
        """Say what is wrong with the file or its copy and what `up` will do; None: nothing is."""
        if not self.exists():
            return None
        if (reason := self._fault(self._path)) is not None:
            cure = "sets it aside" if self.find() is None else "writes it again from its copy"
            return f"{self._path} is damaged ({reason}); `mlops-pipeline up` {cure}"
        if self._has(self._copy) and (reason := self._fault(self._copy)) is not None:
            return f"{self._copy} is damaged ({reason}); `mlops-pipeline up` writes it again"
        return None

    def write(self, text: str) -> None:
        """Replace the file, then its copy, each in one step.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        for path in (self._path, self._copy):
            if path.is_dir():
                self._set_aside(path)
            write_atomically(path, text, mode=PRIVATE)

    def mend(self) -> None:
        """Make file and copy whole, each from the other; without either, set the file aside."""
        if not self.exists():
            return
        whole = [path for path in (self._path, self._copy) if self._fault(path) is None]
        if not whole:
            self._set_aside(self._path)
        elif len(whole) == 1:
            self.write(whole[0].read_text())

    def remove(self) -> None:
        """Remove the file and its copy; nothing happens where there is none.

        Raises:
            ConfigurationError: one cannot be removed.
        """
        for path in (self._path, self._copy):
            if path.is_dir():
                self._set_aside(path)
            with writing(path):
                path.unlink(missing_ok=True)

    def _fault(self, path: Path) -> str | None:
        try:
            self._parse(path.read_text())
        except _DAMAGED as error:
            return str(error.strerror if isinstance(error, OSError) else error)
        return None

    @staticmethod
    def _has(path: Path) -> bool:
        return path.exists() or path.is_symlink()

    def _set_aside(self, path: Path) -> None:
        with writing(path):
            path.rename(path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}"))
