"""Self-signed certificates: trusting one means trusting only its owner."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.http import trusting
from mlops_pipeline.clients.ports import LOOPBACK

if TYPE_CHECKING:
    import ssl

    from cryptography import x509

_CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its chain, and its key, as PEM."""

    chain: str
    key: str = field(repr=False)


def self_signed(
    subject: str, *, address: str, valid: timedelta, now: datetime, for_clients: bool = False
) -> KeyPair:
    """Return a certificate of `subject` (its common name) for `address`, a name or an IP address.

    It cannot sign others. With `for_clients`, a client may present it too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    usages += [ExtendedKeyUsageOID.CLIENT_AUTH] if for_clients else []
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName([general_name(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def general_name(address: str) -> "x509.GeneralName":
    """Return `address` as a certificate names it: as an IP address if it is one."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def end_of_mutual(port: int, *, certificate: Path, key: Path, timeout: float) -> datetime:
    """Return when the certificate of a mutual TLS connection expires (UTC).

    Only `certificate` is trusted for the server at `port` of 127.0.0.1, and is presented to it. The
    server must refuse a client without it.

    Raises:
        UnavailableError: no answer within `timeout` seconds, another certificate, or the server
            accepts a client without a certificate.
    """
    import ssl

    try:
        context = trusting(certificate.read_text())
        context.load_cert_chain(certificate, key)
        with _connected(port, context, timeout) as secured:
            shown = secured.getpeercert() or {}
        end = ssl.cert_time_to_seconds(str(shown["notAfter"]))
        taken = _takes_anybody(port, trusting(certificate.read_text()), timeout)
    except (OSError, KeyError, ValueError) as error:
        raise UnavailableError(
            f"TLS handshake with port {port} of {LOOPBACK} failed with the certificate "
            f"{certificate} ({type(error).__name__}: {error})"
        ) from error
    if taken:
        raise UnavailableError(f"port {port} of {LOOPBACK} accepts clients without a certificate")
    return datetime.fromtimestamp(end, tz=UTC)


def is_valid(pair: KeyPair, *, since: datetime, until: datetime) -> bool:
    """Say whether the certificate is valid from `since` to `until`, and matches the key.

    False if one of them is damaged.
    """
    certificate = find_whole(pair)
    if certificate is None:
        return False
    return certificate.not_valid_before_utc <= since and until < certificate.not_valid_after_utc


def find_whole(pair: KeyPair) -> "x509.Certificate | None":
    """Return the certificate; None if it or its key is damaged, or they do not match."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificate(pair.chain.encode())
        key = serialization.load_pem_private_key(pair.key.encode(), password=None)
    except (ValueError, TypeError):
        return None
    return certificate if key.public_key() == certificate.public_key() else None


@contextmanager
def _connected(port: int, context: "ssl.SSLContext", timeout: float) -> Iterator["ssl.SSLSocket"]:
    with (
        socket.create_connection((LOOPBACK, port), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as secured,
    ):
        yield secured


def _takes_anybody(port: int, context: "ssl.SSLContext", timeout: float) -> bool:
    """Say whether a server that accepted our certificate also accepts a client without one.

    With TLS 1.3 the handshake succeeds either way: the server refuses by an alert after it (RFC
    8446, 4.4.2.4). Which alert does not matter: nothing else differs from the first connection.
    """
    import ssl

    try:
        with _connected(port, context, timeout) as secured:
            secured.recv(1)
    except ssl.SSLError as error:
        return "ALERT" not in (error.reason or "")
    except TimeoutError:
        return True
    return True
