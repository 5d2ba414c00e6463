"""The keys of the object store in the cluster: made here once, and kept in one Secret."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients import certificates
from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.endings import find_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.ownership import is_ours
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
_ID = "AWS_ACCESS_KEY_ID"
_KEY = "AWS_SECRET_ACCESS_KEY"


def find(api: KubernetesApi, *, namespace: str) -> "Credentials | None":
    """Return the key, or None where there is none that can be read and stays."""
    from mlops_pipeline.clients.s3 import Credentials

    found = find_lasting(api, SECRET, NAME, namespace=namespace) or {}
    data: Mapping[str, str] = found.get("data") or {}
    try:
        key = Credentials(*(base64.b64decode(data[name]).decode() for name in (_ID, _KEY)))
    except (KeyError, ValueError):
        return None
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
    data = (api.find(SECRET, NAME, namespace=namespace) or {}).get("data") or {}
    if not data.get(CERTIFICATE) or not data.get(CERTIFICATE_KEY):
        data = _certificate()
    kept = {name: data[name] for name in (CERTIFICATE, CERTIFICATE_KEY)}
    api.apply(_manifest(key, namespace, kept))
    return key


def fingerprint(key: "Credentials") -> str:
    """Return a digest that changes with the key, from which the key cannot be found."""
    return hashlib.sha256(identities(key).encode()).hexdigest()[:16]


def _certificate() -> dict[str, str]:
    pair = certificates.self_signed(
        "mlops-pipeline object store",
        address="127.0.0.1",
        valid=_VALID,
        now=datetime.now(timezone.utc),
    )
    content = {CERTIFICATE: pair.chain, CERTIFICATE_KEY: pair.key}
    return {name: base64.b64encode(text.encode()).decode() for name, text in content.items()}


def _manifest(key: "Credentials", namespace: str, certificate: Mapping[str, str]) -> dict[str, Any]:
    content = {
        _ID: key.access_key_id,
        _KEY: key.secret_access_key,
        FILE: identities(key),
        SECURITY: _SECURITY,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "type": "Opaque",
        "data": {
            **{name: base64.b64encode(value.encode()).decode() for name, value in content.items()},
            **certificate,
        },
    }
