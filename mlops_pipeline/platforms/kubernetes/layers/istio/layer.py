"""The istio layer: istiod, and the one gateway behind whose address every deployment answers."""

from collections.abc import Iterator

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import ConflictError, NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
    Access,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.bases.helm import HelmLayer
from mlops_pipeline.platforms.kubernetes.bases.layer import GatewayLayer, Question
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, WRITE, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.layers.istio import charts
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import GATEWAY_PORTS, NAMESPACE
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import (
    ExistingGateway,
    diagnose_foreign,
)
from mlops_pipeline.platforms.kubernetes.layers.istio.gateway import NAME, gateway_manifest
from mlops_pipeline.platforms.kubernetes.layers.istio.https import Https
from mlops_pipeline.platforms.kubernetes.layers.istio.probe import route_check, try_route
from mlops_pipeline.platforms.kubernetes.objects.edits import apply_whole, differences
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, stays, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import (
    NONE_GIVEN,
    find_endpoint,
    wait_for_address,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import delete_ours, is_mine, is_ours
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.kubernetes.objects.states import broken_by
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint, ServicePort
from mlops_pipeline.platforms.layers import (
    Broken,
    Drifted,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
)
from mlops_pipeline.settings.layers import LayerSettings

_KEPT_BY_ISTIOD = ("istio-ca-secret", "istio-leader")
"""What istiod makes by itself and leaves: its own authority's key, and which of it leads."""
_GLANCE = 5.0
"""Seconds in which a gateway that is looked at has to answer."""
_ANSWER = 30.0
"""Seconds in which a gateway whose pod is ready answers, if it can be reached at all."""


class Istio(HelmLayer, GatewayLayer):
    """Three Helm releases, our Gateway, and its certificate."""

    name = "istio"
    title = "Istio"
    description = "Istio with the gateway behind whose one address every deployment answers."
    kinds = ("istio", "envoy", "kubernetes")
    namespace = NAMESPACE
    images = "istio"
    chart_names = charts.NAMES
    serves_models = True
    addresses = 1
    ports: tuple[ServicePort, ...] = charts.PORTS

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._settings = parts.settings.istio
        self._https = Https(parts)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether none that is there is used."""
        return not ExistingGateway.is_wanted(settings)

    @property
    def requires(self) -> tuple[str, ...]:
        """The layer that gives the gateway its address."""
        return (self._parts.settings.load_balancer,)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the releases need, and the image of the check."""
        return (*super().sources, "extras")

    @property
    def rights(self) -> tuple[Access, ...]:
        """To install it, and to write our Gateway."""
        return allow((*INSTALLED, ("gateways", "networking.istio.io", WRITE)))

    @property
    def charts(self) -> tuple[Installation, ...]:
        """The definitions, istiod, and the gateway."""
        fixed = {} if self._parts.reaches_addresses else GATEWAY_PORTS
        return (charts.BASE, charts.ISTIOD, charts.ingress(fixed))

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That it routes; and that it shows its certificate where it has one."""
        routes = route_check(self._try_route)
        certificate = HealthCheck(
            "shows_its_certificate",
            "Port 443 of the gateway shows the certificate that the settings ask for.",
            self._try_certificate,
        )
        return (routes, certificate) if self._https.wanted else (routes,)

    def check_version(self, kubernetes: str) -> str:
        """Return a warning where it is not known that this Istio runs on this Kubernetes, or "".

        Raises:
            ConfigurationError: it is known not to run there, or its chart cannot be had.
        """
        return charts.check_window(self._parts.sources.chart("istiod").version, kubernetes)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Ask whether an Istio of somebody else is there."""
        yield "istio", lambda: diagnose_foreign(api)

    def require(self, api: KubernetesApi) -> None:
        """Refuse a Gateway of somebody else, and files that hold no certificate."""
        _refuse_foreign(api.find(GATEWAY, NAME, namespace=NAMESPACE))
        self._https.require()

    def converge(self, api: KubernetesApi, steps: Steps) -> None:
        """Install the releases, and make the gateway answer from here."""
        super().converge(api, steps)
        self._open(api, steps)

    def clear(self, api: KubernetesApi) -> None:
        """Remove our Gateway and its certificate."""
        delete_ours(api, GATEWAY, NAME, namespace=NAMESPACE)
        self._https.remove(api)

    def belongs(self, name: str) -> bool:
        """Say whether istiod makes an object of this name by itself."""
        return name in _KEPT_BY_ISTIOD

    def is_begun(self, api: KubernetesApi) -> bool:
        """Say whether our Gateway is there."""
        return find_lasting(api, GATEWAY, NAME, namespace=NAMESPACE) is not None

    def users(self) -> tuple[str, ...]:
        """Return the routes and Gateways of somebody else.

        What Seldon's operator makes of a SeldonDeployment counts as that, on the layer above.
        """
        api = self._parts.api()
        return tuple(
            f"{resource.kind} {found['metadata']['namespace']}/{found['metadata']['name']}"
            for resource in (VIRTUAL_SERVICE, GATEWAY)
            for found in api.list(resource)
            if not is_mine(api, found) and stays(found) and not _is_of_seldon(found)
        )

    def url(self) -> str:
        """Return `http://<address>`, or `https://<address>` where plain HTTP is redirected.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address yet.
        """
        endpoint = self._find_endpoint()
        if endpoint is None:
            raise NotFoundError(
                "the gateway has no address; bring it up with `mlops-pipeline up istio`"
            )
        return self._url_at(endpoint)

    def trust(self) -> str:
        """Return the certificates (PEM) that a client of an https `url` needs; empty for http."""
        return self._https.chain(self._parts.api()) if self._settings.https_redirect else ""

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Look at what the releases brought, at our Gateway and whether its address answers."""
        yield from super().look(api)
        listens = self._compare(find_lasting(api, GATEWAY, NAME, namespace=NAMESPACE))
        yield listens
        endpoint = self._find_endpoint()
        if endpoint is None:
            yield Broken(f"the gateway has no address: {NONE_GIVEN}")
            return
        if isinstance(listens, Ready):
            # Else its ports are not open yet, or not any more: no wonder that it is silent.
            yield self._https.observe(api, endpoint)
            yield broken_by(self._describe_silence(endpoint))

    def _compare(self, gateway: Manifest | None) -> LayerState:
        if gateway is None:
            return Broken(f"the Gateway {NAMESPACE}/{NAME} is not there")
        different = differences(gateway["spec"], gateway_manifest(self._settings)["spec"])
        named = tuple(f"the Gateway {NAMESPACE}/{NAME} differs: {what}" for what in different)
        return Drifted(named) if named else Ready()

    def _open(self, api: KubernetesApi, steps: Steps) -> None:
        """Make the gateway listen, and wait until it answers from here."""
        with steps.step("route"):
            address = wait_for_address(
                self._parts, charts.GATEWAY, namespace=NAMESPACE, of="the gateway"
            )
            endpoint = self._parts.endpoint(address, GATEWAY_PORTS)
            self._https.ensure(api, endpoint)
            self._apply_gateway(api)
            wait_until(
                f"the gateway at {self._url_at(endpoint)}",
                lambda: (
                    self._describe_silence(endpoint) or self._https.describe_other(api, endpoint)
                ),
                timeout=self._parts.patience(_ANSWER),
                clock=self._parts.clock,
                hint=self._parts.unreachable,
            )

    def _apply_gateway(self, api: KubernetesApi) -> None:
        """Apply our Gateway; istiod's webhook may refuse calls for a while after its start."""
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        wait_for_end(api, GATEWAY, NAME, namespace=NAMESPACE, timeout=timeout, clock=clock)
        wait_until(
            f"the Gateway {NAMESPACE}/{NAME}",
            lambda: describe_silence(lambda: apply_whole(api, gateway_manifest(self._settings))),
            timeout=timeout,
            clock=clock,
        )

    def _describe_silence(self, endpoint: Endpoint) -> str | None:
        """Say why the gateway does not answer from here; None for any answer, 404 among them.

        It listens only once istiod has told it of our Gateway.
        """
        try:
            http.get(endpoint.url(), timeout=_GLANCE)
        except UnavailableError as error:
            return f"{error}; {self._parts.unreachable}"
        return None

    def _find_endpoint(self) -> Endpoint | None:
        return find_endpoint(
            self._parts, charts.GATEWAY, namespace=NAMESPACE, node_ports=GATEWAY_PORTS
        )

    def _url_at(self, endpoint: Endpoint) -> str:
        return endpoint.url(scheme="https" if self._settings.https_redirect else "http")

    def _try_route(self) -> Finding:
        return try_route(self._parts, self.url(), trust=self.trust())

    def _try_certificate(self) -> Finding:
        endpoint = self._find_endpoint()
        if endpoint is None:
            return Finding(passed=False, seen=f"the gateway has no address: {NONE_GIVEN}")
        return self._https.try_certificate(self._parts.api(), endpoint)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return its address, versions, and certificate."""
        endpoint = self._find_endpoint()
        found = api.get(DEPLOYMENT, charts.ISTIOD.deployment, namespace=NAMESPACE)
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        version, kubernetes = image.rpartition(":")[2], api.version()
        facts: dict[str, str | int | float] = {
            "address": self._url_at(endpoint) if endpoint is not None else "",
            "version": version,
            "kubernetes": kubernetes,
            **self._https.facts(api),
        }
        if warning := charts.check_window(version, kubernetes):
            facts["warning"] = warning
        return facts


def _is_of_seldon(found: Manifest) -> bool:
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == SELDON_DEPLOYMENT.kind for owner in owners)


def _refuse_foreign(gateway: Manifest | None) -> None:
    if gateway is not None and not is_ours(gateway):
        raise ConflictError(
            f"could not bring up the gateway: the Gateway {NAMESPACE}/{NAME} is there and this "
            "project did not make it; delete it, nothing was changed"
        )
