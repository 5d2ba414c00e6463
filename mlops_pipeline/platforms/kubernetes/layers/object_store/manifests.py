"""The objects of the object store: SeaweedFS with a volume, behind a Service."""

import re
from typing import Any

from mlops_pipeline.clients.kubernetes import PERSISTENT_VOLUME_CLAIM, STATEFUL_SET, Resource
from mlops_pipeline.platforms.kubernetes.bases.rights import APPS, READ, WRITE, allow
from mlops_pipeline.platforms.kubernetes.layers.object_store import keys
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort, node_ports
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources.versions import STORE_IMAGE

NAMESPACE = "mlops-storage"
NAME = "seaweedfs"
VERSION = STORE_IMAGE.rpartition(":")[2]
PORT = 8333
PORTS = (ServicePort("object_store", PORT, 30083, 8433),)
NODE_PORTS = node_ports(PORTS)
NETWORK_POLICY = Resource("networking.k8s.io/v1", "NetworkPolicy")
RIGHTS = allow(
    (
        ("secrets", "", WRITE),
        ("statefulsets", APPS, WRITE),
        ("persistentvolumeclaims", "", WRITE),
        ("networkpolicies", "networking.k8s.io", WRITE),
        ("storageclasses", "storage.k8s.io", READ),
    )
)
"""The rights that the store needs."""
_SELECTOR = {"app.kubernetes.io/name": NAME}
_KEYS_ANNOTATION = "mlops-pipeline/keys"
_USER = 8333
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    unit: 1 << shift for unit, shift in (("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40))
}
_COMMAND = (
    *("weed", "-logtostderr=true", "server", "-dir=/data", "-filer", "-s3"),
    # Master, volume server and filer require no key, because only they use each other. Their
    # address is the same in every pod: the filer uses it to find what the previous pod stored.
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
    *("-s3.ip.bind=0.0.0.0", f"-s3.port={PORT}"),
    f"-s3.config={keys.FOLDER}/{keys.FILE}",
    *("-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    *("-master.peers=none", "-master.telemetry=false"),
    *("-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false"),
    # The default is 1 % of the disk, which is gigabytes on a large one.
    *("-volume.max=64", "-volume.minFreeSpace=64MiB", "-volume.preStopSeconds=0"),
)


def volume(size: str, *, storage_class: str = "") -> dict[str, Any]:
    """Return the PersistentVolumeClaim, with the cluster's default storage class."""
    return {
        "apiVersion": PERSISTENT_VOLUME_CLAIM.api_version,
        "kind": PERSISTENT_VOLUME_CLAIM.kind,
        "metadata": _metadata(),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def service(node_port: int | None) -> dict[str, Any]:
    """Return the Service: this machine uses its address, pods use its name.

    With `node_port`, it has that port on every node; otherwise Kubernetes chooses one.
    """
    port = {"name": "s3", "port": PORT, "targetPort": PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(),
        "spec": {
            "type": "LoadBalancer",
            "selector": _SELECTOR,
            "ports": [port if node_port is None else {**port, "nodePort": node_port}],
        },
    }


def network_policy() -> dict[str, Any]:
    """Return the policy that closes every port but S3's to other pods."""
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": _metadata(),
        "spec": {
            "podSelector": {"matchLabels": _SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": PORT}]}],
        },
    }


def stateful_set(*, fingerprint: str) -> dict[str, Any]:
    """Return the StatefulSet.

    SeaweedFS reads its Secret only at its start, so another `fingerprint` of it creates another
    pod.
    """
    return {
        "apiVersion": STATEFUL_SET.api_version,
        "kind": STATEFUL_SET.kind,
        "metadata": _metadata(),
        "spec": {
            "replicas": 1,
            "serviceName": NAME,
            "selector": {"matchLabels": _SELECTOR},
            "template": {
                "metadata": {
                    "labels": {**MANAGED_BY, **_SELECTOR},
                    "annotations": {_KEYS_ANNOTATION: fingerprint},
                },
                "spec": _pod(),
            },
        },
    }


def bytes_of(quantity: str) -> int:
    """Return the bytes of a quantity (`5Gi`).

    Raises:
        ValueError: it is not a quantity.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", quantity)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{quantity!r} is not a quantity")
    return round(float(match[1]) * _UNITS[match[2]])


def _pod() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        # SeaweedFS does not end on SIGTERM; everything that it acknowledged is stored by then.
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container()],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": NAME}},
            {
                "name": "keys",
                "secret": {
                    "secretName": keys.NAME,
                    "items": [{"key": name, "path": name} for name in keys.ENTRIES],
                    "defaultMode": 0o440,
                },
            },
            # The folder of its sockets.
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container() -> dict[str, Any]:
    healthy = {"httpGet": {"path": "/healthz", "port": "s3"}}
    return {
        "name": NAME,
        "image": STORE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": list(_COMMAND),
        "workingDir": keys.FOLDER,  # The folder in which it looks for security.toml.
        "env": [{"name": "HOME", "value": "/data"}],
        "ports": [{"name": "s3", "containerPort": PORT}],
        "readinessProbe": {**healthy, "periodSeconds": 1, "timeoutSeconds": 2},
        "livenessProbe": {
            **healthy,
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": {
            "requests": {"cpu": "20m", "memory": "128Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "keys", "mountPath": keys.FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _metadata() -> dict[str, Any]:
    return {"name": NAME, "namespace": NAMESPACE, "labels": {**MANAGED_BY, **_SELECTOR}}
