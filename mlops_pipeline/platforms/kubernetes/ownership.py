"""What in a cluster is ours: namespaces that we make, and what we may delete."""

import logging
from collections.abc import Callable

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
from mlops_pipeline.clients.waiting import Clock, wait_until
from mlops_pipeline.platforms.seldon import MANAGED_BY

_log = logging.getLogger(__name__)
_THINGS = (
    *(SERVICE, DEPLOYMENT, STATEFUL_SET, DAEMON_SET, JOB, POD),
    *(PERSISTENT_VOLUME_CLAIM, SECRET, CONFIG_MAP),
    *(GATEWAY, VIRTUAL_SERVICE, SELDON_DEPLOYMENT),
)


def is_ours(found: Manifest) -> bool:
    """Say whether an object carries our label."""
    labels = found.get("metadata", {}).get("labels") or {}
    return all(labels.get(key) == value for key, value in MANAGED_BY.items())


def stays(found: Manifest | None) -> bool:
    """Say whether an object is there and not being deleted."""
    return found is not None and not found["metadata"].get("deletionTimestamp")


def ensure_namespace(api: KubernetesApi, name: str, *, timeout: float, clock: Clock) -> bool:
    """Make the namespace with our label unless it is there, and return whether it was made.

    One that is there keeps its labels: it may be somebody else's. One that is ending is waited
    for, `timeout` seconds at most, since nothing can be made in it any more.
    """

    def describe_ending() -> str | None:
        found = api.find(NAMESPACE, name)
        return None if found is None or stays(found) else "it is still being deleted"

    wait_until(
        f"the namespace {name}",
        describe_ending,
        timeout=timeout,
        clock=clock,
        hint=f"see what it waits for: `kubectl describe namespace {name}`",
    )
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
        f"{resource.kind} {metadata['name']}"
        for resource in _THINGS
        for metadata in (item["metadata"] for item in api.list(resource, namespace=namespace))
        if not is_ours({"metadata": metadata})
        and not metadata.get("ownerReferences")
        and not metadata.get("deletionTimestamp")
        and metadata["name"] != "kube-root-ca.crt"
        and not belongs(metadata["name"])
    ]
