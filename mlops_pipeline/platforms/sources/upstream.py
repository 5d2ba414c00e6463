"""Files of `versions.toml`, downloaded to a folder and compared with their digests."""

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import IntegrityError
from mlops_pipeline.clients.files import sha256_of, write_atomically, writing
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.unpacking import unpack_file
from mlops_pipeline.platforms.sources.verified import Verified
from mlops_pipeline.platforms.sources.versions import PinnedFile

_log = logging.getLogger(__name__)
_RUNNABLE = 0o755


class Cache:
    """A folder of downloaded files. Each is compared with its digest when it is used."""

    def __init__(
        self, folder: Path, *, downloads: Downloads, verified: Verified, locks: Locks
    ) -> None:
        self._folder = folder
        self._downloads = downloads
        self._verified = verified
        self._locks = locks

    def find(self, wanted: PinnedFile) -> Path | None:
        """Return the file if it is downloaded and undamaged, or None. Uses no network."""
        path = self._place(wanted)
        try:
            digest = _digest(wanted, path)
            if not (other := self._verified.difference(path, digest)):
                return path
        except (OSError, UnicodeDecodeError):
            return None
        _log.warning("not using %s: its digest is %s, expected %s", path, other, digest)
        return None

    def ensure(self, wanted: PinnedFile) -> Path:
        """Return the file; download it if it is missing or damaged.

        Of several processes that need it at the same time, one downloads it and the others wait.

        Raises:
            ConfigurationError: upstream does not have it, or the disk is full.
            IntegrityError: the downloaded file has another digest.
            UnavailableError: the download failed.
        """
        if (found := self.find(wanted)) is not None:
            return found
        purpose = f"download {wanted.name} {wanted.version}"
        with self._locks.held(f"get-{_title(wanted)}", purpose=purpose):
            return self.find(wanted) or self._bring(wanted)

    def _bring(self, wanted: PinnedFile) -> Path:
        path = self._place(wanted)
        digest = bring(wanted, path, downloads=self._downloads)
        write_atomically(_record(path), digest)
        return path

    def _place(self, wanted: PinnedFile) -> Path:
        return self._folder / _title(wanted) / (_last_part(wanted.member) or wanted.basename)


def bring(wanted: PinnedFile, target: Path, *, downloads: Downloads) -> str:
    """Download the wanted file to `target`, and return its own SHA-256.

    Raises:
        ConfigurationError: upstream does not have it, or the disk is full.
        IntegrityError: the downloaded file has another digest, or upstream publishes none.
        UnavailableError: the download failed.
    """
    sha256 = wanted.sha256 or published(wanted, downloads.read(wanted.sha256_url))
    came = target.with_name(f".{wanted.basename}.came")
    downloads.fetch(wanted.url, came, sha256=sha256)
    with writing(target):
        ready = _unpacked(wanted, came, target) if wanted.member else came
        if wanted.kind == "binary":
            ready.chmod(_RUNNABLE)  # Another process may run it as soon as it has its final name.
        sha256 = sha256_of(ready)
        ready.replace(target)
        came.unlink(missing_ok=True)
    return sha256


def _unpacked(wanted: PinnedFile, archive: Path, target: Path) -> Path:
    unpacked = target.with_name(f".{target.name}.unpacked")
    unpack_file(archive, wanted.member, unpacked)
    return unpacked


def published(wanted: PinnedFile, text: str) -> str:
    """Return the SHA-256 that upstream publishes in `text`: a line of sha256sum, or an index.

    Raises:
        IntegrityError: `text` does not contain it.
    """
    found = _in_index(wanted, text) if wanted.kind == "chart" else text.strip().partition(" ")[0]
    digest = found.removeprefix("sha256:").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digest):
        return digest
    raise IntegrityError(
        f"{wanted.sha256_url} does not publish a SHA-256 of {wanted.name} {wanted.version}, so a "
        "download could not be verified; use a bundle that has it (MLOPS_BUNDLE)"
    )


def _in_index(wanted: PinnedFile, text: str) -> str:
    """Return the digest of a chart in the index of its repository.

    https://helm.sh/docs/topics/chart_repository/#the-index-file
    """
    try:
        index: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        entries = index["entries"][wanted.name]
        return next(str(e["digest"]) for e in entries if str(e["version"]) == wanted.version)
    except (yaml.YAMLError, LookupError, TypeError, StopIteration):
        return ""


def _digest(wanted: PinnedFile, path: Path) -> str:
    """Return the digest of the file itself: the pinned one, or the one recorded at the download.

    Raises:
        OSError: it was not downloaded.
    """
    if wanted.sha256 and not wanted.member:
        return wanted.sha256
    return _record(path).read_text().strip()


def _title(wanted: PinnedFile) -> str:
    return f"{wanted.kind}-{wanted.name}-{wanted.version}"


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
