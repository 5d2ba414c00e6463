"""The common part of the platforms on Kubernetes: a cluster's layers, and deployments on them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.clients.kubernetes import POD
from mlops_pipeline.platforms import signing as signatures
from mlops_pipeline.platforms import store_access
from mlops_pipeline.platforms.kubernetes import leaving
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.environment import ImageServingEnvironment
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.kubernetes.objects import memory, pods
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.stack import Stack, former_namespaces
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.platform import deployments_called
from mlops_pipeline.platforms.sources.providing import sources_of

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Objects

_STORED = "stored data stays too, with its keys: run this again when nobody uses it"


class ClusterPlatform(ABC):
    """A cluster with a gateway, an object store, our serving image and Seldon Core."""

    name: str
    reads_elsewhere = True
    store_id = ""

    def __init__(
        self,
        parts: Parts,
        stack: Stack,
        *,
        pull_secret: str = "",
        signing: signatures.Signing | None = None,
    ) -> None:
        """Nothing is contacted. For the options see `Manifests`.

        Without `signing`, artifacts are neither signed nor verified.
        """
        self.signing = signing or signatures.Signing.off()
        self._parts = parts
        self._stack = stack
        settings, image = parts.settings, stack.image
        self._environment = ImageServingEnvironment(
            parts.engine, image, temporary=parts.state.temporary
        )
        self._deployments = KubernetesDeployments(
            parts,
            Manifests(
                secret=store_access.SECRET,
                image=image.reference if settings.serving.images == "own" else None,
                pull_secret=pull_secret,
                engine=settings.seldon.engine,
                deadline=settings.ready_timeout,
                serving=settings.serving,
                trust=self.signing.for_servers,
            ),
            artifacts=stack.store,
            gateway=stack.gateway,
        )

    @property
    def layers(self) -> tuple[ClusterLayer, ...]:
        """The cluster and the layers in it, each after those that it requires."""
        return self._stack.layers

    @property
    def gateway(self) -> str:
        """The name of the layer that routes requests."""
        return self._stack.gateway.name

    @property
    def deploys_on(self) -> tuple[str, ...]:
        """The names of the layers that a deployment requires."""
        return tuple(layer.name for layer in self.layers if layer.serves_models)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of everything that its layers download."""
        return sources_of(self.layers)

    @property
    def deployments(self) -> KubernetesDeployments:
        """The SeldonDeployments of the cluster."""
        return self._deployments

    @property
    def serving_environment(self) -> ImageServingEnvironment:
        """The libraries in the serving image."""
        return self._environment

    @property
    def verifies_when_loading(self) -> bool:
        """Whether our own image serves, which verifies signatures; Seldon's images do not."""
        return self._parts.settings.serving.images == "own"

    def pass_keys(self) -> str:
        """Change nothing: pods get the keys when they are replaced."""
        return (
            "pods use the previous keys, also when they restart, until `mlops-pipeline up` (of "
            "manifests of your own: `mlops-pipeline apply FILE`) replaces them"
        )

    def log_in(self) -> None:
        """Run the login program of the kubeconfig, if it names one.

        Raises:
            PipelineError: there is no access to the cluster.
        """
        self._parts.api().require_access()

    def provide(self) -> None:
        """Ensure that everything that its layers download is on this machine. Changes no layer.

        Raises:
            PipelineError: something is not available, or does not match its digest.
        """
        self._parts.sources.require(self.sources)

    @abstractmethod
    def preflight(self) -> Sequence[Diagnosis]:
        """Check what the platform needs. Changes nothing."""

    def gateway_url(self) -> str:
        """Return `http://<address of the gateway>`; https if it redirects plain HTTP to https.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address.
        """
        return self._stack.gateway.url()

    def gateway_trust(self) -> str:
        """Return the certificates (PEM) of the gateway if its address is https.

        Raises:
            NotFoundError: there is no cluster.
        """
        return self._stack.gateway.trust()

    def object_store(self) -> "Objects":
        """Return a client of the object store.

        Raises:
            NotFoundError: the object store layer is absent.
        """
        return self._stack.store.client()

    def object_store_secret(self) -> str:
        """Return the name of the Secret with the servers' keys for reading artifacts."""
        return store_access.SECRET

    def memory_of(self, layer: str) -> int | None:
        """Return the bytes that the pods of a layer use, as their kubelets report them."""
        namespace = self._namespaces.get(layer) if layer != "cluster" else None
        try:
            return memory.used_in(self._parts.api(), namespace) if namespace else None
        except PipelineError:
            return None

    def logs(self, name: str, *, lines: int) -> str:
        """Return the last `lines` of each pod of a layer or a deployment.

        A deployment is named `<name>` or `<namespace>/<name>`.

        Raises:
            NotFoundError: the name is unknown; has the known names.
        """
        if name in self._layer_names:
            return self._layer_logs(name, lines)
        found = deployments_called(name, self)
        logs = [self._deployments.logs(d.name, namespace=d.namespace, lines=lines) for d in found]
        return "\n".join(logs)

    @abstractmethod
    def down(self) -> tuple[str, ...]:
        """Stop what runs, and return messages: what was done, what stays and why."""

    @abstractmethod
    def purge(self) -> tuple[str, ...]:
        """Remove the data too, and return messages."""

    @property
    def _layer_names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    @property
    def _namespaces(self) -> Mapping[str, str]:
        return {layer.name: layer.namespace for layer in self.layers if layer.namespace}

    def _leave(self) -> dict[str, str]:
        """Remove what this state folder created from a cluster that stays; data stays too.

        Returns the remaining layers, each with the reason.
        """
        self._parts.state.prepare()
        self.deployments.delete_ours()
        return leaving.leave(self.layers[1:])

    def _leave_nothing(self) -> tuple[str, ...]:
        """Remove the data and our namespaces too, and return messages."""
        kept, places = self._leave(), self._namespaces
        if not (is_read := self._stack.store.name in kept):
            self._stack.store.discard()
        used = {places[name] for name in kept if name in places}
        former = former_namespaces(self.layers)
        return (
            *self._say(kept),
            *((_STORED,) if is_read else ()),
            *leaving.remove_namespaces(self._parts, used=used, former=former),
        )

    def _say(self, kept: Mapping[str, str]) -> tuple[str, ...]:
        """Return a sentence for each layer that remains."""
        return leaving.describe(self._parts.api(), kept)

    def _layer_logs(self, layer: str, lines: int) -> str:
        api, namespace = self._parts.api(), self._namespaces.get(layer)
        found = api.list(POD, namespace=namespace) if namespace else []
        return pods.logs(api, found, lines=lines) or f"{layer} has no pods, so it has no log"
