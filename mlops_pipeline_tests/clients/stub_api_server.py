"""An HTTP server that answers as it is told, in the place of an API server."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlops_pipeline_tests.background import in_background

CORE = {
    "resources": [
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
        {"name": "namespaces", "kind": "Namespace", "namespaced": False},
        {"name": "namespaces/status", "kind": "Namespace", "namespaced": False},
        {"name": "pods", "kind": "Pod", "namespaced": True},
        {"name": "pods/log", "kind": "Pod", "namespaced": True},
    ]
}


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass
class StubApiServer:
    """Answers `METHOD path` by the next of its `answers`, whose last one stays.

    An answer is a status with an object or text; the status 0 breaks the connection, and -1 waits
    until the test is over.
    """

    url: str = ""
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def on(self, request: str, *answers: tuple[int, Any]) -> None:
        """Say what a request is answered."""
        self.answers[request] = list(answers)

    def refuse(self, request: str, status: int, message: str) -> None:
        """Say that a request is refused, as an API server refuses."""
        self.on(request, (status, {"kind": "Status", "message": message, "code": status}))

    def paths(self) -> list[str]:
        """Return what was asked."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Return the next answer."""
        self.asked.append(asked)
        answers = self.answers.get(f"{asked.method} {asked.path}")
        if not answers:
            return 404, "404 page not found"
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _handler(stub: StubApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            size = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(size).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = stub.answer(Asked(self.command, parts.path, query, headers, body))
            if status == -1:
                stub.over.wait(10)
            if status <= 0:
                self.close_connection = True
                return
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def stub_api_server(tls: ssl.SSLContext | None = None) -> Iterator[StubApiServer]:
    """Serve on a port of 127.0.0.1 that is free, with `tls` by https."""
    stub = StubApiServer()
    stub.on("GET /api/v1", (200, CORE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    if tls is not None:
        stub.url = stub.url.replace("http:", "https:")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with in_background(server):
        try:
            yield stub
        finally:
            stub.over.set()
