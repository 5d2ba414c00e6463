"""MetalLB's speakers: one on each node, which announces the addresses."""

from collections.abc import Callable, Sequence
from functools import partial

from mlops_pipeline.clients.kubernetes import DAEMON_SET, EVENT, POD, KubernetesApi, Manifest
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.parts.base import Parts

SYSTEM = "metallb-system"
_NAME = "speaker"


def wait(parts: Parts, api: KubernetesApi) -> None:
    """Wait until each node has a speaker of the applied version.

    Raises:
        FatalStateError: a new pod cannot become ready.
        WaitTimeoutError: has what was last seen.
    """
    probe = partial(describe_unready, api, describe=pods.explain_unready)
    wait_until(
        f"DaemonSet {SYSTEM}/{_NAME}",
        patiently(pods.replacing_failed(api, probe, lambda: _speakers(api))),
        timeout=parts.settings.ready_timeout,
        clock=parts.clock,
        hint=f"see `kubectl describe pods --namespace {SYSTEM}`",
    )


def describe_unready(
    api: KubernetesApi,
    *,
    describe: Callable[[Sequence[Manifest], Sequence[Manifest]], str] = pods.describe_unready,
) -> str | None:
    """Say why a node has no ready speaker of the applied version; None if all have one.

    `describe` says why pods are not ready; an error that it raises ends the wait.
    """
    found = api.find(DAEMON_SET, _NAME, namespace=SYSTEM)
    if found is None:
        return f"DaemonSet {SYSTEM}/{_NAME} is missing"
    status = found.get("status") or {}
    seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 1)
    wanted = status.get("desiredNumberScheduled", 0)
    counts = [status.get(key, 0) for key in ("updatedNumberScheduled", "numberAvailable")]
    there = _speakers(api)
    counts.append(sum(map(pods.is_ready, there)))
    if seen and wanted and min(counts) >= wanted:
        return None
    why = describe(there, api.list(EVENT, namespace=SYSTEM)) or "pods are being replaced"
    return f"{min(counts)} of {wanted} nodes have a speaker: {why}"


def _speakers(api: KubernetesApi) -> Sequence[Manifest]:
    return api.list(POD, namespace=SYSTEM, labels=f"component={_NAME}")
