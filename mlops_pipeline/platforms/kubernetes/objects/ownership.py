"""Which objects of a cluster are ours: namespaces that we create, and what we may delete."""

import logging
from collections.abc import Callable, Collection, Mapping

from mlops_pipeline.clients.errors import ConflictError, UnavailableError
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    NAMESPACE,
    SELDON_DEPLOYMENT,
    SERVICE_ACCOUNT,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending, wait_for_end
from mlops_pipeline.platforms.seldon import MANAGED_BY

_log = logging.getLogger(__name__)
_OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
_TRACES = {"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics"}
"""Kinds that only report on other objects or on a leader election. Nobody needs them."""
_EVERYWHERE = {
    *((CONFIG_MAP.kind, n) for n in ("kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl")),
    (SERVICE_ACCOUNT.kind, "default"),
}
"""What Kubernetes and Istio put into every namespace."""
_MADE_FOR = ("control-plane.alpha.kubernetes.io/leader", "kubernetes.io/service-account.name")
"""Annotations of objects that belong to another one: a leader election, an account's token."""


def is_ours(found: Manifest) -> bool:
    """Say whether an object carries our label."""
    return has_our_label(found.get("metadata", {}).get("labels") or {})


def is_mine(api: KubernetesApi, found: Manifest) -> bool:
    """Say whether an object carries our label and does not belong to another state folder.

    An object without a folder's label belongs to any state folder.
    """
    return is_ours(found) and not of_another(api, found["metadata"].get("labels") or {})


def of_another(api: KubernetesApi, labels: Mapping[str, str]) -> bool:
    """Say whether an object or a Helm release was created from another state folder."""
    return any(labels.get(key, value) != value for key, value in api.labels.items())


def made_elsewhere(api: KubernetesApi) -> list[str]:
    """Name the deployments and the layers' namespaces that other state folders created."""
    return [
        f"{resource.kind} {'/'.join(filter(None, (metadata.get('namespace'), metadata['name'])))}"
        for resource in (SELDON_DEPLOYMENT, NAMESPACE)
        for metadata in (found["metadata"] for found in api.list(resource, labels=_OURS))
        if of_another(api, metadata.get("labels") or {})
    ]


def has_our_label(labels: Mapping[str, str]) -> bool:
    """Say whether the labels of an object or a Helm release include ours."""
    return all(labels.get(key) == value for key, value in MANAGED_BY.items())


def ensure_namespace(api: KubernetesApi, name: str, *, timeout: float, clock: Clock) -> bool:
    """Create the namespace with our label unless it exists. Return whether it was created.

    An existing namespace keeps its labels, because it may belong to somebody else. If it is being
    deleted, wait for that, at most `timeout` seconds: nothing can be created in it any more.
    """
    wait_for_end(api, NAMESPACE, name, timeout=timeout, clock=clock)
    if api.find(NAMESPACE, name) is not None:
        return False
    metadata = {"name": name, "labels": dict(MANAGED_BY)}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return True


def delete_ours(api: KubernetesApi, resource: Resource, name: str, *, namespace: str) -> bool:
    """Delete the object if it belongs to this state folder. Return whether it was deleted."""
    found = api.find(resource, name, namespace=namespace)
    if found is None or not is_mine(api, found):
        return False
    return api.delete(resource, name, namespace=namespace)


def require_ours(
    api: KubernetesApi,
    resource: Resource,
    name: str,
    *,
    namespace: str,
    to: str,
    remedy: str = "delete it",
) -> None:
    """Refuse an object of somebody else that has the name of ours.

    `to` finishes the sentence "could not ..." in the error.

    Raises:
        ConflictError: it exists and is not ours.
    """
    found = api.find(resource, name, namespace=namespace)
    if found is not None and not is_ours(found):
        raise ConflictError(
            f"could not {to}: the {resource.kind} {namespace}/{name} exists, but this project did "
            f"not create it; {remedy}"
        )


def our_namespaces(api: KubernetesApi) -> list[str]:
    """Return the names of the namespaces that we created, sorted."""
    found = api.list(NAMESPACE, labels=_OURS)
    return sorted(str(n["metadata"]["name"]) for n in found if is_mine(api, n))


def remove_namespace(
    api: KubernetesApi, name: str, *, belongs: Callable[[str], bool] = lambda _: False
) -> bool:
    """Delete the namespace if we created it and it has no objects of anybody else.

    `belongs` says by its name whether an object without our label belongs to the layer. The
    namespace also stays if some of its content cannot be read.
    """
    found = api.find(NAMESPACE, name)
    if found is None or not is_mine(api, found):
        return False
    try:
        foreign = _foreign(api, name, belongs)
    except UnavailableError as error:
        foreign = [f"objects that could not be read: {error}"]
    if foreign:
        _log.info("kept the namespace %s, because it contains %s", name, ", ".join(foreign))
        return False
    return api.delete(NAMESPACE, name)


def _foreign(api: KubernetesApi, namespace: str, belongs: Callable[[str], bool]) -> list[str]:
    """Name the objects of any kind in a namespace that do not belong to one of ours."""
    kinds = [resource for resource in api.kinds() if resource.kind not in _TRACES]
    known = {_group_and_kind(resource.api_version, resource.kind) for resource in kinds}
    return [
        f"{resource.kind} {item['metadata']['name']}"
        for resource in kinds
        for item in api.list(resource, namespace=namespace, metadata_only=True)
        if not is_mine(api, item)
        and not is_ending(item)
        and not _is_made_for(item, known)
        and (resource.kind, item["metadata"]["name"]) not in _EVERYWHERE
        and not belongs(item["metadata"]["name"])
    ]


def _is_made_for(item: Manifest, known: Collection[tuple[str, str]]) -> bool:
    """Say whether an object belongs to another one, which is examined by itself.

    An owner of a namespaced kind is in the same namespace, or deleted. Any other owner is somebody
    else's.
    """
    metadata = item["metadata"]
    if any(name in _MADE_FOR for name in metadata.get("annotations") or ()):
        return True
    owners = [
        _group_and_kind(str(owner.get("apiVersion", "")), str(owner.get("kind", "")))
        for owner in metadata.get("ownerReferences") or ()
    ]
    return bool(owners) and all(owner in known for owner in owners)


def _group_and_kind(version: str, kind: str) -> tuple[str, str]:
    return version.rpartition("/")[0], kind
