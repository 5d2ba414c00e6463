"""Certificates that both sides of a connection show."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlops_pipeline.clients.certificates import KeyPair, end_of_mutual, find_end, self_signed
from mlops_pipeline.clients.errors import UnavailableError

NOW = datetime.now(timezone.utc)


def make(*, valid: timedelta = timedelta(days=2)) -> KeyPair:
    return self_signed("x", address="127.0.0.1", valid=valid, now=NOW, for_clients=True)


def write(pair: KeyPair, folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    certificate, key = folder / "certificate", folder / "key"
    certificate.write_text(pair.chain)
    key.write_text(pair.key)
    return certificate, key


@contextmanager
def serving(certificate: Path, key: Path) -> Iterator[int]:
    """A server that takes only who shows `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED

    def answer(server: socket.socket) -> None:
        plain, _ = server.accept()
        try:
            context.wrap_socket(plain, server_side=True).close()
        except OSError:
            plain.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def test_both_sides_show_one_certificate(tmp_path: Path) -> None:
    certificate, key = write(make(), tmp_path / "a")
    with serving(certificate, key) as port:
        end = end_of_mutual(port, certificate=certificate, key=key, timeout=5)
    assert end == (NOW + timedelta(days=2)).replace(microsecond=0)
    assert end == find_end(KeyPair(certificate.read_text(), key.read_text()))


def test_another_certificate_is_named(tmp_path: Path) -> None:
    ours, other = write(make(), tmp_path / "a"), write(make(), tmp_path / "b")
    with (
        serving(*other) as port,
        pytest.raises(UnavailableError, match=f"port {port} .* does not answer by TLS with"),
    ):
        end_of_mutual(port, certificate=ours[0], key=ours[1], timeout=5)


def test_a_port_without_tls_is_named(tmp_path: Path) -> None:
    certificate, key = write(make(), tmp_path / "a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UnavailableError, match="does not answer by TLS"):
            end_of_mutual(port, certificate=certificate, key=key, timeout=0.2)


def test_a_damaged_pair_has_no_end() -> None:
    pair = make()
    assert find_end(KeyPair("damaged", pair.key)) is None
    assert find_end(KeyPair(pair.chain, "")) is None
    assert find_end(KeyPair(pair.chain, make().key)) is None
