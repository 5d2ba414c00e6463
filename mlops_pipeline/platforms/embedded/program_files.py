"""The configuration files of supervised programs, one for each, with a copy beside it.

supervisord reads all of them or none: one damaged file would keep every program from being started
or changed.
"""

from functools import partial
from pathlib import Path

from mlops_pipeline.platforms.embedded.kept_file import KeptFile, kept_paths
from mlops_pipeline.platforms.embedded.programs import parse_rendered


class ProgramFiles:
    """`<folder>/<program>.conf`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of the configured programs, sorted."""
        return [path.stem for path in kept_paths(self._folder, "*.conf")]

    def has(self, name: str) -> bool:
        """Say whether the program has a file, whole or damaged."""
        return self._file(name).exists()

    def find(self, name: str) -> str | None:
        """Return the text of a program's file, of its copy where the file is damaged, or None."""
        return self._file(name).find()

    def write(self, name: str, text: str) -> None:
        """Replace a program's file.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        self._file(name).write(text)

    def remove(self, name: str) -> None:
        """Remove a program's file; nothing happens where there is none."""
        self._file(name).remove()

    def damages(self) -> tuple[str, ...]:
        """Say what is wrong with each damaged file, and what `up` will do."""
        found = (self._file(name).describe_damage() for name in self.names())
        return tuple(damage for damage in found if damage)

    def repair(self) -> None:
        """Write damaged files again from their copies; set aside those that have none.

        The layer or deployment that a file set aside belongs to writes it anew. The caller holds
        the `state` lock.
        """
        for name in self.names():
            self._file(name).repair()

    def _file(self, name: str) -> KeptFile[str]:
        return KeptFile(self._folder / f"{name}.conf", partial(parse_rendered, name=name))
