"""The istio layer where an Istio is there already: its gateway is used, nothing is installed."""

from collections.abc import Iterator

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    Access,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.bases.layer import GatewayLayer, Question
from mlops_pipeline.platforms.kubernetes.bases.rights import APPS, READ, allow
from mlops_pipeline.platforms.kubernetes.layers.istio import charts
from mlops_pipeline.platforms.kubernetes.layers.istio.probe import route_check, try_route
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import NONE_GIVEN, find_address
from mlops_pipeline.platforms.kubernetes.objects.releases import is_release_ours
from mlops_pipeline.platforms.kubernetes.objects.states import used_as_it_is
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.layers import (
    Broken,
    Change,
    Diagnosis,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
)
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.layers import LayerSettings

_GLANCE = 5.0
"""Seconds in which a gateway that is looked at has to answer."""
_ISTIOD = "app=istiod"


class ExistingGateway(GatewayLayer):
    """The Gateway, and the Service that leads to it, which the settings name."""

    name = "istio"
    description = "The gateway of an Istio that is there, by which every deployment answers."
    kinds = ("istio", "envoy", "kubernetes")
    sources = ("extras",)
    serves_models = True
    is_foreign = True
    _parts: ExistingParts

    def __init__(self, parts: ExistingParts) -> None:
        super().__init__(parts)
        self._settings = parts.settings.istio

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings name one that is there."""
        return isinstance(settings, KubernetesSettings) and not settings.istio.install

    @property
    def rights(self) -> tuple[Access, ...]:
        """To look at the Gateway, and at istiod, wherever it runs, for its version."""
        gateways = ("gateways", "networking.istio.io", READ)
        return allow((gateways, ("deployments", APPS, ("list",))))

    @property
    def namespace(self) -> str:
        """Where the gateway's pods are."""
        return self._settings.service.partition("/")[0]

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That it routes."""
        return (route_check(self._try_route),)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Ask whether the Gateway is there."""
        yield "istio", lambda: diagnose(self._parts)

    def observe(self) -> LayerState:
        """Look at the Gateway, and whether its address answers."""
        try:
            api = self._parts.api()
            reason = describe_missing(self._parts, api) or self._describe_silence()
            return Broken(reason) if reason else Ready(self._facts(api))
        except (NotFoundError, UnavailableError) as error:
            return Broken(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to go on where it does not answer.

        Raises:
            ConfigurationError: there is no such Gateway, or it does not answer from here.
        """
        remedy = "mend it, set kubernetes.istio to another, or install = true"
        return used_as_it_is(self.observe(), what="Istio", remedy=remedy)

    def remove(self) -> None:
        """Leave it: it is somebody else's."""

    def url(self) -> str:
        """Return the URL that the settings name, or that of the Service's address.

        Raises:
            NotFoundError: the Service is not there, or has no address.
        """
        if self._settings.address:
            return self._settings.address
        namespace, _, name = self._settings.service.partition("/")
        address = find_address(self._parts.api(), name, namespace=namespace)
        if address is None:
            raise NotFoundError(
                f"the gateway's Service {self._settings.service} is not there or has no address: "
                f"{NONE_GIVEN}; set kubernetes.istio.service, or address"
            )
        return Endpoint(address).url()

    def trust(self) -> str:
        """Return no certificates: an https address has to show one that everybody trusts."""
        return ""

    def _try_route(self) -> Finding:
        return try_route(self._parts, self.url(), trust="")

    def _describe_silence(self) -> str | None:
        """Say why the gateway does not answer from here; None for any answer, 404 among them."""
        try:
            http.get(self.url(), timeout=_GLANCE)
        except UnavailableError as error:
            return f"{error}; {self._parts.unreachable}"
        return None

    def _facts(self, api: KubernetesApi) -> Facts:
        return {
            "address": self.url(),
            "gateway": self._settings.gateway,
            "version": version_of(api),
        }


def diagnose(parts: ExistingParts) -> Diagnosis:
    """Look, before anything is changed, whether the Istio that is to be used is there."""
    api = parts.api()
    if reason := describe_missing(parts, api):
        return Diagnosis("istio", reason, "set kubernetes.istio to what is there, or install it")
    return Diagnosis("istio", f"{version_of(api)}, {parts.settings.istio.gateway}")


def diagnose_foreign(api: KubernetesApi) -> Diagnosis:
    """Look, before anything is changed, whether an Istio of somebody else is there."""
    if not is_release_ours(api, charts.ISTIOD.release, namespace=charts.NAMESPACE):
        for found in api.list(DEPLOYMENT, labels=_ISTIOD, metadata_only=True):
            seen = f"one of somebody else is there: Deployment {_named(found)}"
            return Diagnosis("istio", seen, "use it (kubernetes.istio.install = false)")
    return Diagnosis("istio", "ours")


def describe_missing(parts: ExistingParts, api: KubernetesApi) -> str | None:
    """Say which part of the Istio that is to be used is not there; None when all is."""
    namespace, _, name = parts.settings.istio.gateway.partition("/")
    if api.find(GATEWAY, name, namespace=namespace) is None:
        found = [f"{_named(g)}" for g in api.list(GATEWAY)]
        return (
            f"there is no Gateway {namespace}/{name} (there are: {', '.join(found) or 'none'}); "
            "one with port 80 and every host is what docs/kubernetes.md shows"
        )
    return None


def version_of(api: KubernetesApi) -> str:
    """Return the version of istiod, by the tag of its image; empty where it cannot be seen."""
    for found in api.list(DEPLOYMENT, labels=_ISTIOD):
        image = str(found["spec"]["template"]["spec"]["containers"][0]["image"])
        return image.rpartition(":")[2]
    return "unknown"


def _named(found: Manifest) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
