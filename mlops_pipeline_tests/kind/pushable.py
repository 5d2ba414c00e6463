"""A registry in memory that takes what is pushed and gives what is pulled, without TLS or login.

https://distribution.github.io/distribution/spec/api/
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs|manifests|blobs/uploads)/(?P<reference>[^/]*)")

_JSON = {"Content-Type": "application/json"}
_UNKNOWN = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


@dataclass
class Registry:
    """What was pushed; `port` listens on every address of this machine."""

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """Name and tag, or digest → media type and content."""
    pulls: list[str] = field(default_factory=list)
    """Tags and digests of manifests that were asked for."""

    def images(self) -> set[str]:
        """Return what was pushed, by name and tag."""
        return {f"{name}:{tag}" for name, tag in self.manifests if ":" not in tag}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"
    """So a client that begins with TLS gets an answer of HTTP, by which it knows to go without."""
    registry: Registry
    uploads: dict[str, bytes]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._give(body=False)

    def do_GET(self) -> None:
        self._give(body=True)

    def do_POST(self) -> None:
        name, _, _ = self._parts()
        place = f"/v2/{name}/blobs/uploads/{len(self.uploads)}"
        self.uploads[place] = self._body()
        self._answer(202, {"Location": place})

    def do_PATCH(self) -> None:
        place = urlsplit(self.path).path
        self.uploads[place] += self._body()
        end = len(self.uploads[place]) - 1
        self._answer(202, {"Location": place, "Range": f"0-{end}"})

    def do_PUT(self) -> None:
        name, kind, reference = self._parts()
        body = self._body()
        if kind == "manifests":
            media_type, digest = self.headers["Content-Type"], _digest(body)
            for known in (reference, digest):
                self.registry.manifests[name, known] = (media_type, body)
            self._answer(201, {"Docker-Content-Digest": digest})
            return
        address = urlsplit(self.path)
        content = self.uploads.pop(address.path) + body
        digest = parse_qs(address.query)["digest"][0]
        assert _digest(content) == digest
        self.registry.blobs[digest] = content
        self._answer(201, {"Docker-Content-Digest": digest})

    def _give(self, *, body: bool) -> None:
        if self.path.rstrip("/") == "/v2":
            self._answer(200, {"Docker-Distribution-Api-Version": "registry/2.0"})
            return
        name, kind, reference = self._parts()
        media_type, content = "application/octet-stream", self.registry.blobs.get(reference)
        if kind == "manifests":
            self.registry.pulls.append(reference)
            media_type, content = self.registry.manifests.get((name, reference), ("", None))
        if content is None:
            self._answer(404, _JSON, content=_UNKNOWN, silent=not body)
            return
        digest = {"Docker-Content-Digest": _digest(content), "Content-Type": media_type}
        self._answer(200, digest, content=content, silent=not body)

    def _parts(self) -> tuple[str, str, str]:
        found = _PATH.fullmatch(urlsplit(self.path).path)
        assert found, self.path
        return found["name"], found["kind"], found["reference"]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        *,
        content: bytes = b"",
        silent: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not silent:
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def registry() -> Iterator[Registry]:
    """Run a registry while the context lasts."""
    made = Registry()
    handler = type("Handler", (_Handler,), {"registry": made, "uploads": {}})
    server = ThreadingHTTPServer(("0.0.0.0", 0), handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
