"""The rights that the kubeconfig's user needs: for the platform itself, and for its layers."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlops_pipeline.clients.kubernetes import EVERYTHING, Access, KubernetesApi
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
    ("pods/proxy", "", ("get",)),
    ("events", "", ("list",)),
    ("deployments", APPS, READ),
    ("virtualservices", "networking.istio.io", READ),
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


def missing(api: KubernetesApi, rights: Iterable[Access]) -> list[Access]:
    """Return the rights that the cluster does not grant; one request for an administrator."""
    if api.may(EVERYTHING):
        return []
    return [access for access in rights if not api.may(access)]


def describe(missing: Sequence[Access]) -> str:
    """Name all the rights, grouping the verbs of a resource."""
    verbs: dict[Access, list[str]] = {}
    for access in missing:
        verbs.setdefault(replace(access, verb=""), []).append(access.verb)
    return "; ".join(f"{'/'.join(found)}{access}" for access, found in verbs.items())
