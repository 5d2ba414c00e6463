"""Artifacts on disk: what the init container of a cluster downloads, once for each modelUri."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import PRIVATE, write_atomically
from mlops_pipeline.clients.temporary import is_temporary, temporary_folder
from mlops_pipeline.platforms.signing import Signing, find_signature, split
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    describe_excess,
    hash_files,
    parse_manifest,
    signed_files,
    verify,
    with_links,
)
from mlops_pipeline.serving.signing.errors import Problem, SignatureError
from mlops_pipeline.serving.signing.policy import read_signature
from mlops_pipeline.serving.signing.statement import SIGNATURE

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects

_log = logging.getLogger(__name__)
_ENDPOINT = "RCLONE_CONFIG_S3_ENDPOINT"
_KEYS = {
    _ENDPOINT,
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
        is_ours: Callable[[str], bool] = lambda _: False,
        connect: "Callable[..., Objects] | None" = None,
        most_bytes: int = MOST_BYTES,
        signing: Signing | None = None,
    ) -> None:
        """`is_ours` says whether the platform's own object store has an address.

        Artifacts of more than `most_bytes` are refused. With `signing`, the signature of one that
        is here already is read again where it does not count: it may have been signed since.
        """
        self._signing = signing
        self._most_bytes = most_bytes
        self._folder = folder
        self._secrets = secrets
        self._is_ours = is_ours
        self._connect = connect or _connect

    def path(self, uri: str) -> Path:
        """Return where the artifact is, or would be."""
        return self._folder / hashlib.sha256(uri.encode()).hexdigest()[:24]

    def fetch(self, uri: str, *, namespace: str, secret: str) -> Path:
        """Return the folder with every object below `uri`, downloading it when it is not whole.

        Raises:
            NotFoundError: no such secret or bucket, or nothing below the prefix.
            ConfigurationError: the secret lacks keys, the artifact is too large, or the disk is
                full.
            IntegrityError: an object's key leads out of the folder.
            UnavailableError: the store did not answer.
        """
        path, keys_to_store = self.path(uri), self._read_secret(namespace, secret)
        if path.exists():
            if _is_whole(path) and not self._is_outdated(path, uri, keys_to_store):
                return path
            self.discard(path)
        store = self._store(keys_to_store)
        bucket, prefix = split(uri)
        sizes = store.sizes(bucket, prefix)
        keys = sorted(sizes)
        if not keys:
            raise NotFoundError(f"found no objects below {uri}; check whether the artifact exists")
        total = sum(sizes.values())
        if reason := describe_excess(total, self._folder, most=self._most_bytes):
            raise ConfigurationError(f"could not download {uri} to {self._folder}: {reason}")
        with self._temporary(uri) as temporary:
            for key in keys:
                file = _inside(temporary, key.removeprefix(prefix), uri)
                store.download(bucket, key, file)
                file.chmod(PRIVATE)
            _move(temporary, path)
        return path

    def _store(self, keys: dict[str, str]) -> "Objects":
        return self._connect(keys, is_ours=self._is_ours(keys[_ENDPOINT]))

    def _problem(self, path: Path) -> Problem | None:
        """Return why the signature of a whole folder does not count; None if nobody looks."""
        if self._signing is None or self._signing.is_off:
            return None
        if (path / MANIFEST).exists():
            content = (path / MANIFEST).read_bytes()
            files = signed_files(parse_manifest(content), content)
        else:
            files = hash_files(path)
        files = with_links(files, path)
        try:
            self._signing.inspect(files, read_signature(path), what=str(path))
        except SignatureError as error:
            return error.problem
        return None

    def _is_outdated(self, path: Path, uri: str, keys: dict[str, str]) -> bool:
        """Read a signature that does not count again; say whether it is of other files now.

        One that counts stays, and of others the server says what is wrong.

        Raises:
            UnavailableError: the store did not answer, and signatures are required.
        """
        if self._problem(path) is None:
            return False
        try:
            found = find_signature(self._store(keys), uri)
        except UnavailableError as error:
            if self._signing is None or self._signing.is_required:
                raise
            _log.warning("could not read the signature of %s again: %s", uri, error)
            return False
        if found is None:
            return False
        write_atomically(path / SIGNATURE, found, mode=PRIVATE)
        return self._problem(path) is Problem.ALTERED

    def discard(self, folder: Path) -> None:
        """Remove an artifact, so that it is downloaded again when it is wanted."""
        shutil.rmtree(folder, ignore_errors=True)

    def all(self) -> set[Path]:
        """Return the folders of artifacts, without those that are being downloaded."""
        return {path for path in self._folder.iterdir() if not is_temporary(path)}

    def _temporary(self, uri: str) -> AbstractContextManager[Path]:
        try:
            return temporary_folder("download", within=self._folder)
        except OSError as error:
            raise ConfigurationError(
                f"could not download {uri} to {self._folder}: {error.strerror or error}; "
                "free disk space or set MLOPS_HOME to another folder"
            ) from error

    def _read_secret(self, namespace: str, secret: str) -> dict[str, str]:
        path = self._secrets / namespace / f"{secret}.json"
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"the secret {secret} does not exist in the namespace {namespace} ({path}); "
                "change envSecretRefName, or run `mlops-pipeline up object_store`"
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"could not read the secret {path}: {error}") from error
        if not isinstance(content, dict):
            raise ConfigurationError(f"expected a JSON object in the secret {path}; write it again")
        if missing := sorted(_KEYS - set(content)):
            raise ConfigurationError(f"the secret {path} lacks {', '.join(missing)}")
        return {str(key): str(value) for key, value in content.items()}


def _connect(secret: dict[str, str], *, is_ours: bool) -> "Objects":
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

    keys = Credentials(
        secret["RCLONE_CONFIG_S3_ACCESS_KEY_ID"], secret["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"]
    )
    return ObjectStore(secret[_ENDPOINT], keys, is_ours=is_ours)


def _inside(folder: Path, key: str, uri: str) -> Path:
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise IntegrityError(f"the object {key!r} below {uri} would be written outside its folder")
    return folder.joinpath(*parts)


def _is_whole(path: Path) -> bool:
    """Say whether the artifact is what its manifest says; without one there is nothing to ask."""
    if not (path / MANIFEST).exists():
        return True
    try:
        verify(path)
    except (ArtifactError, OSError):
        return False
    return True


def _move(temporary: Path, path: Path) -> None:
    """Rename, unless another process has been faster."""
    try:
        temporary.rename(path)
    except OSError:
        if not path.exists():
            raise
