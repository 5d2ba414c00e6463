"""The seldon_core layer with an existing Seldon Core: it is used, nothing is installed."""

from collections.abc import Iterator

from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    Access,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, Question
from mlops_pipeline.platforms.kubernetes.bases.rights import APPS, allow
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.deployments import foreign_deployments
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.webhook import (
    describe_refusal,
    webhook_check,
)
from mlops_pipeline.platforms.kubernetes.objects.releases import is_release_ours
from mlops_pipeline.platforms.kubernetes.objects.states import unusable, used_as_it_is
from mlops_pipeline.platforms.kubernetes.objects.workloads import describe_unready
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.layers import (
    Broken,
    Change,
    Diagnosis,
    Facts,
    HealthCheck,
    LayerState,
    Ready,
)
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline.settings.layers import LayerSettings

_GATEWAY = "ISTIO_GATEWAY"
"""The operator's variable with the Gateway for all its routes."""
_ISTIO = "ISTIO_ENABLED"
_REMEDY = "repair it, or set kubernetes.seldon.install to true"


_RIGHTS = (
    ("deployments", APPS, ("get",)),
    # A dry run asks its webhook, which needs the right to create.
    ("seldondeployments", "machinelearning.seldon.io", ("get", "create", "patch")),
)


class ExistingOperator(ClusterLayer):
    """The existing operator. It does not know our images, so each deployment names them."""

    name = "seldon_core"
    description = "An existing Seldon Core, which creates pods and routes for SeldonDeployments."
    kinds = ("seldon", "kubernetes")
    requires = ("istio", "serving_image")
    serves_models = True
    is_foreign = True
    _parts: ExistingParts

    def __init__(self, parts: ExistingParts) -> None:
        super().__init__(parts)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings name an existing one."""
        return isinstance(settings, KubernetesSettings) and not settings.seldon.install

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to read the operator, and to ask its webhook."""
        return allow(_RIGHTS, namespace=self.namespace)

    def check_version(self, kubernetes: str) -> str:
        """Return a warning if Seldon has not tested this version; raises like `chart`."""
        return chart.check_window(kubernetes)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether the operator exists."""
        yield "seldon core", lambda: diagnose(self._parts)

    @property
    def namespace(self) -> str:
        """The namespace of its pods."""
        return self._parts.settings.seldon.namespace

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether its webhook works."""
        return (webhook_check(self._parts.api, namespace=self.namespace),)

    def observe(self) -> LayerState:
        """Examine the operator, the Gateway of its routes, and whether its webhook accepts."""
        try:
            api = self._parts.api()
            reason = (
                describe_unfit(self._parts, api)
                or describe_unready(api, DEPLOYMENT, chart.MANAGER, namespace=self.namespace)
                or describe_refusal(api, namespace=self.namespace)
            )
            return _unusable(reason) if reason else Ready(self._facts(api))
        except (NotFoundError, UnavailableError) as error:
            return _unusable(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to continue if it does not work.

        Raises:
            ConfigurationError: it is missing, not ready, or uses another Gateway.
        """
        return used_as_it_is(self.observe())

    def remove(self) -> None:
        """Leave it unchanged: it belongs to somebody else."""

    def users(self) -> tuple[str, ...]:
        """Name the SeldonDeployments of somebody else: our Istio may route to them."""
        return foreign_deployments(self._parts.api())

    def _facts(self, api: KubernetesApi) -> Facts:
        version = _version_in(api.get(DEPLOYMENT, chart.MANAGER, namespace=self.namespace))
        return {"version": version, "licence": chart.licence_of(version)}


def _unusable(reason: str) -> Broken:
    return unusable(reason, what="Seldon Core", remedy=_REMEDY)


def diagnose(parts: ExistingParts) -> Diagnosis:
    """Check, before anything is changed, whether the Seldon Core to be used exists."""
    api = parts.api()
    if reason := describe_unfit(parts, api):
        return Diagnosis("seldon core", reason, _REMEDY)
    namespace = parts.settings.seldon.namespace
    found = api.get(DEPLOYMENT, chart.MANAGER, namespace=namespace)
    return Diagnosis("seldon core", f"{_version_in(found)} in {namespace}")


def diagnose_foreign(api: KubernetesApi) -> Diagnosis:
    """Check, before anything is changed, whether somebody else has installed a Seldon Core."""
    if not is_release_ours(api, chart.RELEASE, namespace=chart.NAMESPACE):
        for found in api.list(DEPLOYMENT, metadata_only=True):
            metadata = found["metadata"]
            if metadata["name"] == chart.MANAGER:
                seen = f"somebody else has installed one, in the namespace {metadata['namespace']}"
                return Diagnosis("seldon core", seen, "use it (kubernetes.seldon.install = false)")
    return Diagnosis("seldon core", "ours")


def describe_unfit(parts: ExistingParts, api: KubernetesApi) -> str | None:
    """Say what of the Seldon Core to be used is missing or differs; None if nothing."""
    namespace, gateway = parts.settings.seldon.namespace, parts.settings.istio.reference
    if api.find(CUSTOM_RESOURCE_DEFINITION, chart.DEFINITION) is None:
        return f"the CustomResourceDefinition {chart.DEFINITION} is missing"
    found = api.find(DEPLOYMENT, chart.MANAGER, namespace=namespace)
    if found is None:
        return (
            f"the Deployment {namespace}/{chart.MANAGER} is missing; set "
            "kubernetes.seldon.namespace to the operator's namespace"
        )
    variables = _variables(found)
    if variables.get(_ISTIO, "").lower() != "true":
        return "its operator creates no routes for Istio (its chart's value istio.enabled)"
    if (bound := variables.get(_GATEWAY, "")) != gateway:
        return (
            f"its operator uses the Gateway {bound or 'none'}, expected {gateway}: set "
            "kubernetes.istio.gateway, or its chart's istio.gateway"
        )
    return None


def _variables(deployment: Manifest) -> dict[str, str]:
    return {
        str(variable["name"]): str(variable.get("value", ""))
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env") or ()
    }


def _version_in(deployment: Manifest) -> str:
    image = str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])
    return image.rpartition(":")[2]
