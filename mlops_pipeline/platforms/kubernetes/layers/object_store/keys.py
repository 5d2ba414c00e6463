"""The keys of the object store in the cluster: created once, and kept in one Secret."""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients import certificates
from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.objects import ownership
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, wait_for_end
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.store_access import identities, new_key

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials

NAME = "seaweedfs-credentials"
FILE = "s3.json"
"""The entry that SeaweedFS reads, with the same key."""
SECURITY = "security.toml"
"""The entry that closes S3's gRPC port, which listens beside S3 and accepts new keys."""
CERTIFICATE = "grpc.crt"
CERTIFICATE_KEY = "grpc.key"
"""The certificate that this port presents and requires: no other pod has the key."""
ENTRIES = (FILE, SECURITY, CERTIFICATE, CERTIFICATE_KEY)
"""The entries that SeaweedFS reads once, at its start."""
FOLDER = "/etc/mlops-pipeline"
"""The folder of these entries in the store's container."""
_SECURITY = f"""\
[grpc]
ca = "{FOLDER}/{CERTIFICATE}"
[grpc.s3]
cert = "{FOLDER}/{CERTIFICATE}"
key = "{FOLDER}/{CERTIFICATE_KEY}"
"""
"""Documented by `weed scaffold -config=security` of SeaweedFS 4.48."""
_VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=365)
"""Time before its end at which the certificate is replaced, with a restart of the store."""
_ID = "AWS_ACCESS_KEY_ID"
_KEY = "AWS_SECRET_ACCESS_KEY"


def find(api: KubernetesApi, *, namespace: str) -> "Credentials | None":
    """Return the key, or None if it is missing, unreadable or being deleted."""
    from mlops_pipeline.clients.s3 import Credentials

    data = _read(api, namespace)
    key = Credentials(data.get(_ID, ""), data.get(_KEY, ""))
    return key if key.access_key_id and key.secret_access_key else None


def ensure(api: KubernetesApi, *, namespace: str, timeout: float, clock: Clock) -> "Credentials":
    """Return the key; a random new one if there is none.

    Raises:
        ConflictError: a Secret of that name exists and is not ours.
        WaitTimeoutError: it is being deleted, which did not end in time.
    """
    require_ours(api, namespace=namespace)
    wait_for_end(api, SECRET, NAME, namespace=namespace, timeout=timeout, clock=clock)
    key = find(api, namespace=namespace) or new_key()
    # SeaweedFS may have started with the damaged entry. A new certificate restarts it.
    whole = describe_unfit(api, key, namespace=namespace) is None
    pair = _pair(_read(api, namespace)) if whole else _new_pair()
    api.apply(_manifest(key, namespace, pair))
    return key


def require_ours(api: KubernetesApi, *, namespace: str) -> None:
    """Refuse a Secret of somebody else that has the name of ours.

    Raises:
        ConflictError: it exists and is not ours.
    """
    to = "write the keys of the object store"
    ownership.require_ours(api, SECRET, NAME, namespace=namespace, to=to)


def describe_unfit(
    api: KubernetesApi, key: "Credentials", *, namespace: str, now: datetime | None = None
) -> str | None:
    """Say which entry SeaweedFS would not read correctly; None if all stay valid for long.

    Without its security.toml, its S3 gRPC port accepts everybody without TLS; with a damaged
    certificate it accepts nobody. Tested with SeaweedFS 4.48.
    """
    data, now = _read(api, namespace), now or _utc_now()
    for name, wanted in ((FILE, identities(key)), (SECURITY, _SECURITY)):
        if data.get(name) != wanted:
            return f"{name} in the Secret {namespace}/{NAME} differs from the expected value"
    if not certificates.is_valid(_pair(data), since=now, until=now + RENEW_BEFORE):
        return (
            f"the Secret {namespace}/{NAME} does not contain a certificate with its key that is "
            f"valid for {RENEW_BEFORE.days} days from now"
        )
    return None


def fingerprint(api: KubernetesApi, *, namespace: str) -> str:
    """Return a digest of what SeaweedFS reads, which does not reveal it."""
    data = _read(api, namespace)
    content = json.dumps([data.get(name) for name in ENTRIES])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read(api: KubernetesApi, namespace: str) -> dict[str, str]:
    """Return the text entries of the Secret; empty if it is missing or being deleted."""
    found = find_lasting(api, SECRET, NAME, namespace=namespace) or {}
    texts = {}
    for name, value in (found.get("data") or {}).items():
        with suppress(ValueError):
            texts[name] = base64.b64decode(value).decode()
    return texts


def _pair(data: Mapping[str, str]) -> certificates.KeyPair:
    return certificates.KeyPair(data.get(CERTIFICATE, ""), data.get(CERTIFICATE_KEY, ""))


def _new_pair() -> certificates.KeyPair:
    return certificates.self_signed(
        "mlops-pipeline object store",
        address="127.0.0.1",
        valid=_VALID,
        now=_utc_now(),
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _manifest(key: "Credentials", namespace: str, pair: certificates.KeyPair) -> dict[str, Any]:
    content = {
        _ID: key.access_key_id,
        _KEY: key.secret_access_key,
        FILE: identities(key),
        SECURITY: _SECURITY,
        CERTIFICATE: pair.chain,
        CERTIFICATE_KEY: pair.key,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "type": "Opaque",
        "data": {
            name: base64.b64encode(value.encode()).decode() for name, value in content.items()
        },
    }
