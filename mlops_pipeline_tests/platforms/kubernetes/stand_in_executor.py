"""A server with the routes of Seldon's executor, behind a gateway that takes the prefix away.

They are those of `executor/api/rest/server.go` of Seldon Core 1.17.1, and no others.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ALWAYS = ("GET /ready", "GET /live", "GET /prometheus")
_SELDON = tuple(
    route
    for version in ("v0.1", "v1.0")
    for route in (
        f"POST /api/{version}/predictions",
        f"POST /api/{version}/feedback",
        f"GET /api/{version}/status/[^/]+",
        f"GET /api/{version}/metadata/[^/]+",
        f"GET /api/{version}/doc/.*",
    )
)
ROUTES = {
    "seldon": (
        *_SELDON,
        "GET /api/v1.0/status",
        "GET /api/v1.0/metadata",
        "GET /api/v1.0/health/status",
    ),
    "tensorflow": (
        "POST /v1/models/[^/]+/:predict",
        "POST /v1/models/[^/]+:predict",
        "POST /v1/models/?:predict",
        "GET /v1/models/[^/]+",
        "GET /v1/models/[^/]+/metadata",
        "POST /api/v1.0/feedback",
    ),
    "v2": (
        "POST /v2/models/[^/]+/infer",
        "POST /v2/models/infer",
        "GET /v2/models/[^/]+/ready",
        "GET /v2/models/[^/]+",
        "GET /v2/docs/.*",
        "GET /v2/health/ready",
    ),
}
"""Method and path (regular expression) by protocol."""


@contextmanager
def executor(protocol: str) -> Iterator[str]:
    """Serve a protocol's routes; return the gateway's URL, without a slash at its end."""
    routes = [re.compile(route) for route in (*_ALWAYS, *ROUTES[protocol])]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = re.sub(r"^/seldon/[^/]+/[^/]+/", "/", self.path)
            known = any(route.fullmatch(f"GET {path}") for route in routes)
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
