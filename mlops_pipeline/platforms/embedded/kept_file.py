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
        return self._path.exists() or self._path.is_symlink()

    def describe_damage(self) -> str | None:
        """Say what is wrong with the file and what `up` will do; None where nothing is."""
        if not self.exists():
            return None
        try:
            self._parse(self._path.read_text())
        except _DAMAGED as error:
            reason = error.strerror if isinstance(error, OSError) else error
            cure = "writes it again from its copy" if self.find() is not None else "sets it aside"
            return f"{self._path} is damaged ({reason}); `mlops-pipeline up` {cure}"
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
        """Write a damaged file again from its copy; without one, set it aside for people."""
        if self.describe_damage() is None:
            return
        try:
            text = self._copy.read_text()
            self._parse(text)
        except _DAMAGED:
            self._set_aside(self._path)
        else:
            self.write(text)

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

    def _set_aside(self, path: Path) -> None:
        with writing(path):
            path.rename(path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}"))
