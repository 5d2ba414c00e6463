"""A registry of one image on loopback, where engines ask without TLS."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline_tests.file_server import FileServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Pushed:
    """An image as the registry has it."""

    name: str
    tag: str
    digest: str


def push(server: FileServer, archive: Path, *, name: str, tag: str) -> Pushed:
    """Let the server answer for the first image of an archive (`docker save`).

    https://distribution.github.io/distribution/spec/api/
    """
    with tarfile.open(archive) as tar:
        held = {m.name: _read(tar, m.name) for m in tar.getmembers() if m.isfile()}
    entry = json.loads(held["manifest.json"])[0]
    config = held[entry["Config"]]
    layers = [gzip.compress(held[layer], 1, mtime=0) for layer in entry["Layers"]]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(_CONFIG, config),
            "layers": [_described(_LAYER, layer) for layer in layers],
        }
    ).encode()
    server.files["/v2/"] = b"{}"
    for blob in (config, *layers):
        server.files[f"/v2/{name}/blobs/{_digest(blob)}"] = blob
    for reference in (tag, _digest(manifest)):
        path = f"/v2/{name}/manifests/{reference}"
        server.files[path] = manifest
        server.types[path] = _MANIFEST
    return Pushed(name, tag, _digest(manifest))


def _described(media_type: str, content: bytes) -> Mapping[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name) or io.BytesIO()
    with file:
        return file.read()
