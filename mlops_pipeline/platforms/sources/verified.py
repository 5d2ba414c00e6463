"""Which files were compared with their digests: once per process, or once for all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.files import sha256_of, write_atomically


class Verified:
    """Remembers comparisons during this process.

    A file is compared again if its size or time has changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def difference(self, path: Path, sha256: str) -> str:
        """Return the file's digest if it differs from `sha256`; empty if it is equal.

        Raises:
            OSError: it cannot be read.
        """
        seen = path.stat()
        now = [seen.st_size, seen.st_mtime_ns, sha256]
        if self._remembered().get(str(path)) == now:
            return ""
        found = sha256_of(path)
        if found != sha256:
            return found
        self._remember({str(path): now})
        return ""

    def _remembered(self) -> dict[str, Any]:
        return self._known

    def _remember(self, new: dict[str, Any]) -> None:
        self._known |= new


class VerifiedOnce(Verified):
    """Remembers comparisons in a file, so that not every command reads gigabytes again.

    Nothing is written before `ready` says that the file's folder is ours.
    """

    def __init__(self, memory: Path, *, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._memory = memory
        self._ready = ready

    def _remembered(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._memory.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _remember(self, new: dict[str, Any]) -> None:
        if self._ready():
            write_atomically(self._memory, json.dumps(self._remembered() | new, indent=1))
