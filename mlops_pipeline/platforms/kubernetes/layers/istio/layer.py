"""The istio layer: istiod, and the gateway at whose address every deployment answers."""

from collections.abc import Iterator

from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
    Access,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.bases.helm import HelmLayer
from mlops_pipeline.platforms.kubernetes.bases.layer import GatewayLayer, Question
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, WRITE, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.layers.istio import charts
from mlops_pipeline.platforms.kubernetes.layers.istio.door import Door
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import (
    ExistingGateway,
    diagnose_foreign,
)
from mlops_pipeline.platforms.kubernetes.layers.istio.probe import route_check, try_route
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_mine
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Facts, HealthCheck, LayerState
from mlops_pipeline.settings.layers import LayerSettings

_KEPT_BY_ISTIOD = ("istio-ca-secret", "istio-leader")
"""Objects that istiod creates and leaves behind: its authority's key, its leader elections."""


class Istio(HelmLayer, GatewayLayer):
    """Three Helm releases, our Gateway, and its certificate."""

    name = "istio"
    title = "Istio"
    description = "Istio with the gateway at whose address every deployment answers."
    kinds = ("istio", "envoy", "kubernetes")
    namespace = charts.NAMESPACE
    images = "istio"
    chart_names = charts.NAMES
    serves_models = True
    addresses = 1
    ports = charts.PORTS

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._door = Door(parts)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings install it, instead of using an existing one."""
        return not ExistingGateway.is_wanted(settings)

    @property
    def requires(self) -> tuple[str, ...]:
        """The layer that assigns an address to the gateway."""
        return (self._parts.settings.load_balancer,)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the releases, and the image of the check."""
        return (*super().sources, "extras")

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to install it, and to write our Gateway."""
        return allow((*INSTALLED, ("gateways", "networking.istio.io", WRITE)))

    @property
    def charts(self) -> tuple[Installation, ...]:
        """The definitions, istiod, and the gateway."""
        fixed = {} if self._parts.reaches_addresses else charts.GATEWAY_PORTS
        return (charts.BASE, charts.ISTIOD, charts.ingress(fixed))

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether it routes, and presents its certificate if it has one."""
        routes = route_check(lambda: try_route(self._parts, self.url(), trust=self.trust()))
        certificate = HealthCheck(
            "shows_its_certificate",
            "Port 443 of the gateway presents the certificate in the settings.",
            self._door.try_certificate,
        )
        return (routes, certificate) if self._door.has_certificate else (routes,)

    def url(self) -> str:
        """Return `http://<address>`, or `https://<address>` if it redirects plain HTTP to https.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address yet.
        """
        return self._door.url()

    def trust(self) -> str:
        """Return the certificates (PEM) that a client of an https `url` needs; empty for http."""
        return self._door.trust()

    def require(self, api: KubernetesApi) -> None:
        """Refuse a Gateway of somebody else, and files without a certificate."""
        self._door.require(api)

    def converge(self, api: KubernetesApi, steps: Steps) -> None:
        """Install the releases, and wait until the gateway answers this machine."""
        super().converge(api, steps)
        with steps.step("route"):
            self._door.open(api)

    def clear(self, api: KubernetesApi) -> None:
        """Remove our Gateway and its certificate."""
        self._door.remove(api)

    def is_begun(self, api: KubernetesApi) -> bool:
        """Say whether our Gateway exists."""
        return self._door.find(api) is not None

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine the releases' objects, our Gateway and whether its address answers."""
        yield from super().look(api)
        yield from self._door.look(api)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return its address, versions, and certificate."""
        found = api.get(DEPLOYMENT, charts.ISTIOD.deployment, namespace=charts.NAMESPACE)
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        version, kubernetes = image.rpartition(":")[2], api.version()
        warning = charts.check_window(version, kubernetes)
        return {
            **self._door.facts(api),
            "version": version,
            "kubernetes": kubernetes,
            **({"warning": warning} if warning else {}),
        }

    def check_version(self, kubernetes: str) -> str:
        """Return a warning if this Istio may not run on this Kubernetes, else "".

        Raises:
            ConfigurationError: it does not run there, or its chart is not available.
        """
        return charts.check_window(self._parts.sources.chart("istiod").version, kubernetes)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether somebody else has installed an Istio."""
        yield "istio", lambda: diagnose_foreign(api)

    def belongs(self, name: str) -> bool:
        """Say whether istiod itself creates an object of this name."""
        return name in _KEPT_BY_ISTIOD

    def users(self) -> tuple[str, ...]:
        """Return the routes and Gateways of somebody else.

        Those of Seldon's operator are not included: the layer above reports their
        SeldonDeployments.
        """
        api = self._parts.api()
        return tuple(
            f"{resource.kind} {found['metadata']['namespace']}/{found['metadata']['name']}"
            for resource in (VIRTUAL_SERVICE, GATEWAY)
            for found in api.list(resource)
            if not is_mine(api, found) and is_lasting(found) and not _is_of_seldon(found)
        )


def _is_of_seldon(found: Manifest) -> bool:
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == SELDON_DEPLOYMENT.kind for owner in owners)
