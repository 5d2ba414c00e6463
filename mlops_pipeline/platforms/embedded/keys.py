"""The object store's keys: made here, known to SeaweedFS, to us and to the servers' Secrets."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.files import PRIVATE, write_atomically, write_if_changed
from mlops_pipeline.platforms.store_access import (
    SECRET,
    WRITER,
    identities,
    new_key,
    rclone_settings,
)
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials


class StoreKeys:
    """One key in `file`, as SeaweedFS reads it, and Secrets below `secrets`, as rclone does."""

    def __init__(self, file: Path, *, secrets: Path) -> None:
        self.file = file
        self._secrets = secrets

    def exist(self) -> bool:
        """Say whether there is a file, readable or not."""
        return self.file.exists()

    def make(self, *, with_writer: bool = False) -> None:
        """Make a random key, unless there is one that can be read.

        With `with_writer` make one for the log of answers too, otherwise remove it.

        Raises:
            ConfigurationError: the folder cannot be written.
        """
        try:
            key = self.read()
        except (NotFoundError, ConfigurationError):
            key = None
        if key is None or with_writer != (self.find_writer() is not None):
            writer = new_key() if with_writer else None
            text = identities(key or new_key(), writer=writer)
            write_atomically(self.file, text, mode=PRIVATE)

    def read(self) -> "Credentials":
        """Return the key.

        Raises:
            NotFoundError: there is none.
            ConfigurationError: the file was changed by somebody and holds none.
        """
        try:
            return self._identities()[0][1]
        except FileNotFoundError as error:
            raise NotFoundError(
                "the object store has no keys; run `mlops-pipeline up object_store`"
            ) from error
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ConfigurationError(
                f"{self.file} no longer contains the keys of the object store; "
                "run `mlops-pipeline up object_store` to create new ones"
            ) from error

    def find_writer(self) -> "Credentials | None":
        """Return the key that may only write answers, or None where there is none."""
        try:
            named = dict(self._identities())
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return None
        return named.get(WRITER)

    def _identities(self) -> "list[tuple[str, Credentials]]":
        from mlops_pipeline.clients.s3 import Credentials

        found = []
        for identity in json.loads(self.file.read_text())["identities"]:
            key = identity["credentials"][0]
            credentials = Credentials(str(key["accessKey"]), str(key["secretKey"]))
            found.append((str(identity.get("name", "")), credentials))
        return found

    def fingerprint(self) -> str:
        """Return a digest that changes with the key, from which the key cannot be found."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:16]

    def write_secret(self, namespace: str, *, endpoint: str) -> None:
        """Write the Secret `seldon-rclone-secret` of a namespace, as rclone reads it.

        Raises:
            NotFoundError: there is no key.
        """
        content = rclone_settings(endpoint, self.read())
        path = self._secrets / namespace / f"{SECRET}.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_if_changed(path, json.dumps(content, indent=2), mode=PRIVATE)

    def namespaces(self) -> Iterator[str]:
        """Yield every namespace that has, or should have, the Secret."""
        written = {path.parent.name for path in self._secrets.glob(f"*/{SECRET}.json")}
        yield from sorted(written | {DEFAULT_NAMESPACE})
