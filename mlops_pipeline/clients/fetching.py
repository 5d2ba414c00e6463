"""Fetches a model's files from `gs://`, `s3://`, `http(s)://` or this machine.

The sizes are known before a byte is downloaded, except from a web server that does not send one.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from mlops_pipeline.clients.addresses import shown
from mlops_pipeline.clients.by_products import is_by_product
from mlops_pipeline.clients.errors import (
    DAMAGES,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.clients.unpacking import MOST_FILES, is_archive, unpack
from mlops_pipeline.clients.waiting import MONOTONIC, Clock

_GOOGLE = "https://storage.googleapis.com"
_SCHEMES = ("file", "http", "https", "gs", "s3")
_MOST_PAGES = 200
"""Google's pages have 1,000 objects, and may have fewer."""
_TIMEOUT = 7200.0
"""Timeout in seconds for all files of one import."""


class Web(Protocol):
    """What is needed of `Downloads`."""

    def bring(self, url: str, target: Path, *, most_bytes: int, timeout: float = _TIMEOUT) -> None:
        """Download a file in `timeout` seconds."""

    def read(self, url: str) -> str:
        """Return a text."""


@dataclass(frozen=True)
class Fetched:
    """Files that were fetched."""

    path: Path
    """A folder, or one file that is not an archive."""
    size: int
    """Bytes that were read."""
    sha256: str
    """Of the file or archive; of a folder: of a line `SHA-256  path` for each of its files."""
    without_digest: int = 0
    """How many of the files only have the listed size, because the store has no MD5 of them."""


