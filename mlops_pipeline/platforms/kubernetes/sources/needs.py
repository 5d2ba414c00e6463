"""What the layers take from elsewhere."""

from mlops_pipeline.platforms.kubernetes.sources import BASE
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.layers import LayerSettings

ISTIO_CHARTS = ("base", "istiod", "gateway")


def needed_on_kind(settings: KindSettings) -> tuple[str, ...]:
    """Return the names of everything that the layers of the kind platform need."""
    names = ["kind", "metallb-native", "metallb"]
    if not settings.cluster.node_image:
        names += ["node"]
    if settings.ingress_nginx:
        names += ["ingress-nginx"]
    return (*names, *needed(settings))


def needed_where_it_is(settings: KubernetesSettings) -> tuple[str, ...]:
    """Return the names of what a cluster that is there needs: of the layers that are installed."""
    left_out = {
        *(() if settings.istio.install else (*ISTIO_CHARTS, "istio")),
        *(() if settings.seldon.install else ("seldon-core-operator", "seldon")),
        *(() if settings.istio.install or settings.seldon.install else ("helm",)),
    }
    names = [name for name in needed(settings) if name not in left_out]
    if settings.metallb.install:
        names += ["metallb-native", "metallb"]
    if settings.images.delivery == "kind":
        names += ["kind"]
    return tuple(names)


def needed(settings: LayerSettings) -> tuple[str, ...]:
    """Return the names of everything that the layers of every cluster need."""
    names = ["helm", *ISTIO_CHARTS, "istio", "extras"]
    if settings.samples.bookinfo:
        names += ["bookinfo"]
    if not settings.object_store.endpoint:
        names += ["storage"]
    if settings.serving.images == "own":
        names += [BASE]
    names += ["seldon-core-operator", "seldon"]
    if settings.seldon.engine:
        names += ["seldon.executor"]
    return tuple(names)
