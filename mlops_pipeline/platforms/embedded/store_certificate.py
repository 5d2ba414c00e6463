"""What closes SeaweedFS's inner ports to other users: a certificate that its parts show each other.

Every part (master, volume server, filer, S3) takes connections by TLS alone, and only from who has
the private key of the one certificate that all of them show. It is read by this user alone.
Names in security.toml: `weed scaffold -config=security`, SeaweedFS 4.48.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlops_pipeline.clients import certificates, ports
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.files import PRIVATE, write_atomically, write_if_changed

_VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=365)
"""How long before its end a certificate is replaced, with a restart of the store."""
_GLANCE = 2.0
"""Seconds in which a port has to answer."""
_GRPC = ("master", "volume", "filer", "s3", "client")
_HTTPS = ("master", "volume", "filer", "client")


class StoreCertificate:
    """The certificate, its key and SeaweedFS's security.toml in `folder`, where it is started."""

    def __init__(self, folder: Path) -> None:
        self._certificate = folder / "certificate.pem"
        self._key = folder / "certificate.key"
        self._configuration = folder / "security.toml"

    def make(self, *, now: datetime | None = None) -> None:
        """Make a new certificate unless there is a good one, and write security.toml.

        Raises:
            ConfigurationError: the folder cannot be written.
        """
        now = now or datetime.now(UTC)
        if not self._is_good(now):
            pair = certificates.self_signed(
                "mlops-pipeline object store",
                address=ports.LOOPBACK,
                valid=_VALID,
                now=now,
                for_clients=True,
            )
            write_atomically(self._key, pair.key, mode=PRIVATE)
            write_atomically(self._certificate, pair.chain, mode=PRIVATE)
        write_if_changed(self._configuration, "\n".join(self._lines()) + "\n", mode=PRIVATE)

    def fingerprint(self) -> str:
        """Return a digest that changes with the certificate and with security.toml."""
        content = self._certificate.read_bytes() + self._configuration.read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def describe_open(self, inner: Iterable[int], *, now: datetime | None = None) -> str | None:
        """Say which inner port takes connections of others, or soon would take none at all."""
        latest = (now or datetime.now(UTC)) + RENEW_BEFORE
        for port in inner:
            try:
                end = certificates.end_of_mutual(
                    port, certificate=self._certificate, key=self._key, timeout=_GLANCE
                )
            except UnavailableError as error:
                return f"an internal port of SeaweedFS is open to other users: {error}"
            if end < latest:
                return f"the certificate of SeaweedFS's internal ports expires on {end:%Y-%m-%d}"
        return None

    def _is_good(self, now: datetime) -> bool:
        try:
            pair = certificates.KeyPair(self._certificate.read_text(), self._key.read_text())
        except (OSError, UnicodeDecodeError):
            return False
        return certificates.is_valid(pair, since=now, until=now + RENEW_BEFORE)

    def _lines(self) -> Iterator[str]:
        pair = [_setting("cert", self._certificate), _setting("key", self._key)]
        authority = _setting("ca", self._certificate)
        yield from ("[grpc]", authority)
        for part in _GRPC:
            yield from (f"[grpc.{part}]", *pair)
        for part in _HTTPS:
            enabled = ["enabled = true"] if part == "client" else []
            yield from (f"[https.{part}]", *enabled, *pair, authority)


def _setting(name: str, path: Path) -> str:
    return f"{name} = {json.dumps(str(path))}"
