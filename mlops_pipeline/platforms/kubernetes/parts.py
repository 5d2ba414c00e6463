"""What each layer of a platform on Kubernetes is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from mlops_pipeline.clients import http
from mlops_pipeline.clients.containers import ContainerEngine, ContainerInfo, EngineApi
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.helm import Helm, HelmApi
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kind import Kind, KindApi
from mlops_pipeline.clients.kubernetes import Kubernetes, KubernetesApi
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.waiting import MONOTONIC, Clock
from mlops_pipeline.platforms.kubernetes import addresses
from mlops_pipeline.platforms.kubernetes.addresses import AddressRange
from mlops_pipeline.platforms.kubernetes.cluster import config, kubeconfig, nodes
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterBook, identity_of
from mlops_pipeline.platforms.kubernetes.endpoints import Endpoint
from mlops_pipeline.platforms.kubernetes.images import (
    BroughtImages,
    Images,
    NodeImages,
    RegistryImages,
)
from mlops_pipeline.platforms.kubernetes.sources import Sources
from mlops_pipeline.platforms.kubernetes.sources.making import make_sources
from mlops_pipeline.platforms.kubernetes.state import State
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.layers import LayerSettings

LOCK_TIMEOUT = 900.0
"""Seconds to wait for another process that changes the same thing: a whole `up` may go first."""
OWNER_LABEL = "mlops-pipeline/owner"
"""Says which state folder an object in a cluster was made from."""
_NETWORK = "kind"
"""The container network of every kind cluster."""
_NO_CLUSTER = "the cluster is not there; `mlops-pipeline up cluster` makes it"
_OUT_OF_REACH = (
    "can this machine reach the container network? Docker Desktop keeps it in a virtual machine, "
    "on Linux a firewall or a VPN may claim the address: with kind.cluster.reach = ports and `up "
    "--recreate` the cluster is reached by ports of this machine instead"
)
_PORTS_LEAD_NOWHERE = (
    "does a port of this machine lead there? `docker port` with the name of the control plane "
    "shows what is mapped; `mlops-pipeline up cluster --recreate` maps it anew"
)


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


@dataclass(frozen=True, kw_only=True)
class KindParts(Parts):
    """Those of the kind platform."""

    settings: KindSettings
    kind: Callable[[], KindApi]
    """Raises ConfigurationError where the program cannot be had."""
    bundle: Path | None = None
    """Where programs, charts and images come from; None: from PATH and the network."""

    @property
    def unreachable(self) -> str:
        """What to do where the gateway or the store does not answer from here."""
        return _OUT_OF_REACH if self.reaches_addresses else _PORTS_LEAD_NOWHERE

    @property
    def reaches_addresses(self) -> bool:
        """Whether this machine is in the container network."""
        return not config.reaches_by_ports(self.settings.cluster)

    def endpoint(self, address: str, node_ports: Mapping[int, int]) -> Endpoint:
        """Return its address, or the ports of this machine that the control plane's are mapped to.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: the container engine does not answer, or a port is not mapped.
        """
        if self.reaches_addresses:
            return Endpoint(address)
        node, host, ports = self._control_plane(), "", dict[int, int]()
        for own, port in node_ports.items():
            # Its own number here may be anybody's.
            if (way := config.way_to(node, port)) is None:
                raise UnavailableError(
                    f"no port of this machine leads to port {port} of {node.name}, as "
                    "kind.cluster.reach = ports needs: make the cluster anew with `mlops-pipeline "
                    "up cluster --recreate`, with the loss of everything in it, or set "
                    "kind.cluster.reach = addresses"
                )
            host, ports[own] = way
        return Endpoint(host, ports)

    def way_to(self, inner: int) -> tuple[str, int] | None:
        """Return the address and the port of this machine that lead to one of the control plane.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: the container engine does not answer.
        """
        return config.way_to(self._control_plane(), inner)

    def ask(self, url: str, *, timeout: float) -> HttpAnswer:
        """GET `url` at an address that the cluster has given, from a node if not from here.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: nothing answered within `timeout` seconds.
        """
        if self.reaches_addresses:
            return super().ask(url, timeout=timeout)
        return nodes.get(self.engine, self._control_plane().name, url, timeout=timeout)

    def _control_plane(self) -> ContainerInfo:
        try:
            found = nodes.find(self.engine, self.settings.cluster.name)
        except CommandError as error:
            raise UnavailableError(str(error)) from error
        if not found:
            raise NotFoundError(_NO_CLUSTER)
        return found[0]

    @classmethod
    def make(
        cls, home: Path, settings: KindSettings, *, bundle: Path | None, mirror: str = ""
    ) -> "KindParts":
        """Return the real parts. Nothing is contacted."""
        state = State(home)
        name, context = settings.cluster.name, f"kind-{settings.cluster.name}"
        sources = make_sources(state, bundle=bundle, mirror=mirror)
        engine = ContainerEngine(settings.cluster.engine)
        api = partial(_current, state.kubeconfig, context=context, owner=identity_of(home))

        def kind() -> KindApi:
            # The kind that made the cluster deletes it too, where no bundle is set any more.
            record = ClusterBook(state.cluster).find(name) if bundle is None else None
            if record is not None and record.bundle:
                with suppress(PipelineError):
                    kept = make_sources(state, bundle=Path(record.bundle), mirror=mirror)
                    return Kind(kept.binary("kind"), engine=settings.cluster.engine)
            return Kind(sources.binary("kind"), engine=settings.cluster.engine)

        def helm() -> HelmApi:
            program = sources.binary("helm")
            return Helm(
                program, kubeconfig=state.kubeconfig, context=context, home=state.helm, api=api()
            )

        return cls(
            state=state,
            settings=settings,
            sources=sources,
            locks=_locks(state),
            engine=engine,
            kind=kind,
            bundle=bundle,
            api=api,
            helm=helm,
            images=NodeImages(engine, kind, sources, name),
        )

    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> AddressRange:
        """Return a range of the container network that its clusters share.

        Raises:
            ConfigurationError: it has no room, or not for the one that the settings name.
        """
        name = self.settings.cluster.name
        return addresses.choose(
            self.engine.network(_NETWORK),
            wanted=wanted,
            existing=existing,
            least=least,
            cluster=name,
            others=lambda: nodes.pools_of_others(self.engine, name),
        )


@dataclass(frozen=True, kw_only=True)
class ExistingParts(Parts):
    """Those of a cluster that is there: its kubeconfig is the user's, read where it stands."""

    settings: KubernetesSettings

    @classmethod
    def make(
        cls, home: Path, settings: KubernetesSettings, *, bundle: Path | None, mirror: str = ""
    ) -> "ExistingParts":
        """Return the real parts. Nothing is read or contacted."""
        state = State(home)
        sources = make_sources(state, bundle=bundle, mirror=mirror)
        engine, owner = ContainerEngine(settings.engine), identity_of(home)

        def api() -> KubernetesApi:
            path = kubeconfig.locate(settings)
            return client_of(path, settings.context, path.read_bytes(), owner)

        def helm() -> HelmApi:
            return Helm(
                sources.binary("helm"),
                kubeconfig=kubeconfig.locate(settings),
                context=settings.context,
                home=state.helm,
                api=api(),
            )

        return cls(
            state=state,
            settings=settings,
            sources=sources,
            locks=_locks(state),
            engine=engine,
            api=api,
            helm=helm,
            images=delivered(settings, engine, sources),
        )

    @property
    def unreachable(self) -> str:
        """What to do where an address that the cluster gave does not answer from here."""
        return (
            "can this machine reach the addresses that the cluster gives Services of type "
            "LoadBalancer? A firewall, a VPN or a load balancer without one may be in the way; see "
            "docs/kubernetes.md"
        )

    def patience(self, seconds: float) -> float:
        """Return `ready_timeout` at least: the load balancer of a cloud takes minutes."""
        return max(seconds, self.settings.ready_timeout)

    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> AddressRange:
        """Return the range that the settings name.

        Raises:
            ConfigurationError: it is no range.
        """
        try:
            return AddressRange.parse(wanted)
        except ValueError as error:
            raise ConfigurationError(
                f"kubernetes.metallb.addresses = {wanted!r} is no range of IPv4 addresses "
                f"({error}); write `first-last` or a prefix, of addresses that nothing else uses"
            ) from error


