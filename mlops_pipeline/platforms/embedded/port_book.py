"""Which port is whose: remembered in the state folder, so that addresses stay."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.platforms.embedded.kept_file import KeptFile


class PortBook:
    """Owner → port, in the JSON file `path`. Writers hold the platform's `state` lock."""

    def __init__(
        self,
        path: Path,
        *,
        is_free: Callable[[int], bool] = ports.is_free,
    ) -> None:
        self._file = KeptFile(path, _parsed)
        self._is_free = is_free

    def find(self, owner: str) -> int | None:
        """Return the port that `owner` was given, or None."""
        return self._read().get(owner)

    def choose(self, owner: str, *, preferred: int) -> int:
        """Return a free port for `owner`, which has no process on it now.

        The one that it was given before when that is still free, else the first free one from
        `preferred` on that nobody else was given.

        Raises:
            ConfigurationError: there is none.
        """
        given = self._read()
        if (before := given.get(owner)) is not None and self._is_free(before):
            return before
        taken = {port for name, port in given.items() if name != owner}
        given[owner] = ports.first_free(preferred, besides=taken, is_free=self._is_free)
        self._write(given)
        return given[owner]

    def keep_or_choose(self, owner: str, *, preferred: int, ours: Collection[int]) -> int:
        """Return the port that `owner` has a process on (it is in `ours`), else choose one.

        Raises:
            ConfigurationError: there is none.
        """
        given = self.find(owner)
        return (
            given
            if given is not None and given in ours
            else self.choose(owner, preferred=preferred)
        )

    def release(self, owners: Iterable[str]) -> None:
        """Forget the ports of `owners`."""
        gone = set(owners)
        given = self._read()
        kept = {name: port for name, port in given.items() if name not in gone}
        if kept != given:
            self._write(kept)

    def describe_damage(self) -> str | None:
        """Say what is wrong with the file; None where nothing is."""
        return self._file.describe_damage()

    def repair(self) -> None:
        """Write a damaged file again from its copy; without one, set it aside."""
        self._file.repair()

    def _read(self) -> dict[str, int]:
        return self._file.find() or {}

    def _write(self, given: dict[str, int]) -> None:
        self._file.write(json.dumps(given, indent=2, sort_keys=True))


def _parsed(text: str) -> dict[str, int]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise TypeError(f"expected a JSON object of ports, got {type(content).__name__}")
    if not content:
        raise ValueError("it contains no ports")
    return {str(owner): int(port) for owner, port in content.items()}
