"""The istio layer with an existing Istio: its gateway is used, nothing is installed."""

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
from mlops_pipeline.platforms.kubernetes.objects.states import unusable, used_as_it_is
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
"""Seconds in which a gateway that is observed must answer."""
_ISTIOD = "app=istiod"


class ExistingGateway(GatewayLayer):
    """The Gateway, and its Service, which the settings name."""

    name = "istio"
    description = "The gateway of an existing Istio, through which every deployment answers."
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
        """Say whether the settings name an existing one."""
        return isinstance(settings, KubernetesSettings) and not settings.istio.install

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to read the Gateway, and istiod's version in any namespace."""
        gateways = ("gateways", "networking.istio.io", READ)
        return allow((gateways, ("deployments", APPS, ("list",))))

    @property
    def namespace(self) -> str:
        """The namespace of the gateway's pods."""
        return self._settings.service.partition("/")[0]

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether it routes."""
        return (route_check(self._try_route),)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether the Gateway exists."""
        yield "istio", lambda: diagnose(self._parts)

    def observe(self) -> LayerState:
        """Examine the Gateway, and whether its address answers."""
        try:
            api = self._parts.api()
            reason = describe_missing(self._parts, api) or self._describe_silence()
            return _unusable(reason) if reason else Ready(self._facts(api))
        except (NotFoundError, UnavailableError) as error:
            return _unusable(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to continue if it does not answer.

        Raises:
            ConfigurationError: there is no such Gateway, or it does not answer this machine.
        """
        return used_as_it_is(self.observe())

    def remove(self) -> None:
        """Leave it unchanged: it belongs to somebody else."""

    def url(self) -> str:
        """Return the URL that the settings name, or that of the Service's address.

        Raises:
            NotFoundError: the Service is missing, or has no address.
        """
        if self._settings.address:
            return self._settings.address
        namespace, _, name = self._settings.service.partition("/")
        address = find_address(self._parts.api(), name, namespace=namespace)
        if address is None:
            raise NotFoundError(
                f"the gateway's Service {self._settings.service} is missing or has no address: "
                f"{NONE_GIVEN}; set kubernetes.istio.service, or address"
            )
        return Endpoint(address).url()

    def trust(self) -> str:
        """Return no certificates: an https address needs a publicly trusted certificate."""
        return ""

    def _try_route(self) -> Finding:
        return try_route(self._parts, self.url(), trust="")

    def _describe_silence(self) -> str | None:
        """Say why the gateway does not answer this machine; None for any answer, also 404."""
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


def _unusable(reason: str) -> Broken:
    remedy = "repair it, set kubernetes.istio to another one, or set install = true"
    return unusable(reason, what="Istio", remedy=remedy)


def diagnose(parts: ExistingParts) -> Diagnosis:
    """Check, before anything is changed, whether the Istio to be used exists."""
    api = parts.api()
    if reason := describe_missing(parts, api):
        return Diagnosis(
            "istio", reason, "set kubernetes.istio to an existing Gateway, or install Istio"
        )
    return Diagnosis("istio", f"{version_of(api)}, {parts.settings.istio.gateway}")


def diagnose_foreign(api: KubernetesApi) -> Diagnosis:
    """Check, before anything is changed, whether somebody else has installed an Istio."""
    if not is_release_ours(api, charts.ISTIOD.release, namespace=charts.NAMESPACE):
        for found in api.list(DEPLOYMENT, labels=_ISTIOD, metadata_only=True):
            seen = f"somebody else has installed one: Deployment {_named(found)}"
            return Diagnosis("istio", seen, "use it (kubernetes.istio.install = false)")
    return Diagnosis("istio", "ours")


def describe_missing(parts: ExistingParts, api: KubernetesApi) -> str | None:
    """Say which part of the Istio to be used is missing; None if all exist."""
    namespace, _, name = parts.settings.istio.gateway.partition("/")
    if api.find(GATEWAY, name, namespace=namespace) is None:
        found = [f"{_named(g)}" for g in api.list(GATEWAY)]
        return (
            f"the Gateway {namespace}/{name} is missing (there are: {', '.join(found) or 'none'}); "
            "docs/kubernetes.md shows one with port 80 and every host"
        )
    return None


def version_of(api: KubernetesApi) -> str:
    """Return istiod's version from the tag of its image; empty if it cannot be read."""
    for found in api.list(DEPLOYMENT, labels=_ISTIOD):
        image = str(found["spec"]["template"]["spec"]["containers"][0]["image"])
        return image.rpartition(":")[2]
    return "unknown"


def _named(found: Manifest) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