@dataclass(frozen=True)
class _Listed:
    """An object of Google's store."""

    size: int
    md5: str
    """Base64; empty for an object that was composed of parts, of which Google has no MD5."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches URIs. `store` makes the client of `s3://`."""

    web: Web
    store: Callable[[], Objects]
    most_bytes: int
    require_room: Callable[[int, Path], str]
    """(bytes, folder) → why they do not fit there; empty if they do."""
    clock: Clock = MONOTONIC

    def fetch(self, uri: str, folder: Path) -> Fetched:
        """Bring what `uri` names into `folder`, which is empty; archives are unpacked.

        A file or folder of this machine stays in its place.

        Raises:
            ConfigurationError: the URI is invalid, what it names is too large, or the disk is full.
            NotFoundError: nothing is there.
            IntegrityError: an archive is damaged, or an object's name leads out of the folder.
            UnavailableError: the other side did not answer.
        """
        scheme = scheme_of(uri)
        if scheme in ("", "file") or len(scheme) == 1:
            return self._unpacked(_local(uri), folder)
        if scheme in ("http", "https"):
            target = folder / "fetched" / _name_of(uri)
            self.web.bring(uri, target, most_bytes=self.most_bytes)
            return self._unpacked(target, folder)
        if scheme == "gs":
            return self._from_google(uri, folder)
        return self._from_s3(uri, folder)

    def find_in_google(self, uri: str, name: str) -> str | None:
        """Return the text of a file in a public folder `gs://`, None if the folder lacks it.

        Raises:
            ConfigurationError: the bucket is not public, or does not exist.
            UnavailableError: the other side did not answer.
        """
        bucket, prefix = _split(uri)
        key = f"{prefix}/{name}"
        if key not in self._listed(bucket, prefix, key, maxResults="1"):
            return None
        return self.web.read(f"{_GOOGLE}/{bucket}/{quote(key)}")

    def _unpacked(self, path: Path, folder: Path) -> Fetched:
        if path.is_dir():
            self._require_few(path, folder)
            return _described(path)
        if not path.is_file():
            raise NotFoundError(f"could not import {path}: it does not exist")
        size = path.stat().st_size
        if not is_archive(path.name):
            return Fetched(path, size, sha256_of(path))
        target = folder / "unpacked"
        target.mkdir()
        unpack(path, target, most_bytes=self.most_bytes)
        return Fetched(_only_folder(target), size, sha256_of(path))

    def _from_s3(self, uri: str, folder: Path) -> Fetched:
        bucket, prefix = _split(uri)
        store = self.store()
        sizes = _below(store.sizes(bucket, prefix), prefix)
        self._require_some(uri, sizes, folder)
        targets = _targets(uri, sizes, prefix, folder)
        for key, target in targets.items():
            store.download(bucket, key, target)
        return self._of_objects(targets, folder)

    def _from_google(self, uri: str, folder: Path) -> Fetched:
        """Read a public bucket by Google's JSON API, without credentials.

        https://cloud.google.com/storage/docs/json_api/v1/objects/list
        """
        deadline = self.clock.now() + _TIMEOUT
        bucket, prefix = _split(uri)
        listed = self._listed(bucket, prefix, f"{prefix}/")
        if len(listed) <= MOST_FILES:  # The first name that starts with it is the prefix itself.
            listed |= self._listed(bucket, prefix, prefix, maxResults="1")
        sizes = _below({name: found.size for name, found in listed.items()}, prefix)
        self._require_some(uri, sizes, folder)
        targets = _targets(uri, sizes, prefix, folder)
        for number, (name, target) in enumerate(targets.items()):
            if (left := deadline - self.clock.now()) <= 0:
                raise UnavailableError(
                    f"could not import {shown(uri)}: only {number} of {len(targets)} objects were "
                    f"downloaded in {_TIMEOUT:g} s; use a faster connection, or import an archive"
                )
            url, found = f"{_GOOGLE}/{bucket}/{quote(name)}", listed[name]
            self.web.bring(url, target, most_bytes=found.size, timeout=left)
            _compare(url, target, found)
        fetched = self._of_objects(targets, folder)
        return replace(fetched, without_digest=sum(not listed[name].md5 for name in targets))

    def _listed(self, bucket: str, prefix: str, begin: str, **options: str) -> dict[str, _Listed]:
        """Return each object whose name starts with `begin`; with `maxResults`, some of them."""
        found: dict[str, _Listed] = {}
        query = {"prefix": begin, "fields": "items(name,size,md5Hash),nextPageToken", **options}
        for _ in range(_MOST_PAGES):
            url = f"{_GOOGLE}/storage/v1/b/{bucket}/o?{urlencode(query)}"
            try:
                page = json.loads(self.web.read(url))
                for one in page.get("items", []):
                    listed = _Listed(int(one["size"]), str(one.get("md5Hash", "")))
                    found[str(one["name"])] = listed
                token = page.get("nextPageToken")
            except DAMAGES as error:
                raise IntegrityError(
                    f"could not read the list of gs://{bucket}/{prefix}: {error!r}"
                ) from error
            if not token or options:
                return found
            query["pageToken"] = str(token)
        raise ConfigurationError(
            f"could not import gs://{bucket}/{prefix}: its list has more than {_MOST_PAGES} pages "
            f"({len(found)} objects so far), and the maximum is {MOST_FILES} objects; give the "
            "folder that contains only the model. Nothing was downloaded"
        )

    def _require_some(self, uri: str, sizes: Mapping[str, int], folder: Path) -> None:
        if not sizes:
            raise NotFoundError(f"could not import {shown(uri)}: there are no objects below it")
        if len(sizes) > MOST_FILES:
            raise ConfigurationError(
                f"could not import {shown(uri)}: it has {len(sizes)} objects, and the maximum is "
                f"{MOST_FILES}; give the folder that contains only the model"
            )
        if reason := self.require_room(sum(sizes.values()), folder):
            raise ConfigurationError(
                f"could not import {shown(uri)}: {reason}. Nothing was downloaded"
            )

    def _require_few(self, path: Path, folder: Path) -> None:
        """Refuse a folder such as the home directory before each of its files is read."""
        count = size = 0
        for place, _, names in os.walk(path):
            count += len(names)
            size += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
            if count > MOST_FILES:
                raise ConfigurationError(
                    f"could not import {path}: it has more than {MOST_FILES} files; give the "
                    "folder that contains only the model"
                )
            if reason := self.require_room(size, folder):
                raise ConfigurationError(f"could not import {path}: {reason}")

    def _of_objects(self, targets: Mapping[str, Path], folder: Path) -> Fetched:
        """Describe downloaded objects; a single one may be an archive."""
        only = next(iter(targets.values()))
        if len(targets) == 1 and is_archive(only.name):
            return self._unpacked(only, folder)
        return _described(folder / "fetched")


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in lower case; empty or a drive's letter for a path.

    Raises:
        ConfigurationError: it cannot be fetched.
    """
    try:
        scheme = urlsplit(uri).scheme.lower()
    except ValueError as error:
        raise ConfigurationError(f"could not import {shown(uri)}: {error}") from error
    if len(scheme) < 2 or scheme in _SCHEMES:
        return scheme
    raise ConfigurationError(
        f"could not import {shown(uri)}: expected gs://, s3://, http://, https://, file:// or a "
        "path"
    )


def _local(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme.lower() != "file":
        return Path(uri).expanduser()
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError(
            f"could not import {shown(uri)}: expected file:///path, without a host"
        )
    return Path(unquote(parts.path))


def _name_of(url: str) -> str:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return name if name not in ("", ".", "..") else "model"


def _split(uri: str) -> tuple[str, str]:
    """Return the bucket and the prefix without the last `/`."""
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    if not bucket or not prefix.strip("/"):
        raise ConfigurationError(
            f"could not import {shown(uri)}: expected scheme://<bucket>/<prefix>"
        )
    return bucket, prefix.strip("/")


def _below(sizes: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Return the objects that are the prefix itself, or below it as a folder."""
    return {
        key: size
        for key, size in sizes.items()
        if not key.endswith("/") and (key == prefix or key.startswith(f"{prefix}/"))
    }


