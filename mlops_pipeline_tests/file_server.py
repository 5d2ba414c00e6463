"""An HTTP server of files that can be told to misbehave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mlops_pipeline_tests.background import in_background


@dataclass
class Request:
    """What was asked."""

    path: str
    headers: dict[str, str]


@dataclass
class FileServer:
    """Serves `files` by path on loopback; everything that was asked is in `requests`."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers, before files are served again."""
    redirects: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers break off."""
    knows_ranges: bool = True
    shifts: int = 0
    """How far from what was asked a range begins."""
    before_chunk: Callable[[], None] = lambda: None
    """Called before each piece that is sent."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Serve while the context lasts."""

    class Handler(_Handler):
        about = server

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server.port = listener.server_port
    with in_background(listener):
        yield server


class _Handler(BaseHTTPRequestHandler):
    about: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        about = self.about
        self.close_connection = True
        about.requests.append(Request(self.path, dict(self.headers)))
        if self.path in about.redirects:
            self.send_response(302)
            self.send_header("Location", about.redirects[self.path])
            self.end_headers()
            return
        status = about.statuses.pop(0) if about.statuses else 200
        if status == 200 and self.path in about.files:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._send(about.files[self.path])
            return
        self.send_response(status if status != 200 else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def _send(self, content: bytes) -> None:
        about, etag = self.about, self.about.etags.get(self.path, '"1"')
        begin = self._begin(etag)
        if begin > len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            begin += about.shifts
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Type", about.types.get(self.path, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        rest = content[begin:] if self.command == "GET" else b""
        rest = rest[: about.cuts.pop(0)] if about.cuts else rest
        for start in range(0, len(rest), 4096):
            about.before_chunk()
            self.wfile.write(rest[start : start + 4096])

    def _begin(self, etag: str) -> int:
        asked = self.headers.get("Range", "")
        if not self.about.knows_ranges or self.headers.get("If-Range", etag) != etag:
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
