"""The memory that pods use, as the kubelets of their nodes report it."""

import json
from collections.abc import Iterator

from mlops_pipeline.clients.kubernetes import POD, KubernetesApi

_SUMMARY = "/stats/summary?only_cpu_and_memory=true"
"""https://kubernetes.io/docs/reference/instrumentation/node-metrics/"""


def used_in(api: KubernetesApi, namespace: str) -> int | None:
    """Return the bytes that the pods of a namespace use, or None if no kubelet reports them.

    A kubelet counts every few seconds, and may not know a pod yet that has just started.

    Raises:
        PipelineError: the cluster does not answer.
    """
    found = api.list(POD, namespace=namespace)
    nodes = {node for pod in found if (node := (pod.get("spec") or {}).get("nodeName"))}
    return sum(used for node in sorted(nodes) for used in _on(api, node, namespace)) or None


def _on(api: KubernetesApi, node: str, namespace: str) -> Iterator[int]:
    answer = api.ask_node(node, path=_SUMMARY)
    for pod in json.loads(answer.body).get("pods") or ():
        if pod["podRef"]["namespace"] == namespace:
            yield int((pod.get("memory") or {}).get("workingSetBytes", 0))
