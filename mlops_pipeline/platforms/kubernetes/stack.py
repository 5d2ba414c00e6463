"""Which layers there are, in the order in which they stand on each other, and those of a platform.

A further layer is a file with a class, and its row in `ROWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, GatewayLayer, StoreLayer
from mlops_pipeline.platforms.kubernetes.layers.bookinfo import Bookinfo
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
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
    """One layer, or one of several of which the settings choose."""

    layer: type[ClusterLayer]
    make: "Callable[[Any, Stack], ClusterLayer] | None" = None
    """Makes it of the parts and of what stands below it; by default of the parts alone."""


class Stack:
    """The layers of a platform, each after what it stands on, and what each is for."""

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
        """The one that routes requests."""
        return next(layer for layer in self._layers if isinstance(layer, GatewayLayer))

    @property
    def store(self) -> StoreLayer:
        """The one that keeps artifacts."""
        return next(layer for layer in self._layers if isinstance(layer, StoreLayer))

    @property
    def image(self) -> ServingImage:
        """The one that builds the model server."""
        return next(layer for layer in self._layers if isinstance(layer, ServingImage))

    def count_addresses(self) -> int:
        """Return how many addresses for Services of type LoadBalancer all layers take."""
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
"""Every layer on a cluster, whichever platform or settings ask for it."""


def layer_names() -> frozenset[str]:
    """Return the names of all layers that any settings ask for, the cluster's among them."""
    return frozenset({ExistingCluster.name, *(row.layer.name for row in ROWS)})


def former_namespaces(layers: tuple[ClusterLayer, ...]) -> frozenset[str]:
    """Return the namespaces of layers that are not among these."""
    names = {layer.name for layer in layers}
    former = (row.layer for row in ROWS if row.layer.name not in names)
    places = (getattr(layer, "namespace", "") for layer in former)
    # One that is known only by the settings is that of somebody else.
    return frozenset(place for place in places if isinstance(place, str) and place)
