"""Where everything comes from, in memory."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, NotDownloadedError
from mlops_pipeline.platforms.sources import Archive, Chart, ManifestFile, NodeImage
from mlops_pipeline.platforms.sources.versions import ECHO_IMAGE

_FOLDER = Path("/bundle")


class FakeSources:
    """Everything, from a folder that is missing; `absent` names what cannot be had.

    `manifests` maps a manifest's name to a file that is there.
    """

    def __init__(
        self,
        *,
        absent: Iterable[str] = (),
        manifests: Mapping[str, Path] | None = None,
        node_image: str = "kindest/node:v1.34.4",
    ) -> None:
        self.required: list[str] = []
        self._absent = set(absent)
        self._manifests = dict(manifests or {})
        self._node_image = node_image

    def require(self, names: Iterable[str]) -> None:
        for name in names:
            self.required.append(name)
            self._maybe_fail(name)

    def binary(self, name: str) -> Path:
        self._maybe_fail(name)
        return _FOLDER / "bin" / name

    def chart(self, name: str) -> Chart:
        self._maybe_fail(name)
        version = "1.17.1" if name.startswith("seldon") else "1.31.0"
        return Chart(_FOLDER / "charts" / f"{name}-{version}.tgz", version)

    def manifest(self, name: str) -> ManifestFile:
        self._maybe_fail(name)
        if name not in self._manifests:
            raise NotDownloadedError(f"{name} is not downloaded")
        return ManifestFile(self._manifests[name], "v0.16.1")

    def node_image(self) -> NodeImage:
        self._maybe_fail("node")
        return NodeImage(self._node_image, _FOLDER / "images" / "node.tar")

    def archives(self, group: str) -> tuple[Archive, ...]:
        self._maybe_fail(group)
        return tuple(a for a in self._all() if a.path.stem == group)

    def echo_image(self) -> str:
        return ECHO_IMAGE

    def contents(self) -> dict[Path, tuple[str, ...]]:
        """Return what each archive holds, for `FakeEngine(archives=…)`."""
        node = self.node_image()
        held = {archive.path: archive.images for archive in self._all()}
        return held | ({node.archive: (node.reference,)} if node.archive else {})

    def _all(self) -> tuple[Archive, ...]:
        images = {
            "metallb": ("quay.io/metallb/controller:v0.16.1", "quay.io/metallb/speaker:v0.16.1"),
            "istio": (
                "registry.istio.io/release/pilot:1.31",
                "registry.istio.io/release/proxyv2:1.31",
            ),
            "seldon": (
                "docker.io/seldonio/seldon-core-operator:1.17.1",
                "docker.io/seldonio/rclone-storage-initializer:1.17.1",
            ),
            "storage": ("docker.io/chrislusf/seaweedfs:4.48",),
            "extras": (ECHO_IMAGE,),
            "python": ("docker.io/library/python:3.11-slim-bookworm",),
        }
        return tuple(
            Archive(_FOLDER / "images" / f"{group}.tar", held) for group, held in images.items()
        )

    def _maybe_fail(self, name: str) -> None:
        if name in self._absent:
            raise ConfigurationError(f"{name} is not in the bundle {_FOLDER}; create it again")
