"""What each layer is given, on whatever cluster."""

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
from mlops_pipeline.platforms.kubernetes.parts.state import State
from mlops_pipeline.platforms.kubernetes.sources import Sources
from mlops_pipeline.settings.layers import LayerSettings

LOCK_TIMEOUT = 900.0
"""Seconds to wait for another process that changes the same thing: a whole `up` may go first."""
OWNER_LABEL = "mlops-pipeline/owner"
"""Says which state folder an object in a cluster was made from."""


@dataclass(frozen=True, kw_only=True)
class Parts(ABC):
    """The ways to the outside, and the settings. Making them contacts nothing."""

    state: State
    settings: LayerSettings
    sources: Sources
    locks: Locks
    engine: EngineApi
    api: Callable[[], KubernetesApi]
    """Raises NotFoundError while there is no cluster."""
    helm: Callable[[], HelmApi]
    """Raises ConfigurationError where the program cannot be had, NotFoundError as `api` does."""
    images: Images
    clock: Clock = MONOTONIC

    def find_api(self) -> KubernetesApi | None:
        """Return the way to the cluster, or None while there is none."""
        try:
            return self.api()
        except NotFoundError:
            return None

    @property
    @abstractmethod
    def unreachable(self) -> str:
        """What to do where an address that the cluster gave does not answer from here."""

    def patience(self, seconds: float) -> float:
        """Return the seconds in which an address that the cluster has given answers from here."""
        return seconds

    @property
    def reaches_addresses(self) -> bool:
        """Whether what the cluster gives Services of type LoadBalancer is reached from here."""
        return True

    def endpoint(self, address: str, node_ports: Mapping[int, int]) -> Endpoint:
        """Return where the Service with this address is reached from here.

        `node_ports` are its ports on every node, by its own.
        """
        return Endpoint(address)

    def ask(self, url: str, *, timeout: float) -> HttpAnswer:
        """GET `url` at an address that the cluster has given.

        Raises:
            UnavailableError: nothing answered within `timeout` seconds.
        """
        return http.get(url, timeout=timeout)

    @abstractmethod
    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> AddressRange:
        """Return a range that Services of type LoadBalancer can be given.

        `existing` is the one that they are given now, if any, `wanted` the one that the settings
        name, `least` the number of addresses that the layers take.

        Raises:
            ConfigurationError: there is none.
        """


def locks_in(state: State) -> Locks:
    """Return the locks of a state folder."""
    return Locks(state.locks, timeout=LOCK_TIMEOUT, prepare=state.prepare)


@lru_cache(maxsize=2)
def client_of(kubeconfig: Path, context: str, _content: bytes, owner: str) -> Kubernetes:
    """Return one client for each content in this process: each step of a run makes its parts anew.

    So its connection, and where kinds are served, is found out once. What it applies says which
    state folder (`owner`) it was made from.
    """
    return Kubernetes(kubeconfig, context=context, labels={OWNER_LABEL: owner})
