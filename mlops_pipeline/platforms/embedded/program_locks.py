"""The locks of supervised programs: what runs, and in which process. See `clients/launcher.py`."""

from collections.abc import Collection
from pathlib import Path

from mlops_pipeline.clients import launcher, running
from mlops_pipeline.clients.files import discard
from mlops_pipeline.platforms.embedded.programs import FINGERPRINT


class ProgramLocks:
    """`<folder>/<program>.lock`, held by the process that is the program. Asking raises nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Return the program's lock, which need not exist."""
        return self._folder / f"{name}.lock"

    def holder(self, name: str) -> int | None:
        """Return the id of the process that is the program now, or None."""
        return launcher.holder(self.path(name))

    def holders(self) -> dict[str, int]:
        """Return the process of each program that runs, whatever supervisord knows of it."""
        found = {lock.stem: launcher.holder(lock) for lock in self._folder.glob("*.lock")}
        return {name: pid for name, pid in found.items() if pid is not None}

    def fingerprint(self, name: str) -> str | None:
        """Return the digest of the configuration that the running program was started with."""
        pid = self.holder(name)
        return running.variable(pid, FINGERPRINT) if pid else None

    def remove(self, names: Collection[str]) -> None:
        """Remove the locks of programs that have ended."""
        for name in names:
            discard(self.path(name))

    def make_way(self, name: str) -> None:
        """Set aside a folder in the place of the program's lock."""
        if self.path(name).is_dir():
            discard(self.path(name))
