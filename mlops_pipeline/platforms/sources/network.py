"""The sources with a network: PATH, previous downloads, upstream."""

from collections.abc import Iterable
from pathlib import Path

from mlops_pipeline.clients.errors import NotDownloadedError
from mlops_pipeline.platforms.sources import Archive, Chart, ManifestFile, NodeImage
from mlops_pipeline.platforms.sources.path import find_fitting
from mlops_pipeline.platforms.sources.upstream import Cache
from mlops_pipeline.platforms.sources.versions import (
    ECHO_IMAGE,
    NODE,
    Kind,
    PinnedFile,
    Versions,
)


class NetworkSources:
    """A suitable version on PATH; otherwise the pinned file of `versions.toml`, downloaded once.

    The engine and the nodes pull images themselves.
    """

    def __init__(self, versions: Versions, cache: Cache) -> None:
        self._versions = versions
        self._cache = cache

    def require(self, names: Iterable[str]) -> None:
        """Download what is missing.

        Raises:
            ConfigurationError: a name is unknown, upstream lacks the file, or the disk is full.
            IntegrityError: a downloaded file is not the pinned one.
            UnavailableError: upstream does not answer.
        """
        for name in names:
            for wanted in self._versions.named(name):
                if not _installed(wanted):
                    self._cache.ensure(wanted)

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`.

        Raises:
            NotDownloadedError: it is neither on PATH nor downloaded.
        """
        wanted = self._versions.file(name, "binary")
        return _installed(wanted) or self._found(wanted)

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`.

        Raises:
            NotDownloadedError: it is not downloaded.
        """
        wanted = self._versions.file(name, "chart")
        return Chart(self._found(wanted), wanted.version)

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`, `bookinfo`.

        Raises:
            NotDownloadedError: it is not downloaded.
        """
        wanted = self._versions.file(name, "manifest")
        return ManifestFile(self._found(wanted), wanted.version)

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes, which the engine pulls by its digest."""
        return NodeImage(self._versions.image(NODE).pulled, None)

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return nothing: nodes pull their images."""
        return ()

    def echo_image(self) -> str:
        """Return the reference of the echo image."""
        return ECHO_IMAGE

    def _found(self, wanted: PinnedFile) -> Path:
        if (found := self._cache.find(wanted)) is not None:
            return found
        raise NotDownloadedError(
            f"{_what(wanted)} is not downloaded yet{_on_path(wanted)}; download it with "
            "`mlops-pipeline up`, or use a bundle that has it (MLOPS_BUNDLE)"
        )


def _installed(wanted: PinnedFile) -> Path | None:
    return find_fitting(wanted) if wanted.kind == "binary" else None


def _what(wanted: PinnedFile) -> str:
    words: dict[Kind, str] = {"binary": "", "chart": "the chart ", "manifest": "the manifest "}
    return f"{words[wanted.kind]}{wanted.name} {wanted.version}"


def _on_path(wanted: PinnedFile) -> str:
    return ", and PATH has no suitable version" if wanted.kind == "binary" else ""
