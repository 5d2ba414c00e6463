"""Upstream's manifests: read, labelled as ours, and removed by that label."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mlops_pipeline.clients.errors import AccessDeniedError, ConflictError
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    VALIDATING_WEBHOOK,
    KubernetesApi,
    Manifest,
    Resource,
    parse_all,
    resource_of,
)
from mlops_pipeline.clients.waiting import Clock, wait_until
from mlops_pipeline.platforms.kubernetes.objects import workloads
from mlops_pipeline.platforms.kubernetes.objects.endings import (
    find_lasting,
    is_ending,
    wait_for_end,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import (
    delete_ours,
    is_mine,
    is_ours,
    remove_namespace,
)
from mlops_pipeline.platforms.kubernetes.objects.states import broken_by
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Absent, Broken, LayerState
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources import ManifestFile

LAYER_LABEL = "mlops-pipeline/layer"
VERSION = "mlops-pipeline/version"
INPUTS = "mlops-pipeline/inputs"
_RBAC = "rbac.authorization.k8s.io/v1"
_CLUSTER_WIDE = (
    # Webhooks first: without their server they would refuse the next deletions.
    VALIDATING_WEBHOOK,
    Resource(_RBAC, "ClusterRoleBinding"),
    Resource(_RBAC, "ClusterRole"),
    CUSTOM_RESOURCE_DEFINITION,
)


def labels_of(layer: str) -> dict[str, str]:
    """Return the labels of every object of a layer."""
    return {**MANAGED_BY, LAYER_LABEL: layer}


def read(
    file: ManifestFile, *, layer: str, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[Manifest]:
    """Return the file's objects with the layer's labels; `change` may change each in place.

    Raises:
        ConfigurationError: the file has no manifests.
    """
    objects: list[Manifest] = []
    for manifest in parse_all(file.path.read_text()):
        changed: dict[str, Any] = copy.deepcopy(dict(manifest))
        metadata = changed["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels_of(layer)}
        change(changed)
        objects.append(changed)
    return objects


def apply(
    api: KubernetesApi, manifests: Iterable[Manifest], *, timeout: float, clock: Clock
) -> None:
    """Apply the objects. If one is being deleted, apply it again when it is gone.

    Raises:
        InvalidManifestError: one is refused; the ones before it are applied.
        WaitTimeoutError: one that was being deleted still exists.
    """
    left = list(manifests)

    def describe_ending() -> str | None:
        nonlocal left
        left = [manifest for manifest in left if is_ending(api.apply(manifest).manifest)]
        return ", ".join(_shown(manifest) for manifest in left) or None

    wait_until("the deletion of objects", describe_ending, timeout=timeout, clock=clock)


def annotations(file: ManifestFile, *, revision: int) -> dict[str, str]:
    """Return annotations that identify the applied file, and how we changed it.

    `revision` increases when a layer changes the file differently.
    """
    content = f"{revision} ".encode() + file.path.read_bytes()
    return {VERSION: file.version, INPUTS: hashlib.sha256(content).hexdigest()[:16]}


def difference(applied: Manifest, wanted: dict[str, str]) -> str:
    """Say how an object's annotations differ from `wanted`; empty if they do not."""
    there = applied["metadata"].get("annotations") or {}
    if there.get(VERSION) != wanted[VERSION]:
        return f"its version is {there.get(VERSION, 'unknown')}, expected {wanted[VERSION]}"
    if there.get(INPUTS) != wanted[INPUTS]:
        return f"another manifest of version {wanted[VERSION]} was applied"
    return ""


def version_of(applied: Manifest) -> str:
    """Return the version in an object's annotations; empty if there is none."""
    return str((applied["metadata"].get("annotations") or {}).get(VERSION, ""))


def foreign_among(api: KubernetesApi, manifests: Iterable[Manifest]) -> list[str]:
    """Name the existing objects that are not ours: applying would take them over."""
    return [
        _shown(manifest)
        for manifest in manifests
        if (found := _find(api, manifest)) is not None and not is_ours(found)
    ]


def require_ours(
    api: KubernetesApi, manifests: Iterable[Manifest], *, what: str, remedy: str
) -> None:
    """Refuse to continue if somebody else has installed the same, by any means.

    Raises:
        ConflictError: one of the objects exists without our label.
    """
    if foreign := foreign_among(api, manifests):
        more = f" and {len(foreign) - 1} more lack" if len(foreign) > 1 else " lacks"
        raise ConflictError(
            f"{what} is in the cluster already, but this project did not install it: "
            f"{foreign[0]}{more} our label; {remedy}. Nothing was changed"
        )


def observe_controller(api: KubernetesApi, name: str, *, namespace: str) -> LayerState:
    """Return the state of the only Deployment of a manifest's namespace: does it run?"""
    if find_lasting(api, DEPLOYMENT, name, namespace=namespace) is None:
        there = api.find(NAMESPACE, namespace) is not None
        return Broken(f"{namespace} exists without its controller") if there else Absent()
    return broken_by(workloads.describe_unready(api, DEPLOYMENT, name, namespace=namespace))


def remove(
    parts: Parts, *, layer: str, namespace: str, what: str, also: Iterable[Resource] = ()
) -> None:
    """Delete everything with the layer's label, and wait until its namespace is gone.

    If the namespace has objects of somebody else, it stays and only the layer's objects are
    deleted, as far as they may be listed: no further rights are required. `also` are kinds of the
    layer's objects outside of it, beside those that every layer has. Does nothing if there is no
    cluster.

    Raises:
        AccessDeniedError: an object of the layer may not be deleted.
        WaitTimeoutError: the namespace, or an object of the layer, still exists.
    """
    if (api := parts.find_api()) is None:
        return
    labels = ",".join(f"{key}={value}" for key, value in labels_of(layer).items())
    with parts.locks.held("layers", purpose=f"remove {what}"):
        timeout, clock = parts.settings.ready_timeout, parts.clock
        for resource in (*_CLUSTER_WIDE, *also):
            mine = (found for found in api.list(resource, labels=labels) if is_mine(api, found))
            names = [str(found["metadata"]["name"]) for found in mine]
            for name in names:
                api.delete(resource, name)
            for name in names:  # Deleting a definition deletes its objects.
                wait_for_end(api, resource, name, timeout=timeout, clock=clock)
        if remove_namespace(api, namespace):
            wait_for_end(api, NAMESPACE, namespace, timeout=timeout, clock=clock)
            return
        deleted = []
        for resource in api.kinds():
            for found in _listed(api, resource, namespace=namespace, labels=labels):
                name = str(found["metadata"]["name"])
                if delete_ours(api, resource, name, namespace=namespace):
                    deleted.append((resource, name))
        for resource, name in deleted:
            wait_for_end(api, resource, name, namespace=namespace, timeout=timeout, clock=clock)


def _listed(
    api: KubernetesApi, resource: Resource, *, namespace: str, labels: str
) -> Sequence[Manifest]:
    try:
        return api.list(resource, namespace=namespace, labels=labels)
    except AccessDeniedError:
        return ()


def _shown(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{manifest['kind']} {place}{metadata['name']}"


def _find(api: KubernetesApi, manifest: Manifest) -> Manifest | None:
    metadata = manifest["metadata"]
    namespace = str(metadata.get("namespace", ""))
    return api.find(resource_of(manifest), str(metadata["name"]), namespace=namespace)
