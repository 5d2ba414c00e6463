"""Deployments and StatefulSets of the layers: whether they run, and why they do not."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_pipeline.clients.kubernetes import EVENT, POD, KubernetesApi, Manifest, Resource
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting
from mlops_pipeline.platforms.kubernetes.parts.base import Parts


def is_rolled_out(workload: Manifest, found: Sequence[Manifest]) -> bool:
    """Say whether every replica has the newest template and is ready, as its controller reports.

    The report may be old, so at least as many of its current pods, `found`, must be ready.
    """
    wanted = workload["spec"].get("replicas", 1)
    status: Mapping[str, Any] = workload.get("status") or {}
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return seen and counts == [wanted] * 3 and sum(map(pods.is_ready, found)) >= wanted


def describe_stopped(
    api: KubernetesApi, resource: Resource, name: str, *, namespace: str
) -> str | None:
    """Say why a Deployment or StatefulSet cannot have pods; None if it can."""
    found = api.find(resource, name, namespace=namespace)
    reason = _stopped(found)
    return f"the {resource.kind} {namespace}/{name} {reason}" if reason else None


def describe_unready(
    api: KubernetesApi, resource: Resource, name: str, *, namespace: str
) -> str | None:
    """Say why it does not run as last applied; None if it does. Changes nothing."""
    shown = f"the {resource.kind} {namespace}/{name}"
    found = api.find(resource, name, namespace=namespace)
    if found is None or _stopped(found):
        return f"{shown} {_stopped(found)}"
    there = _pods(api, found, namespace)
    if is_rolled_out(found, there):
        return None
    events = api.list(EVENT, namespace=namespace)
    reason = pods.describe_unready(there, events)
    return f"{shown}: {reason or 'its controller has not reconciled it yet'}"


def wait_for(parts: Parts, resource: Resource, name: str, *, namespace: str) -> float:
    """Wait until it runs as last applied, and return the seconds that this took.

    Existing pods that have failed are replaced, once.

    Raises:
        AccessDeniedError: the user may not read it.
        FatalStateError: a new pod cannot become ready; has the reason and its last log lines.
        WaitTimeoutError: has what was last seen.
    """
    api = parts.api()

    def look() -> str | None:
        reason = describe_unready(api, resource, name, namespace=namespace)
        if reason is not None:
            _raise_fatal(api, resource, name, namespace)
        return reason

    def find() -> Sequence[Manifest]:
        found = api.find(resource, name, namespace=namespace)
        return _pods(api, found, namespace) if found is not None else ()

    return wait_until(
        f"the {resource.kind} {namespace}/{name}",
        patiently(pods.replacing_failed(api, look, find)),
        timeout=parts.settings.ready_timeout,
        clock=parts.clock,
        hint=f"see `kubectl describe pods --namespace {namespace}`",
    )


def _raise_fatal(api: KubernetesApi, resource: Resource, name: str, namespace: str) -> None:
    found = api.find(resource, name, namespace=namespace)
    if found is not None:
        log = pods.log_reader(api, namespace=namespace)
        pods.explain_unready(
            _pods(api, found, namespace), api.list(EVENT, namespace=namespace), log=log
        )


def _stopped(found: Manifest | None) -> str:
    if found is None:
        return "is missing"
    if not is_lasting(found):
        return "is being deleted"
    return "" if found["spec"].get("replicas", 1) else "is scaled to 0"


def _pods(api: KubernetesApi, found: Manifest, namespace: str) -> Sequence[Manifest]:
    selector = found["spec"]["selector"].get("matchLabels") or {}
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    return api.list(POD, namespace=namespace, labels=labels)
