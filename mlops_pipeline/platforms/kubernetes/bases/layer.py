"""A layer in a cluster: what every layer does, and what each declares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import AccessDeniedError
from mlops_pipeline.clients.kubernetes import Access, KubernetesApi
from mlops_pipeline.platforms.kubernetes.bases.rights import REMEDY, describe, missing
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort
from mlops_pipeline.platforms.layers import Change, Diagnosis, HealthCheck, LayerState
from mlops_pipeline.settings.layers import LayerSettings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore

Question = tuple[str, Callable[[], Diagnosis]]
"""What to examine in a cluster, and how."""


class ClusterLayer(ABC):
    """One layer. Platforms loop over these attributes; no other file lists layers by name."""

    name: str
    """Its asset key below the platform's prefix."""
    description: str
    """What exists when the layer is ready, in one sentence."""
    kinds: tuple[str, ...]
    """Up to three technologies, for the icons in the UI."""
    serves_models = False
    """Whether a deployment requires it."""
    is_foreign = False
    """Whether somebody else created it, so that it is only used."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is contacted."""
        self._parts = parts

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings enable the layer."""
        return True

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the layers below it."""
        return ("cluster",)

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Checks after each materialization; they block the layers that require this one."""
        return ()

    @property
    def namespace(self) -> str:
        """The namespace of its pods; empty if it has none."""
        return ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the programs, charts, manifests and groups of images that it needs."""
        return ()

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights that the kubeconfig's user needs for it."""
        return ()

    @property
    def addresses(self) -> int:
        """Number of addresses that its Services of type LoadBalancer need, checks included."""
        return 0

    @property
    def ports(self) -> tuple[ServicePort, ...]:
        """Ports of its Services that this machine uses."""
        return ()

    def check_version(self, kubernetes: str) -> str:
        """Return a warning if it may not run on this version (`v1.34.4`), else "".

        Raises:
            ConfigurationError: it does not run on this version.
        """
        return ""

    def diagnose(self) -> Iterable[Diagnosis]:
        """Check what it needs of this machine and of the settings. Contacts no cluster."""
        return ()

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield what to examine in an existing cluster before anything is changed."""
        yield from ()

    def users(self) -> tuple[str, ...]:
        """Name the objects of others that need the layer: `SeldonDeployment team/model`."""
        return ()

    def require_rights(self, api: KubernetesApi) -> None:
        """Refuse to begin what the kubeconfig's user may not finish.

        Raises:
            AccessDeniedError: every right that is missing.
        """
        if self.rights and (lacked := missing(api, self.rights)):
            raise AccessDeniedError(
                f"could not bring up {self.name}: not allowed: {describe(lacked)}; {REMEDY}"
            )

    @abstractmethod
    def observe(self) -> LayerState:
        """Return the current state of the layer. Changes nothing."""

    @abstractmethod
    def ensure(self) -> Change:
        """Make the layer ready from any state. Idempotent."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what this state folder created. Data stays."""


class GatewayLayer(ClusterLayer):
    """The layer with the address at which every deployment answers."""

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
        """Write the Secret for reading artifacts in a namespace; return whether it changed.

        Raises:
            ConflictError: a Secret of that name exists and is not ours.
            NotFoundError: the layer is absent.
        """

    @abstractmethod
    def discard(self) -> None:
        """Delete our stored data, and the Secrets with the keys."""
