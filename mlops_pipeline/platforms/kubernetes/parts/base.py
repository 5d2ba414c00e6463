"""What each layer gets, on any cluster."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mlops_pipeline.clients import http
from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.helm import HelmApi
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import Kubernetes, KubernetesApi
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.waiting import MONOTONIC, Clock
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.kubernetes.parts.images import Images
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources import Sources
from mlops_pipeline.settings.layers import LayerSettings

LOCK_TIMEOUT = 900.0
"""Seconds to wait for another process that changes the same: a whole `up` may run first."""
OWNER_LABEL = "mlops-pipeline/owner"
"""The label that says which state folder created an object in a cluster."""


@dataclass(frozen=True, kw_only=True)
class Parts(ABC):
    """The clients and the settings. Creating them contacts nothing."""

    state: ClusterFolder
    settings: LayerSettings
    sources: Sources
    locks: Locks
    engine: EngineApi
    api: Callable[[], KubernetesApi]
    """Raises NotFoundError while there is no cluster."""
    helm: Callable[[], HelmApi]
    """Raises ConfigurationError if the program is not available, NotFoundError as `api` does."""
    images: Images
    clock: Clock = MONOTONIC

    def find_api(self) -> KubernetesApi | None:
        """Return the cluster's client, or None if there is no cluster."""
        try:
            return self.api()
        except NotFoundError:
            return None

    @property
    @abstractmethod
    def unreachable(self) -> str:
        """What to do if an address of the cluster does not answer this machine."""

    def patience(self, seconds: float) -> float:
        """Return the seconds within which an address of the cluster must answer this machine."""
        return seconds

    @property
    def reaches_addresses(self) -> bool:
        """Whether this machine reaches the addresses of Services of type LoadBalancer."""
        return True

    def endpoint(self, address: str, node_ports: Mapping[int, int]) -> Endpoint:
        """Return where this machine reaches the Service with this address.

        `node_ports` is port of the Service → its port on every node.
        """
        return Endpoint(address)

    def ask(self, url: str, *, timeout: float) -> HttpAnswer:
        """GET `url` at an address of the cluster.

        Raises:
            UnavailableError: nothing answered within `timeout` seconds.
        """
        return http.get(url, timeout=timeout)

    @abstractmethod
    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> AddressRange:
        """Return a range for Services of type LoadBalancer.

        `existing` is the current range, if any; `wanted` is the one in the settings; `least` is the
        number of addresses that the layers need.

        Raises:
            ConfigurationError: there is none.
        """


def locks_in(state: ClusterFolder) -> Locks:
    """Return the locks of a state folder."""
    return Locks(state.locks, timeout=LOCK_TIMEOUT, prepare=state.prepare)


@lru_cache(maxsize=2)
def client_of(kubeconfig: Path, context: str, _content: bytes, owner: str) -> Kubernetes:
    """Return one client per kubeconfig content: each step of a run creates its parts again.

    So its connection, and the paths of kinds, are determined once. It labels what it applies with
    the state folder (`owner`).
    """
    return Kubernetes(kubeconfig, context=context, labels={OWNER_LABEL: owner})
