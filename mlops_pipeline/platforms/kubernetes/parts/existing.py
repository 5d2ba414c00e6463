"""What the layers in an existing cluster get."""

from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.containers import ContainerEngine, EngineApi
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.helm import Helm, HelmApi
from mlops_pipeline.clients.kind import Kind, KindApi
from mlops_pipeline.clients.kubernetes import KubernetesApi
from mlops_pipeline.platforms.kubernetes.cluster import kubeconfig
from mlops_pipeline.platforms.kubernetes.cluster.record import identity_of
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange
from mlops_pipeline.platforms.kubernetes.parts.base import Parts, client_of, locks_in
from mlops_pipeline.platforms.kubernetes.parts.images import (
    BroughtImages,
    Images,
    NodeImages,
    RegistryImages,
)
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources import Sources
from mlops_pipeline.platforms.sources.making import make_sources
from mlops_pipeline.settings.kubernetes import KubernetesSettings


@dataclass(frozen=True, kw_only=True)
class ExistingParts(Parts):
    """The parts of an existing cluster. Its kubeconfig is the user's, read in its place."""

    settings: KubernetesSettings

    @classmethod
    def make(
        cls, home: Path, settings: KubernetesSettings, *, bundle: Path | None, mirror: str = ""
    ) -> "ExistingParts":
        """Return the real parts. Nothing is read or contacted."""
        state = ClusterFolder(home)
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
            locks=locks_in(state),
            engine=engine,
            api=api,
            helm=helm,
            images=delivered(settings, engine, sources),
        )

    @property
    def unreachable(self) -> str:
        """What to do if an address of the cluster does not answer this machine."""
        return (
            "check that this machine can reach the addresses that the cluster assigns to Services "
            "of type LoadBalancer: a firewall, a VPN or a load balancer without an address may "
            "prevent it; see docs/kubernetes.md"
        )

    def patience(self, seconds: float) -> float:
        """Return at least `ready_timeout`: a cloud's load balancer takes minutes."""
        return max(seconds, self.settings.ready_timeout)

    def choose_addresses(self, existing: str, *, wanted: str, least: int) -> AddressRange:
        """Return the range in the settings.

        Raises:
            ConfigurationError: it is not a range.
        """
        try:
            return AddressRange.parse(wanted)
        except ValueError as error:
            raise ConfigurationError(
                f"kubernetes.metallb.addresses = {wanted!r} is not a range of IPv4 addresses "
                f"({error}); write `first-last` or a prefix, of addresses that nothing else uses"
            ) from error


def delivered(settings: KubernetesSettings, engine: EngineApi, sources: Sources) -> Images:
    """Return how images get to the nodes, according to the settings."""
    chosen = settings.images
    if chosen.delivery == "kind":

        def kind() -> KindApi:
            return Kind(sources.binary("kind"), engine=settings.engine)

        return NodeImages(engine, kind, sources, chosen.cluster)
    if chosen.delivery == "none":
        return BroughtImages()
    return RegistryImages(engine, chosen.registry, plain_http=chosen.plain_http)
