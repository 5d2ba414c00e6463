"""The rights that the kubeconfig's user needs: for the platform itself, and for its layers."""

from collections.abc import Iterable

from mlops_pipeline.clients.kubernetes import Access
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import APPS, READ, WRITE, allow

_PROBED = (
    *((name, "", WRITE) for name in ("namespaces", "pods", "services")),
    ("events", "", ("list",)),
)
"""What a check creates and removes, in a namespace of its own with a random name."""
_MODELS = (
    ("seldondeployments", "machinelearning.seldon.io", WRITE),
    ("secrets", "", WRITE),
    ("pods", "", ("get", "list", "delete")),
    ("pods/log", "", ("get",)),
    ("pods/proxy", "", ("get", "create")),  # For the metrics of a server, and its answers alone.
    ("events", "", ("list",)),
    ("deployments", APPS, (*READ, "delete")),
    ("virtualservices", "networking.istio.io", READ),
    ("destinationrules", "networking.istio.io", ("list", "delete")),
)
_EVERYWHERE = (
    ("nodes", "", ("list",)),
    ("serviceaccounts", "", ("get",)),
    ("secrets", "", ("list",)),
    ("seldondeployments", "machinelearning.seldon.io", ("list",)),
    ("virtualservices", "networking.istio.io", WRITE),
    ("customresourcedefinitions", "apiextensions.k8s.io", ("get",)),
)


def needed(layers: Iterable[ClusterLayer], *, namespace: str) -> list[Access]:
    """Return the rights that these layers and models in `namespace` need, each once."""
    own = (*allow((*_EVERYWHERE, *_PROBED)), *allow(_MODELS, namespace=namespace))
    return list(dict.fromkeys((*own, *(right for layer in layers for right in layer.rights))))
