import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.platforms.kubernetes.layers.istio import tls as istio_tls


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.strip("/") or 200)
        self.send_response(status)
        self.send_header("X-Name", "value")
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(b"caf\xe9")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(pair: istio_tls.KeyPair | None = None, *, folder: Path | None = None) -> Iterator[int]:
    """Serve on a port of loopback while the context lasts."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    if pair is not None and folder is not None:
        (folder / "pair.pem").write_text(pair.chain + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_any_status_is_an_answer_and_redirects_are_not_followed() -> None:
    with serving() as port:
        url = f"http://127.0.0.1:{port}"
        assert http.get(url, timeout=5).status == 200
        answer = http.get(f"{url}/301", timeout=5)
    assert answer.status == 301
    assert answer.headers["x-name"] == "value"
    assert answer.text == "caf\N{REPLACEMENT CHARACTER}"


def test_a_server_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")
    with serving() as port:
        pass
    with pytest.raises(UnavailableError, match=f"could not reach http://127.0.0.1:{port}"):
        http.get(f"http://127.0.0.1:{port}", timeout=5)
    with pytest.raises(UnavailableError, match="could not read the certificate"):
        http.certificate_at("127.0.0.1", port, timeout=5)
    with pytest.raises(UnavailableError):
        http.get("http://[nonsense", timeout=5)


def test_only_the_given_certificate_is_trusted(tmp_path: Path) -> None:
    pair = istio_tls.make("127.0.0.1", now=istio_tls.utc_now())
    other = istio_tls.make("127.0.0.1", now=istio_tls.utc_now())
    with serving(pair, folder=tmp_path) as port:
        url = f"https://127.0.0.1:{port}"
        assert http.get(url, timeout=5, trust=pair.chain).status == 200
        assert istio_tls.is_same(http.certificate_at("127.0.0.1", port, timeout=5), pair.chain)
        for trust in ("", other.chain):
            with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                http.get(url, timeout=5, trust=trust)


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    pair = istio_tls.make("models.example", now=istio_tls.utc_now())
    with (
        serving(pair, folder=tmp_path) as port,
        pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        http.get(f"https://127.0.0.1:{port}", timeout=5, trust=pair.chain)
