"""The keys of the object store in the cluster: made here once, and kept in one Secret."""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients import certificates
from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_ours
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.store_access import identities, new_key

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials

NAME = "seaweedfs-credentials"
FILE = "s3.json"
"""The entry that SeaweedFS reads, with the same key."""
SECURITY = "security.toml"
"""The entry that closes the gRPC port of S3, which listens where S3 does and takes new keys."""
CERTIFICATE = "grpc.crt"
CERTIFICATE_KEY = "grpc.key"
"""What that port shows, and wants to be shown: no other pod has the key."""
ENTRIES = (FILE, SECURITY, CERTIFICATE, CERTIFICATE_KEY)
"""What SeaweedFS reads, once, when it starts."""
FOLDER = "/etc/mlops-pipeline"
"""Where the store's container has these entries."""
_SECURITY = f"""\
[grpc]
ca = "{FOLDER}/{CERTIFICATE}"
[grpc.s3]
cert = "{FOLDER}/{CERTIFICATE}"
key = "{FOLDER}/{CERTIFICATE_KEY}"
"""
"""As `weed scaffold -config=security` of SeaweedFS 4.48 explains it."""
_VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=365)
"""How long before its end the certificate is replaced, with a restart of the store."""
_ID = "AWS_ACCESS_KEY_ID"
_KEY = "AWS_SECRET_ACCESS_KEY"


def find(api: KubernetesApi, *, namespace: str) -> "Credentials | None":
    """Return the key, or None where there is none that can be read and stays."""
    from mlops_pipeline.clients.s3 import Credentials

    data = _read(api, namespace)
    key = Credentials(data.get(_ID, ""), data.get(_KEY, ""))
    return key if key.access_key_id and key.secret_access_key else None


def ensure(api: KubernetesApi, *, namespace: str, timeout: float, clock: Clock) -> "Credentials":
    """Return the key, a random new one where there is none.

    Raises:
        ConflictError: there is a Secret of that name which is not ours.
        WaitTimeoutError: it is being deleted, and that did not end.
    """
    found = api.find(SECRET, NAME, namespace=namespace)
    if found is not None and not is_ours(found):
        raise ConflictError(
            f"could not write the keys of the object store: the Secret {namespace}/{NAME} is there "
            "and this project did not make it; delete it"
        )
    wait_for_end(api, SECRET, NAME, namespace=namespace, timeout=timeout, clock=clock)
    key = find(api, namespace=namespace) or new_key()
    # SeaweedFS may have started with what was damaged. A new certificate starts it again.
    whole = describe_unfit(api, key, namespace=namespace) is None
    pair = _pair(_read(api, namespace)) if whole else _new_pair()
    api.apply(_manifest(key, namespace, pair))
    return key


def describe_unfit(
    api: KubernetesApi, key: "Credentials", *, namespace: str, now: datetime | None = None
) -> str | None:
    """Say what SeaweedFS would not read as it should; None where all is good for long.

    Without its security.toml it takes everybody on the gRPC port of S3, by plaintext; with a
    damaged certificate it takes nobody there. Tried with SeaweedFS 4.48.
    """
    data, now = _read(api, namespace), now or _utc_now()
    for name, wanted in ((FILE, identities(key)), (SECURITY, _SECURITY)):
        if data.get(name) != wanted:
            return f"{name} in the Secret {namespace}/{NAME} differs from what is wanted"
    if not certificates.is_valid(_pair(data), since=now, until=now + RENEW_BEFORE):
        return (
            f"the Secret {namespace}/{NAME} does not hold a certificate with its key that is valid "
            f"for {RENEW_BEFORE.days} days from now"
        )
    return None


def fingerprint(api: KubernetesApi, *, namespace: str) -> str:
    """Return a digest that changes with what SeaweedFS reads, and that tells nothing of it."""
    data = _read(api, namespace)
    content = json.dumps([data.get(name) for name in ENTRIES])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read(api: KubernetesApi, namespace: str) -> dict[str, str]:
    """Return those entries of the Secret that are text; none where there is none that stays."""
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
    return datetime.now(timezone.utc)


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
