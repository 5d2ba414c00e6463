"""What in a cluster is ours: namespaces that we make, and what we may delete."""

import logging
from collections.abc import Callable, Mapping

from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    GATEWAY,
    JOB,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SELDON_DEPLOYMENT,
    SERVICE,
    STATEFUL_SET,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.endings import is_ending, wait_for_end
from mlops_pipeline.platforms.seldon import MANAGED_BY

_log = logging.getLogger(__name__)
_THINGS = (
    *(SERVICE, DEPLOYMENT, STATEFUL_SET, DAEMON_SET, JOB, POD),
    *(PERSISTENT_VOLUME_CLAIM, SECRET, CONFIG_MAP),
    *(GATEWAY, VIRTUAL_SERVICE, SELDON_DEPLOYMENT),
)


_EVERYWHERE = ("kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl")
"""ConfigMaps that Kubernetes and Istio put into every namespace."""


def is_ours(found: Manifest) -> bool:
    """Say whether an object carries our label."""
    return has_our_label(found.get("metadata", {}).get("labels") or {})


def has_our_label(labels: Mapping[str, str]) -> bool:
    """Say whether our label is among those of an object or a Helm release."""
    return all(labels.get(key) == value for key, value in MANAGED_BY.items())


def ensure_namespace(api: KubernetesApi, name: str, *, timeout: float, clock: Clock) -> bool:
    """Make the namespace with our label unless it is there, and return whether it was made.

    One that is there keeps its labels: it may be somebody else's. One that is ending is waited
    for, `timeout` seconds at most, since nothing can be made in it any more.
    """
    wait_for_end(api, NAMESPACE, name, timeout=timeout, clock=clock)
    if api.find(NAMESPACE, name) is not None:
        return False
    metadata = {"name": name, "labels": dict(MANAGED_BY)}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return True


def delete_ours(api: KubernetesApi, resource: Resource, name: str, *, namespace: str) -> bool:
    """Delete the object if it carries our label; return whether it was there and ours."""
    found = api.find(resource, name, namespace=namespace)
    if found is None or not is_ours(found):
        return False
    return api.delete(resource, name, namespace=namespace)


def our_namespaces(api: KubernetesApi) -> list[str]:
    """Return the names of the namespaces that we made, sorted."""
    labels = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
    return sorted(str(n["metadata"]["name"]) for n in api.list(NAMESPACE, labels=labels))


def remove_namespace(
    api: KubernetesApi, name: str, *, belongs: Callable[[str], bool] = lambda _: False
) -> bool:
    """Delete the namespace if we made it and nothing of somebody else's is in it.

    `belongs` says by its name whether an object without our label is the layer's all the same.
    """
    found = api.find(NAMESPACE, name)
    if found is None or not is_ours(found):
        return False
    if foreign := _foreign(api, name, belongs):
        _log.info("the namespace %s stays: in it are %s", name, ", ".join(foreign))
        return False
    return api.delete(NAMESPACE, name)


def _foreign(api: KubernetesApi, namespace: str, belongs: Callable[[str], bool]) -> list[str]:
    return [
        f"{resource.kind} {item['metadata']['name']}"
        for resource in _THINGS
        for item in api.list(resource, namespace=namespace)
        if not is_ours(item)
        and not item["metadata"].get("ownerReferences")
        and not is_ending(item)
        and item["metadata"]["name"] not in _EVERYWHERE
        and not belongs(item["metadata"]["name"])
    ]
