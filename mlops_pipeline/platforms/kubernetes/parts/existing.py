"""What the layers in a cluster that is there already are given."""

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
from mlops_pipeline.platforms.kubernetes.parts.state import State
from mlops_pipeline.platforms.kubernetes.sources import Sources
from mlops_pipeline.platforms.kubernetes.sources.making import make_sources
from mlops_pipeline.settings.kubernetes import KubernetesSettings


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
            locks=locks_in(state),
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
