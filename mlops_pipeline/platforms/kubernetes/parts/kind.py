"""What the layers of the kind platform get."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops_pipeline.clients.containers import ContainerEngine, ContainerInfo
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
from mlops_pipeline.clients.kubernetes import KubernetesApi
from mlops_pipeline.platforms.kubernetes.cluster import config, nodes
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterBook, identity_of
from mlops_pipeline.platforms.kubernetes.parts import addresses
from mlops_pipeline.platforms.kubernetes.parts.base import Parts, client_of, locks_in
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.kubernetes.parts.images import NodeImages
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources.making import make_sources
from mlops_pipeline.settings.kind import KindSettings

_NETWORK = "kind"
"""The container network of every kind cluster."""
_NO_CLUSTER = "the cluster is missing; create it with `mlops-pipeline up cluster`"
_OUT_OF_REACH = (
    "check that this machine can reach the container network: Docker Desktop keeps it in a "
    "virtual machine, and on Linux a firewall or a VPN may use its addresses; with "
    "kind.cluster.reach = ports and `up --recreate`, the cluster is reached by ports of this "
    "machine instead"
)
_PORTS_LEAD_NOWHERE = (
    "check that a port of this machine is mapped to it: `docker port` with the name of the "
    "control plane shows the mapping; `mlops-pipeline up cluster --recreate` creates it again"
)


@dataclass(frozen=True, kw_only=True)
class KindParts(Parts):
    """The parts of the kind platform."""

    settings: KindSettings
    kind: Callable[[], KindApi]
    """Raises ConfigurationError if the program is not available."""
    bundle: Path | None = None
    """The source of programs, charts and images; None: PATH and the network."""

    @property
    def unreachable(self) -> str:
        """What to do if the gateway or the store does not answer this machine."""
        return _OUT_OF_REACH if self.reaches_addresses else _PORTS_LEAD_NOWHERE

    @property
    def reaches_addresses(self) -> bool:
        """Whether this machine is in the container network."""
        return not config.reaches_by_ports(self.settings.cluster)

    def endpoint(self, address: str, node_ports: Mapping[int, int]) -> Endpoint:
        """Return its address, or the ports of this machine that are mapped to the control plane.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: the container engine does not answer, or a port is not mapped.
        """
        if self.reaches_addresses:
            return Endpoint(address)
        node, host, ports = self._control_plane(), "", dict[int, int]()
        for own, port in node_ports.items():
            # Another program may use the same port number on this machine.
            if (way := config.way_to(node, port)) is None:
                raise UnavailableError(
                    "kind.cluster.reach = ports needs a port of this machine that leads to port "
                    f"{port} of {node.name}, but none is mapped: create the cluster again with "
                    "`mlops-pipeline up cluster --recreate`, which deletes everything in it, or "
                    "set kind.cluster.reach = addresses"
                )
            host, ports[own] = way
        return Endpoint(host, ports)

    def way_to(self, inner: int) -> tuple[str, int] | None:
        """Return the address and port of this machine that lead to a port of the control plane.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: the container engine does not answer.
        """
        return config.way_to(self._control_plane(), inner)

    def ask(self, url: str, *, timeout: float) -> HttpAnswer:
        """GET `url` at an address of the cluster, from a node if this machine cannot.

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
        state = ClusterFolder(home)
        name, context = settings.cluster.name, f"kind-{settings.cluster.name}"
        sources = make_sources(state, bundle=bundle, mirror=mirror)
        engine = ContainerEngine(settings.cluster.engine)
        api = partial(_current, state.kubeconfig, context=context, owner=identity_of(home))

        def kind() -> KindApi:
            # The kind program that created the cluster also deletes it, even if no bundle is set
            # any more.
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
            locks=locks_in(state),
            engine=engine,
            kind=kind,
            bundle=bundle,
            api=api,
            helm=helm,
            images=NodeImages(engine, kind, sources, name),
        )

    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> addresses.AddressRange:
        """Return a range of the container network that its clusters share.

        Raises:
            ConfigurationError: it has no room, or the range in the settings cannot be used.
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


def _current(kubeconfig: Path, *, context: str, owner: str) -> KubernetesApi:
    """Return the cluster that the kubeconfig currently leads to.

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
        # The error's own advice is for a kubeconfig that the user wrote.
        raise UnavailableError(
            f"{kubeconfig} is damaged and does not lead to the cluster; write it again with "
            "`mlops-pipeline up cluster`"
        ) from error
    return found
