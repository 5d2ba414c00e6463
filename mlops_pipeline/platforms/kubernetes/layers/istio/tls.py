"""The certificate of the gateway's port 443: created here, or read from files."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients import certificates
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.kubernetes import Manifest
from mlops_pipeline.platforms.seldon import MANAGED_BY

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

SECRET = "seldon-gateway-tls"
_VALID = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
"""Time before its end at which a certificate of ours is replaced."""


class KeyPair(certificates.KeyPair):
    """The certificate and key of the gateway's port 443."""

    def manifest(self, namespace: str) -> dict[str, Any]:
        """Return the Secret that the gateway reads."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace, "labels": dict(MANAGED_BY)},
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": base64.b64encode(self.chain.encode()).decode(),
                "tls.key": base64.b64encode(self.key.encode()).decode(),
            },
        }


def chain_in(secret: Manifest) -> str:
    """Return the certificate (PEM) in a Secret; empty if it has none."""
    return pair_in(secret).chain


def pair_in(secret: Manifest) -> KeyPair:
    """Return the certificate and its key in a Secret; empty if it has none."""
    data: Mapping[str, str] = secret.get("data") or {}
    names = ("tls.crt", "tls.key")
    texts = (base64.b64decode(data.get(n, "")).decode(errors="replace") for n in names)
    return KeyPair(*texts)


def make(address: str, *, now: datetime) -> KeyPair:
    """Return a self-signed certificate for `address`, valid for a year.

    A client that trusts it trusts only this gateway: it cannot sign other certificates.
    """
    pair = certificates.self_signed(
        "mlops-pipeline gateway", address=address, valid=_VALID, now=now
    )
    return KeyPair(pair.chain, pair.key)


def read(certificate: Path, private_key: Path, *, table: str) -> KeyPair:
    """Return the content of two PEM files, which settings of `table` name.

    Raises:
        ConfigurationError: a file cannot be read or is not PEM, or the key belongs to another
            certificate.
    """
    from cryptography.hazmat.primitives import serialization

    chain_setting, key_setting = f"{table}.certificate", f"{table}.private_key"
    pair = KeyPair(_text(certificate, chain_setting), _text(private_key, key_setting))
    try:
        public = _parse(pair.chain).public_key()
    except ValueError as error:
        raise _wrong(
            chain_setting, certificate, f"it does not contain a certificate ({error})"
        ) from error
    try:
        key = serialization.load_pem_private_key(pair.key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise _wrong(key_setting, private_key, f"it does not contain a key ({error})") from error
    if key.public_key() != public:
        raise _wrong(key_setting, private_key, f"it is not the key of {certificate}")
    return pair


def describe_unfit(pair: KeyPair, *, address: str, now: datetime) -> str | None:
    """Say why a certificate of ours must be replaced; None if it stays valid for long."""
    certificate = certificates.find_whole(pair)
    if certificate is None:
        return f"the Secret {SECRET} does not contain a certificate and its key"
    if not names(pair.chain, address):
        return f"the certificate of port 443 is not for {address}"
    if certificate.not_valid_before_utc > now:
        return "the certificate of port 443 is not valid yet: a clock was wrong when it was created"
    end = certificate.not_valid_after_utc
    if end - now < RENEW_BEFORE:
        return f"the certificate of port 443 ends on {end:%Y-%m-%d}"
    return None


def names(chain: str, address: str) -> bool:
    """Say whether the certificate is for this address."""
    from cryptography import x509

    extensions = _parse(chain).extensions
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return certificates.general_name(address) in list(found)


def end_of(chain: str) -> datetime:
    """Return when the certificate ends (UTC)."""
    return _parse(chain).not_valid_after_utc


def is_same(one: str, other: str) -> bool:
    """Say whether two PEM texts start with the same certificate."""
    return _parse(one) == _parse(other)


def utc_now() -> datetime:
    """Return the time in UTC, as certificates have it."""
    return datetime.now(UTC)


def _parse(chain: str) -> "X509":
    from cryptography import x509

    return x509.load_pem_x509_certificate(chain.encode())


def _text(path: Path, setting: str) -> str:
    try:
        return path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _wrong(setting, path, reason or str(error)) from error


def _wrong(setting: str, path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"could not use {path} of {setting}: {reason}; name a PEM file there, or set "
        f"{setting.rpartition('.')[0]}.tls to self-signed"
    )
