"""A layer in a cluster: what every layer does, and what this one says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mlops_pipeline.clients.kubernetes import Access, KubernetesApi
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort
from mlops_pipeline.platforms.layers import Change, Diagnosis, HealthCheck, LayerState
from mlops_pipeline.settings.layers import LayerSettings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore

Question = tuple[str, Callable[[], Diagnosis]]
"""What is looked at in a cluster, and how."""


class ClusterLayer(ABC):
    """One layer. Platforms loop over these attributes; no other file lists layers by name."""

    name: str
    """Its asset key below the platform's prefix."""
    description: str
    """What exists when the layer is ready, in one sentence."""
    kinds: tuple[str, ...]
    """Up to three technologies, for the icons in the UI."""
    serves_models = False
    """Whether a deployment stands on it."""
    is_foreign = False
    """Whether somebody else has made it, so that it is only used."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is contacted."""
        self._parts = parts

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether these settings ask for the layer."""
        return True

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the layers below it."""
        return ("cluster",)

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """What is tried after each materialization; blocks what stands on the layer."""
        return ()

    @property
    def namespace(self) -> str:
        """Where its pods are; empty where it has none."""
        return ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the programs, charts, manifests and groups of images that it needs."""
        return ()

    @property
    def rights(self) -> tuple[Access, ...]:
        """What the kubeconfig's user must be allowed to do for it."""
        return ()

    @property
    def addresses(self) -> int:
        """How many addresses for Services of type LoadBalancer it takes, checks included."""
        return 0

    @property
    def ports(self) -> tuple[ServicePort, ...]:
        """Ports of its Services that this machine uses."""
        return ()

    def check_version(self, kubernetes: str) -> str:
        """Return a warning where it is not known to run on this version (`v1.34.4`), or "".

        Raises:
            ConfigurationError: it is known not to run there.
        """
        return ""

    def diagnose(self) -> Iterable[Diagnosis]:
        """Look at what of this machine and of the settings it needs. Contacts no cluster."""
        return ()

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Return what to look at in a cluster of somebody else before anything is changed."""
        yield from ()

    def users(self) -> tuple[str, ...]:
        """Return what of somebody else's needs the layer: `SeldonDeployment team/model`."""
        return ()

    @abstractmethod
    def observe(self) -> LayerState:
        """Look at the layer as it is now. Changes nothing."""

    @abstractmethod
    def ensure(self) -> Change:
        """Make the layer ready from whatever state it is in. Idempotent."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what this state folder made of it. Data stays."""


class GatewayLayer(ClusterLayer):
    """The layer whose one address every deployment answers at."""

    @abstractmethod
    def url(self) -> str:
        """Return `http://<address of the gateway>`.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address.
        """

    @abstractmethod
    def trust(self) -> str:
        """Return the certificates (PEM) that a client of an https `url` needs."""


class StoreLayer(ClusterLayer):
    """The layer that keeps artifacts and data sets."""

    @abstractmethod
    def client(self, *, patience: float = 30.0, attempts: int = 4) -> "ObjectStore":
        """Return a client; see `ObjectStore` for the options.

        Raises:
            NotFoundError: the layer is absent.
        """

    @abstractmethod
    def ensure_secret(self, namespace: str) -> bool:
        """Write the Secret that pods in a namespace read artifacts with; return whether it changed.

        Raises:
            ConflictError: there is a Secret of that name which is not ours.
            NotFoundError: the layer is absent.
        """

    @abstractmethod
    def discard(self) -> None:
        """Delete what is stored, as far as it is ours, and the Secrets with the keys."""


def sources_of(layers: Iterable[ClusterLayer]) -> tuple[str, ...]:
    """Return the names of everything that the layers take from elsewhere, each once."""
    return tuple(dict.fromkeys(name for layer in layers for name in layer.sources))
