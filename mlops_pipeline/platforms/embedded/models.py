"""Artifacts on disk: what the init container of a cluster downloads, once for each modelUri."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
)

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore

_OLD = 3600.0
"""Seconds after which a download that no server uses was left behind by a killed process."""
_KEYS = {
    "RCLONE_CONFIG_S3_ENDPOINT",
    "RCLONE_CONFIG_S3_ACCESS_KEY_ID",
    "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY",
}


class ModelFolders:
    """Folders below `folder`, each named by a digest of its modelUri and never changed."""

    def __init__(
        self,
        folder: Path,
        secrets: Path,
        *,
        connect: "Callable[[dict[str, str]], ObjectStore] | None" = None,
    ) -> None:
        self._folder = folder
        self._secrets = secrets
        self._connect = connect or _connect

    def path(self, uri: str) -> Path:
        """Return where the artifact is, or would be."""
        return self._folder / hashlib.sha256(uri.encode()).hexdigest()[:24]

    def fetch(self, uri: str, *, namespace: str, secret: str) -> Path:
        """Return the folder with every object below `uri`, downloading what is not there yet.

        Raises:
            NotFoundError: no such secret or bucket, or nothing below the prefix.
            ConfigurationError: the secret lacks keys, or the disk is full.
            IntegrityError: an object's key leads out of the folder.
            UnavailableError: the store did not answer.
        """
        path = self.path(uri)
        if path.exists():
            return path
        store = self._connect(self._read_secret(namespace, secret))
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        prefix = prefix.rstrip("/") + "/"
        keys = sorted(store.sizes(bucket, prefix))
        if not keys:
            raise NotFoundError(f"there is nothing below {uri}; is the artifact published?")
        temporary = Path(tempfile.mkdtemp(dir=self._folder, prefix=".download-"))
        try:
            for key in keys:
                store.download(bucket, key, _inside(temporary, key.removeprefix(prefix), uri))
            _move(temporary, path)
        except OSError as error:
            raise ConfigurationError(
                f"could not download {uri} to {self._folder}: {error.strerror or error}; "
                "free space or choose another state folder with MLOPS_HOME"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return path

    def discard(self, folder: Path) -> None:
        """Remove an artifact, so that it is downloaded again when it is wanted."""
        shutil.rmtree(folder, ignore_errors=True)

    def old(self) -> set[Path]:
        """Return the folders from more than an hour ago, broken-off downloads among them."""
        limit = time.time() - _OLD
        return {path for path in self._folder.iterdir() if path.stat().st_mtime < limit}

    def _read_secret(self, namespace: str, secret: str) -> dict[str, str]:
        path = self._secrets / namespace / f"{secret}.json"
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"the secret {secret} does not exist in the namespace {namespace} ({path}); "
                "name another as envSecretRefName, or bring the object store up"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"the secret {path} is not JSON: {error}") from error
        if missing := sorted(_KEYS - set(content)):
            raise ConfigurationError(f"the secret {path} lacks {', '.join(missing)}")
        return {str(key): str(value) for key, value in content.items()}


def _connect(secret: dict[str, str]) -> "ObjectStore":
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

    keys = Credentials(
        secret["RCLONE_CONFIG_S3_ACCESS_KEY_ID"], secret["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"]
    )
    return ObjectStore(secret["RCLONE_CONFIG_S3_ENDPOINT"], keys)


def _inside(folder: Path, key: str, uri: str) -> Path:
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise IntegrityError(f"the object {key!r} below {uri} would lie outside its folder")
    return folder.joinpath(*parts)


def _move(temporary: Path, path: Path) -> None:
    """Rename, unless another process has been faster."""
    try:
        temporary.rename(path)
    except OSError:
        if not path.exists():
            raise