def _locks(state: State) -> Locks:
    return Locks(state.locks, timeout=LOCK_TIMEOUT, prepare=state.prepare)


def delivered(settings: KubernetesSettings, engine: EngineApi, sources: Sources) -> Images:
    """Return the way that the settings name by which images come to the nodes."""
    chosen = settings.images
    if chosen.delivery == "kind":

        def kind() -> KindApi:
            return Kind(sources.binary("kind"), engine=settings.engine)

        return NodeImages(engine, kind, sources, chosen.cluster)
    if chosen.delivery == "none":
        return BroughtImages()
    return RegistryImages(engine, chosen.registry, plain_http=chosen.plain_http)


def _current(kubeconfig: Path, *, context: str, owner: str) -> KubernetesApi:
    """Return the cluster that the kubeconfig leads to now.

    Raises:
        NotFoundError: there is no kubeconfig, and so no cluster.
        UnavailableError: it is damaged.
    """
    try:
        found = client_of(kubeconfig, context, kubeconfig.read_bytes(), owner)
        found.require_access()
    except FileNotFoundError as error:
        raise NotFoundError(_NO_CLUSTER) from error
    except (OSError, ConfigurationError) as error:
        # Not the error's words: its advice is for a kubeconfig that the user wrote.
        raise UnavailableError(
            f"{kubeconfig} is damaged and does not lead to the cluster; `mlops-pipeline up "
            "cluster` writes it again"
        ) from error
    return found


@lru_cache(maxsize=2)
def client_of(kubeconfig: Path, context: str, _content: bytes, owner: str) -> Kubernetes:
    """Return one client for each content in this process: each step of a run makes its parts anew.

    So its connection, and where kinds are served, is found out once. What it applies says which
    state folder (`owner`) it was made from.
    """
    return Kubernetes(kubeconfig, context=context, labels={OWNER_LABEL: owner})
