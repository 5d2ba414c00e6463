"""The kind platform: Kubernetes in containers of this machine, with all that serving needs."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.kubernetes import POD
from mlops_pipeline.platforms import store_access
from mlops_pipeline.platforms.kubernetes import pods
from mlops_pipeline.platforms.kubernetes.cluster import preflight
from mlops_pipeline.platforms.kubernetes.cluster.config import CLUSTER_LABEL
from mlops_pipeline.platforms.kubernetes.cluster.kind import KindCluster
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.environment import ImageServingEnvironment
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.kubernetes.ingress_nginx import IngressNginx
from mlops_pipeline.platforms.kubernetes.istio import charts as istio_charts
from mlops_pipeline.platforms.kubernetes.istio.layer import Istio
from mlops_pipeline.platforms.kubernetes.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.object_store import manifests as store_manifests
from mlops_pipeline.platforms.kubernetes.object_store.external import make_store
from mlops_pipeline.platforms.kubernetes.parts import Parts
from mlops_pipeline.platforms.kubernetes.seldon_core import chart as seldon_chart
from mlops_pipeline.platforms.kubernetes.seldon_core.layer import SeldonCore
from mlops_pipeline.platforms.kubernetes.serving_image.layer import ServingImage
from mlops_pipeline.platforms.layers import Diagnosis, Layer
from mlops_pipeline.settings.kind import KindSettings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects

_log = logging.getLogger(__name__)
_NAMESPACES = {
    "cluster": "kube-system",
    "metallb": "metallb-system",
    "ingress_nginx": "ingress-nginx",
    "istio": istio_charts.NAMESPACE,
    "object_store": store_manifests.NAMESPACE,
    "seldon_core": seldon_chart.NAMESPACE,
}
"""Layer → where its pods are."""


class KindPlatform:
    """A kind cluster with MetalLB, Istio, an object store, our serving image and Seldon Core."""

    name = "kind"
    gateway = "istio"
    deploys_on: tuple[str, ...] = ("istio", "seldon_core", "serving_image")

    def __init__(
        self,
        home: Path,
        settings: KindSettings,
        *,
        bundle: Path | None,
        recreate: bool = False,
        parts: Parts | None = None,
    ) -> None:
        """Nothing is contacted. `parts` are the ways to the outside; the real ones by default."""
        self._parts = parts or Parts.make(home, settings, bundle=bundle)
        self._settings = settings
        self._cluster = KindCluster(self._parts, recreate=recreate)
        self._istio = Istio(self._parts)
        self._object_store = make_store(self._parts)
        self._image = ServingImage(self._parts)
        self._environment = ImageServingEnvironment(
            self._parts.engine, self._image, temporary=self._parts.state.temporary
        )
        nginx = (IngressNginx(self._parts),) if settings.ingress_nginx else ()
        self._layers: tuple[Layer, ...] = (
            self._cluster,
            MetalLB(self._parts),
            *nginx,
            self._istio,
            self._object_store,
            self._image,
            SeldonCore(self._parts, self._image),
        )
        self._deployments = KubernetesDeployments(
            self._parts,
            Manifests(
                secret=store_access.SECRET,
                image=self._image.reference if settings.serving.images == "own" else None,
                engine=settings.seldon.engine,
                deadline=settings.ready_timeout,
            ),
            artifacts=self._object_store,
            gateway=self._istio,
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The cluster and what is in it, each after what it stands on."""
        return self._layers

    @property
    def deployments(self) -> KubernetesDeployments:
        """The SeldonDeployments of the cluster."""
        return self._deployments

    @property
    def serving_environment(self) -> ImageServingEnvironment:
        """The libraries in the serving image."""
        return self._environment

    def preflight(self) -> list[Diagnosis]:
        """Look at the container engine, the programs, and what of this machine a cluster needs."""
        return preflight.examine(self._parts)

    def gateway_url(self) -> str:
        """Return `http://<address of the gateway>`.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address.
        """
        return self._istio.url()

    def object_store(self) -> "Objects":
        """Return a client of the object store.

        Raises:
            NotFoundError: the object store layer is absent.
        """
        return self._object_store.client()

    def object_store_secret(self) -> str:
        """Return the name of the Secret that servers read artifacts with."""
        return store_access.SECRET

    def logs(self, name: str, *, lines: int) -> str:
        """Return the last `lines` of each pod of a layer or a deployment.

        A deployment is named `<name>` or `<namespace>/<name>`.

        Raises:
            NotFoundError: nothing of that name; says which there are.
        """
        if name in (layer.name for layer in self.layers):
            return self._layer_logs(name, lines)
        namespace, _, short = name.rpartition("/")
        there = self._deployments.list()
        found = [d for d in there if d.name == short and namespace in ("", d.namespace)]
        if not found:
            names = [layer.name for layer in self.layers]
            known = [*names, *(f"{d.namespace}/{d.name}" for d in there)]
            raise NotFoundError(f"nothing is called {name!r}; there are: {', '.join(known)}")
        logs = [self._deployments.logs(d.name, namespace=d.namespace, lines=lines) for d in found]
        return "\n".join(logs)

    def down(self) -> None:
        """Stop the nodes, if the cluster is ours. What is in them stays for the next `up`.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        if not any(node.running for node in self._nodes()):
            return
        if not self._cluster.is_ours():
            _log.warning("the kind cluster %s runs on: it was not made from here", self._name)
            return
        self._parts.state.prepare()
        with self._parts.locks.held("layers", purpose="stop the cluster"):
            for node in self._nodes():
                self._parts.engine.halt(node.name)

    def purge(self) -> None:
        """Delete the cluster with everything in it, if it is ours, and the state folder.

        From a cluster of somebody else, what carries our label is removed.

        Raises:
            UnavailableError: the container engine or the cluster does not answer.
            ConflictError: the folder is not one that this project made.
        """
        if self._cluster.is_ours():
            self._cluster.remove()
        elif self._nodes():
            self._leave()
        self._parts.state.purge()

    @property
    def _name(self) -> str:
        return self._settings.cluster.name

    def _nodes(self) -> tuple[ContainerInfo, ...]:
        return self._parts.engine.containers(label=f"{CLUSTER_LABEL}={self._name}")

    def _leave(self) -> None:
        """Remove what we made in a cluster of somebody else, where we have ever been in it."""
        if not self._parts.state.kubeconfig.exists():
            return
        self._deployments.delete_ours()
        for layer in reversed(self.layers):
            layer.remove()

    def _layer_logs(self, layer: str, lines: int) -> str:
        api, namespace = self._parts.api(), _NAMESPACES.get(layer)
        found = api.list(POD, namespace=namespace) if namespace else []
        return pods.logs(api, found, lines=lines) or f"{layer} has no pods, and so no log"
