"""Certificates that both sides of a connection show."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_pipeline.clients.certificates import KeyPair, end_of_mutual, is_valid, self_signed
from mlops_pipeline.clients.errors import UnavailableError

NOW = datetime.now(UTC)


def make(*, valid: timedelta = timedelta(days=2)) -> KeyPair:
    return self_signed("x", address="127.0.0.1", valid=valid, now=NOW, for_clients=True)


def write(pair: KeyPair, folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    certificate, key = folder / "certificate", folder / "key"
    certificate.write_text(pair.chain)
    key.write_text(pair.key)
    return certificate, key


@contextmanager
def serving(certificate: Path, key: Path, *, takes_anybody: bool = False) -> Iterator[int]:
    """A server that takes only who shows `certificate`, or anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_OPTIONAL if takes_anybody else ssl.CERT_REQUIRED

    def answer(server: socket.socket) -> None:
        taken = []  # Kept open: the server waits for a request.
        with suppress(OSError):
            while True:
                plain, _ = server.accept()
                with suppress(ssl.SSLError):
                    taken.append(context.wrap_socket(plain, server_side=True))
        for connection in taken:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_both_sides_show_one_certificate(tmp_path: Path) -> None:
    certificate, key = write(make(), tmp_path / "a")
    with serving(certificate, key) as port:
        end = end_of_mutual(port, certificate=certificate, key=key, timeout=5)
    assert end == (NOW + timedelta(days=2)).replace(microsecond=0)


def test_a_server_that_takes_clients_without_a_certificate_is_named(tmp_path: Path) -> None:
    certificate, key = write(make(), tmp_path / "a")
    with (
        serving(certificate, key, takes_anybody=True) as port,
        pytest.raises(UnavailableError, match=f"port {port} .* accepts clients without a certifi"),
    ):
        end_of_mutual(port, certificate=certificate, key=key, timeout=0.5)


def test_another_certificate_is_named(tmp_path: Path) -> None:
    ours, other = write(make(), tmp_path / "a"), write(make(), tmp_path / "b")
    with (
        serving(*other) as port,
        pytest.raises(UnavailableError, match=f"TLS handshake with port {port} .* failed with"),
    ):
        end_of_mutual(port, certificate=ours[0], key=ours[1], timeout=5)


def test_a_port_without_tls_is_named(tmp_path: Path) -> None:
    certificate, key = write(make(), tmp_path / "a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UnavailableError, match=r"TLS handshake with port .* failed"):
            end_of_mutual(port, certificate=certificate, key=key, timeout=0.2)


@pytest.mark.parametrize(
    ("since", "until", "valid"),
    [(-1, 47, True), (0, 48, False), (-2, 1, False)],
)
def test_a_pair_is_valid_between_its_dates(since: int, until: int, *, valid: bool) -> None:
    hour = timedelta(hours=1)
    assert is_valid(make(), since=NOW + since * hour, until=NOW + until * hour) is valid


def test_a_damaged_pair_is_not_valid() -> None:
    pair, hour = make(), timedelta(hours=1)
    for damaged in (
        KeyPair("damaged", pair.key),
        KeyPair(pair.chain, ""),
        KeyPair(pair.chain, make().key),
    ):
        assert not is_valid(damaged, since=NOW, until=NOW + hour)
