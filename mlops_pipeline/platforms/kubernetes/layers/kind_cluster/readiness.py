"""Whether a kind cluster is ready: its nodes, its DNS, and the pods' service account."""

from collections.abc import Iterator, Sequence

from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import FatalStateError, NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import DEPLOYMENT, NODE, SERVICE_ACCOUNT, KubernetesApi
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.cluster import nodes as nodes_of_kind
from mlops_pipeline.platforms.kubernetes.objects import workloads
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts

SYSTEM = "kube-system"
INTERVAL = 0.25


def wait(parts: KindParts, nodes: Sequence[ContainerInfo]) -> None:
    """Wait until the cluster of these nodes is ready, and names resolve in it.

    Raises:
        FatalStateError: a node has ended.
        WaitTimeoutError: has what was last seen.
    """
    settings = parts.settings.cluster
    wait_until(
        f"the kind cluster {settings.name}",
        lambda: _describe_starting(parts, nodes),
        timeout=parts.settings.ready_timeout,
        clock=parts.clock,
        interval=INTERVAL,
        hint=f"see `{settings.engine} logs {nodes[0].name}`; `mlops-pipeline up cluster "
        "--recreate` creates it again and deletes everything in it",
    )


def describe_unready(parts: KindParts, nodes: Sequence[ContainerInfo]) -> str | None:
    """Say why the cluster of these nodes is not ready; None if it is. Changes nothing."""
    kubeconfig = parts.state.kubeconfig
    if not kubeconfig.exists():
        return f"{kubeconfig} is missing; write it again with `mlops-pipeline up cluster`"
    try:
        return next(_reasons(parts.api(), len(nodes)), None)
    except (NotFoundError, UnavailableError) as error:
        return str(error)


def _describe_starting(parts: KindParts, nodes: Sequence[ContainerInfo]) -> str | None:
    engine, settings = parts.engine, parts.settings.cluster
    if (reason := describe_unready(parts, nodes)) is None:
        api, node = parts.api(), nodes[0].name
        return patiently(lambda: nodes_of_kind.describe_unresolved(engine, api, node))()
    there = nodes_of_kind.find(engine, settings.name)
    if ended := [node.name for node in there if not node.running]:
        raise FatalStateError(
            f"the kind cluster {settings.name} cannot become ready: {', '.join(ended)} "
            f"ended; see `{settings.engine} logs {ended[0]}`"
        )
    return reason


def _reasons(api: KubernetesApi, count: int) -> Iterator[str]:
    """Yield what is not ready: nodes, names, service account. kind's own wait only warns."""
    nodes = api.list(NODE)
    if len(nodes) < count:
        yield f"{len(nodes)} of {count} nodes have joined"
    for node in nodes:
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = [c for c in conditions if c["type"] == "Ready"]
        if not ready or ready[0]["status"] != "True":
            said = ready[0].get("message") if ready else ""
            why = said or "its kubelet has not reported yet"
            yield f"the node {node['metadata']['name']} is not ready: {why}"
    if reason := _describe_names(api):
        yield reason
    if api.find(SERVICE_ACCOUNT, "default", namespace="default") is None:
        yield "the default service account does not exist yet"


def _describe_names(api: KubernetesApi) -> str | None:
    """Say why no CoreDNS is ready. One of the two suffices; the other may need 10 s more."""
    found = api.find(DEPLOYMENT, "coredns", namespace=SYSTEM)
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    if any(c["type"] == "Available" and c["status"] == "True" for c in conditions):
        return None
    return workloads.describe_unready(api, DEPLOYMENT, "coredns", namespace=SYSTEM)
