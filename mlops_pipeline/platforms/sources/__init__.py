"""The sources of programs, charts, manifests and images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BASE = "python"
"""The group of the image that our serving images are built from."""
SERVING = "serving"
"""The group of our serving images. If a bundle has them, nothing is built."""


@dataclass(frozen=True)
class Chart:
    """A packed Helm chart."""

    path: Path
    version: str


@dataclass(frozen=True)
class ManifestFile:
    """A YAML file of manifests, as upstream publishes it."""

    path: Path
    version: str


@dataclass(frozen=True)
class NodeImage:
    """The image of kind's nodes; with an archive if the engine need not pull it."""

    reference: str
    archive: Path | None


@dataclass(frozen=True)
class Archive:
    """An archive of images (`docker save`), with the references of its images."""

    path: Path
    images: tuple[str, ...]


class Sources(Protocol):
    """Everything that is downloaded, by name.

    Only `require` may use a network. Every method raises ConfigurationError if something is not
    available, with what to do, and IntegrityError if it does not match its digest.
    """

    def require(self, names: Iterable[str]) -> None:
        """Ensure that everything of those names is on this machine, before anything is changed.

        A name is that of a program, a chart, a manifest or a group of images.
        """

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`."""

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`."""

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`, `bookinfo`."""

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes."""

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return the archives of a group of images; empty if nodes pull them.

        Groups: those of `versions.toml`, and the optional SERVING.
        """

    def echo_image(self) -> str:
        """Return the reference of the echo image; it is in the group `extras`."""
