"""All layers, in the order of their requirements, and those of a platform.

A new layer is a file with a class, and its row in `ROWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, GatewayLayer, StoreLayer
from mlops_pipeline.platforms.kubernetes.layers.bookinfo import Bookinfo
from mlops_pipeline.platforms.kubernetes.layers.ingress_nginx import IngressNginx
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import ExistingGateway
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.layers.object_store.external import ExternalStore
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import SeaweedStore
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.existing import ExistingOperator
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.layer import SeldonCore
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.parts.base import Parts


@dataclass(frozen=True)
class Row:
    """One layer, or the alternatives among which the settings choose."""

    layer: type[ClusterLayer]
    make: "Callable[[Any, Stack], ClusterLayer] | None" = None
    """Creates it from the parts and the layers below it; by default from the parts only."""


class Stack:
    """The layers of a platform, each after those that it requires, and their roles."""

    def __init__(self, parts: Parts, cluster: ClusterLayer) -> None:
        """Nothing is contacted."""
        self._layers = [cluster]
        for row in ROWS:
            if row.layer.is_wanted(parts.settings):
                made = row.make(parts, self) if row.make is not None else row.layer(parts)
                self._layers.append(made)

    @property
    def layers(self) -> tuple[ClusterLayer, ...]:
        """All of them, the cluster first."""
        return tuple(self._layers)

    @property
    def gateway(self) -> GatewayLayer:
        """The layer that routes requests."""
        return next(layer for layer in self._layers if isinstance(layer, GatewayLayer))

    @property
    def store(self) -> StoreLayer:
        """The layer that keeps artifacts."""
        return next(layer for layer in self._layers if isinstance(layer, StoreLayer))

    @property
    def image(self) -> ServingImage:
        """The layer that builds the model server."""
        return next(layer for layer in self._layers if isinstance(layer, ServingImage))

    def count_addresses(self) -> int:
        """Return the number of addresses for Services of type LoadBalancer that all layers need."""
        return sum(layer.addresses for layer in self._layers)


ROWS: list[Row] = [
    Row(MetalLB, lambda parts, stack: MetalLB(parts, needed=stack.count_addresses)),
    Row(IngressNginx),
    Row(Istio),
    Row(ExistingGateway),
    Row(SeaweedStore),
    Row(ExternalStore),
    Row(ServingImage),
    Row(SeldonCore, lambda parts, stack: SeldonCore(parts, stack.image)),
    Row(ExistingOperator),
    Row(Bookinfo, lambda parts, stack: Bookinfo(parts, stack.gateway)),
]
"""Every layer on a cluster, of any platform and settings."""


def former_namespaces(layers: tuple[ClusterLayer, ...]) -> frozenset[str]:
    """Return the namespaces of layers that are not among `wanted`."""
    names = {layer.name for layer in layers}
    former = (row.layer for row in ROWS if row.layer.name not in names)
    places = (getattr(layer, "namespace", "") for layer in former)
    # A namespace that only the settings know belongs to somebody else.
    return frozenset(place for place in places if isinstance(place, str) and place)
