"""A small upstream: a program in an archive, one without, a chart and a manifest."""

import hashlib
import io
import tarfile
from pathlib import Path

from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources.network import NetworkSources
from mlops_pipeline.platforms.sources.upstream import Cache
from mlops_pipeline.platforms.sources.verified import Verified
from mlops_pipeline.platforms.sources.versions import Versions, read
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.file_server import FileServer

KIND = b"#!/bin/sh\necho kind v0.33.0 go1.26 linux/amd64\n"
HELM = b"#!/bin/sh\necho v3.21.4+g8131\n"
CHART, MANIFEST = b"a chart", b"kind: Namespace\n"
MACHINE = "linux/amd64"
TOML = """
[[binary]]
name = "kind"
version = "v0.33.0"
least = "0.32"
below = "1"
[binary.files."linux/amd64"]
url = "https://dl.example/v0.33.0/kind"
sha256 = "{kind}"
[[binary]]
name = "helm"
version = "v3.21.4"
least = "3.13"
below = "4"
[binary.files."linux/amd64"]
url = "https://get.example/helm-v3.21.4.tar.gz"
sha256_url = "https://get.example/helm-v3.21.4.tar.gz.sha256sum"
member = "linux-amd64/helm"
[[chart]]
name = "istiod"
version = "1.30.4"
url = "https://charts.example/istiod-1.30.4.tgz"
sha256_url = "https://charts.example/index.yaml"
[[manifest]]
name = "metallb-native"
version = "v0.16.1"
url = "https://raw.example/v0.16.1/metallb-native.yaml"
sha256 = "{manifest}"
[[image]]
archive = "metallb"
reference = "quay.io/metallb/controller:v0.16.1"
digest = "sha256:f51ab515de9ccd20dc3dccb093e48df8adddac019326c456f449e55ba91b6420"
[[image]]
archive = "metallb"
reference = "quay.io/metallb/speaker:v0.16.1"
[[image]]
archive = "python"
reference = "docker.io/library/python:{{python}}-slim-bookworm"
[[image]]
archive = "node"
reference = "kindest/node:v1.34.11"
digest = "sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"
"""
NAMES = ("kind", "helm", "istiod", "metallb-native", "metallb", "python", "node")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(name: str, content: bytes) -> bytes:
    """Return a .tar.gz with that file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def mirror(*, archive: bytes = b"", index: str = "") -> FileServer:
    """Return a mirror of the small upstream."""
    helm = archive or packed("linux-amd64/helm", HELM)
    listed = index or f"entries:\n  istiod:\n  - {{version: 1.30.4, digest: {digest(CHART)}}}\n"
    return FileServer(
        {
            "/dl.example/v0.33.0/kind": KIND,
            "/get.example/helm-v3.21.4.tar.gz": helm,
            "/get.example/helm-v3.21.4.tar.gz.sha256sum": f"{digest(helm)}  helm\n".encode(),
            "/charts.example/istiod-1.30.4.tgz": CHART,
            "/charts.example/index.yaml": listed.encode(),
            "/raw.example/v0.16.1/metallb-native.yaml": MANIFEST,
        }
    )


def versions(folder: Path) -> Versions:
    """Return what the small upstream has."""
    path = folder / "versions.toml"
    if not path.exists():
        path.write_text(TOML.format(kind=digest(KIND), manifest=digest(MANIFEST)))
    return read(MACHINE, path)


def downloads(folder: Path, url: str) -> Downloads:
    """Return downloads from the mirror at `url`."""
    (folder / "locks").mkdir(exist_ok=True)
    locks = Locks(folder / "locks", timeout=20)
    return Downloads(locks=locks, mirror=url, clock=FakeClock())


def require_in_a_process(folder: Path, url: str) -> None:
    """Require everything, as one of several processes does."""
    network(folder, url).require(NAMES)


def network(folder: Path, url: str) -> NetworkSources:
    """Return sources from the mirror at `url`, with a cache below `folder`."""
    state = ClusterFolder(folder / "kind")
    locks = Locks(state.locks, timeout=20, prepare=state.prepare)
    cache = Cache(
        state.downloads,
        downloads=Downloads(locks=locks, mirror=url, clock=FakeClock()),
        verified=Verified(),
        locks=locks,
    )
    return NetworkSources(versions(folder), cache)
