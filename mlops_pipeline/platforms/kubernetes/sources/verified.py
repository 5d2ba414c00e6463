"""Which files were compared with their digests: a gigabyte is not read at each command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.files import sha256_of, write_atomically


class Verified:
    """Remembers comparisons in a file, once `ready` says that its folder is ours.

    A file is compared again when its size or its time has changed.
    """

    def __init__(self, memory: Path, *, ready: Callable[[], bool]) -> None:
        self._memory = memory
        self._ready = ready

    def difference(self, path: Path, sha256: str) -> str:
        """Return the digest that the file has instead of `sha256`; empty: it is the same.

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
        if self._ready():
            known = self._remembered() | {str(path): now}
            write_atomically(self._memory, json.dumps(known, indent=1))
        return ""

    def _remembered(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._memory.read_text()))
        except (OSError, ValueError, TypeError):
            return {}
