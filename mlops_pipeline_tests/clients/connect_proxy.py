"""A proxy that opens tunnels (CONNECT), as HTTPS takes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer

from mlops_pipeline_tests.background import in_background


@dataclass
class ConnectProxy:
    """A proxy on a port of 127.0.0.1, and the hosts to which it was asked for a way."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # One of them has ended the connection.
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


def _handler(proxy: ConnectProxy) -> type[StreamRequestHandler]:
    class Handler(StreamRequestHandler):
        rbufsize = 0

        def handle(self) -> None:
            method, target, _ = self.rfile.readline().decode().split()
            while self.rfile.readline().strip():
                pass
            proxy.asked.append(f"{method} {target}")
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as way:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pass_on, args=(way, self.connection), daemon=True)
                back.start()
                _pass_on(self.connection, way)
                back.join(timeout=10)

    return Handler


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """Serve on a free port."""
    proxy = ConnectProxy()
    server = ThreadingTCPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    with in_background(server):
        yield proxy