def _targets(uri: str, sizes: Mapping[str, int], prefix: str, folder: Path) -> dict[str, Path]:
    """Return object → file.

    Raises:
        IntegrityError: a name leads out of the folder, or two need the same file.
    """
    targets: dict[str, Path] = {}
    files: dict[str, str] = {}
    for key in sizes:
        path = key.removeprefix(prefix).removeprefix("/") or PurePosixPath(prefix).name
        if {"", ".", ".."} & set(path.split("/")):
            raise IntegrityError(f"could not import {shown(uri)}: {key!r} leads out of its folder")
        targets[key] = folder / "fetched" / path
        if (other := files.setdefault(path, key)) != key:
            raise IntegrityError(f"could not import {shown(uri)}: {other} and {key} are one file")
    for path, key in files.items():
        above = (str(parent) for parent in PurePosixPath(path).parents)
        if other := next((files[name] for name in above if name in files), ""):
            raise IntegrityError(
                f"could not import {shown(uri)}: {other} is a file, and {key} needs it as a folder"
            )
    return targets


def _compare(url: str, file: Path, listed: _Listed) -> None:
    """Compare a file with its listed size, and with the MD5 that the store has, if it has one."""
    if (size := file.stat().st_size) != listed.size:
        raise IntegrityError(
            f"expected {url} to have {listed.size} bytes, got {size}: it changed during the "
            "import; import it again"
        )
    with file.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).digest()
    if listed.md5 and base64.b64encode(found).decode() != listed.md5:
        raise IntegrityError(f"{url} was changed in transit: its MD5 differs; import it again")


def _only_folder(folder: Path) -> Path:
    """Return the folder in which an archive's files are, if all are in one."""
    content = [
        path for path in folder.iterdir() if not is_by_product(path.name, folder=path.is_dir())
    ]
    return content[0] if len(content) == 1 and content[0].is_dir() else folder


def _described(folder: Path) -> Fetched:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    digest = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return Fetched(folder, sum(path.stat().st_size for path in files), digest)
