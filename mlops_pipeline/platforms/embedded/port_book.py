"""Which port is whose: remembered in the state folder, so that addresses stay."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import PRIVATE, write_atomically


class PortBook:
    """Owner → port, in the JSON file `path`. Writers hold the platform's `state` lock."""

    def __init__(
        self,
        path: Path,
        *,
        first_free: Callable[..., int] = ports.first_free,
        is_free: Callable[[int], bool] = ports.is_free,
    ) -> None:
        self._path = path
        self._first_free = first_free
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
        given[owner] = self._first_free(preferred, besides=taken)
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

    def _read(self) -> dict[str, int]:
        try:
            return {str(k): int(v) for k, v in json.loads(self._path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"{self._path} is not the book of ports that it was ({error}); "
                "run `mlops-pipeline down`, remove the file, and bring the platform up again"
            ) from error

    def _write(self, given: dict[str, int]) -> None:
        write_atomically(self._path, json.dumps(given, indent=2, sort_keys=True), mode=PRIVATE)
