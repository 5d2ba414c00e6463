"""What the layers take from elsewhere."""

from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import LayerSettings


def needed_on_kind(settings: KindSettings) -> tuple[str, ...]:
    """Return the names of everything that the layers of the kind platform need."""
    names = ["kind", "metallb-native", "metallb"]
    if not settings.cluster.node_image:
        names += ["node"]
    if settings.ingress_nginx:
        names += ["ingress-nginx"]
    return (*names, *needed(settings))


def needed(settings: LayerSettings) -> tuple[str, ...]:
    """Return the names of everything that the layers of every cluster need."""
    names = ["helm", "base", "istiod", "gateway", "istio", "extras"]
    if settings.samples.bookinfo:
        names += ["bookinfo"]
    if not settings.object_store.endpoint:
        names += ["storage"]
    if settings.serving.images == "own":
        names += ["python"]
    names += ["seldon-core-operator", "seldon"]
    if settings.seldon.engine:
        names += ["seldon.executor"]
    return tuple(names)
