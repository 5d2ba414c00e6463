"""The seldon_core layer where Seldon Core is there already: used, and nothing is installed."""

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
from mlops_pipeline.platforms.kubernetes.objects.states import used_as_it_is
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
"""The operator's variable: the Gateway that it binds every route to."""
_ISTIO = "ISTIO_ENABLED"


_RIGHTS = (
    ("deployments", APPS, ("get",)),
    # Its webhook is asked by a dry run, for which one needs the right to do it.
    ("seldondeployments", "machinelearning.seldon.io", ("get", "create", "patch")),
)


class ExistingOperator(ClusterLayer):
    """The operator that is there. Each deployment names its images itself: it knows not of ours."""

    name = "seldon_core"
    description = "A Seldon Core that is there, which makes pods and routes of SeldonDeployments."
    kinds = ("seldon", "kubernetes")
    requires = ("istio", "serving_image")
    serves_models = True
    is_foreign = True
    _parts: ExistingParts

    def __init__(self, parts: ExistingParts) -> None:
        super().__init__(parts)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings name one that is there."""
        return isinstance(settings, KubernetesSettings) and not settings.seldon.install

    @property
    def rights(self) -> tuple[Access, ...]:
        """To look at the operator, and to ask its webhook."""
        return allow(_RIGHTS, namespace=self.namespace)

    def check_version(self, kubernetes: str) -> str:
        """Return a warning where Seldon has not tested this version; raises as `chart` does."""
        return chart.check_window(kubernetes)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Ask whether the operator is there."""
        yield "seldon core", lambda: diagnose(self._parts)

    @property
    def namespace(self) -> str:
        """Where its pods are."""
        return self._parts.settings.seldon.namespace

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That its webhook does its work."""
        return (webhook_check(self._parts.api, namespace=self.namespace),)

    def observe(self) -> LayerState:
        """Look at the operator, where it binds routes to, and whether its webhook accepts."""
        try:
            api = self._parts.api()
            reason = (
                describe_unfit(self._parts, api)
                or describe_unready(api, DEPLOYMENT, chart.MANAGER, namespace=self.namespace)
                or describe_refusal(api, namespace=self.namespace)
            )
            return Broken(reason) if reason else Ready(self._facts(api))
        except (NotFoundError, UnavailableError) as error:
            return Broken(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to go on where it does not work.

        Raises:
            ConfigurationError: it is not there, not ready, or binds routes to another Gateway.
        """
        remedy = "mend it, or set kubernetes.seldon.install to true"
        return used_as_it_is(self.observe(), what="Seldon Core", remedy=remedy)

    def remove(self) -> None:
        """Leave it: it is somebody else's."""

    def users(self) -> tuple[str, ...]:
        """Return the SeldonDeployments of somebody else: an Istio of ours may route to them."""
        return foreign_deployments(self._parts.api())

    def _facts(self, api: KubernetesApi) -> Facts:
        version = _version_in(api.get(DEPLOYMENT, chart.MANAGER, namespace=self.namespace))
        return {"version": version, "licence": chart.licence_of(version)}


def diagnose(parts: ExistingParts) -> Diagnosis:
    """Look, before anything is changed, whether the Seldon Core that is to be used is there."""
    api = parts.api()
    if reason := describe_unfit(parts, api):
        return Diagnosis("seldon core", reason, "mend it, or set kubernetes.seldon.install to true")
    namespace = parts.settings.seldon.namespace
    found = api.get(DEPLOYMENT, chart.MANAGER, namespace=namespace)
    return Diagnosis("seldon core", f"{_version_in(found)} in {namespace}")


def diagnose_foreign(api: KubernetesApi) -> Diagnosis:
    """Look, before anything is changed, whether a Seldon Core of somebody else is there."""
    if not is_release_ours(api, chart.RELEASE, namespace=chart.NAMESPACE):
        for found in api.list(DEPLOYMENT, metadata_only=True):
            metadata = found["metadata"]
            if metadata["name"] == chart.MANAGER:
                seen = f"one of somebody else is there, in the namespace {metadata['namespace']}"
                return Diagnosis("seldon core", seen, "use it (kubernetes.seldon.install = false)")
    return Diagnosis("seldon core", "ours")


def describe_unfit(parts: ExistingParts, api: KubernetesApi) -> str | None:
    """Say what of the Seldon Core that is to be used is not there or differs; None: nothing."""
    namespace, gateway = parts.settings.seldon.namespace, parts.settings.istio.reference
    if api.find(CUSTOM_RESOURCE_DEFINITION, chart.DEFINITION) is None:
        return f"the CustomResourceDefinition {chart.DEFINITION} is not there"
    found = api.find(DEPLOYMENT, chart.MANAGER, namespace=namespace)
    if found is None:
        return (
            f"the Deployment {namespace}/{chart.MANAGER} is not there; kubernetes.seldon.namespace "
            "says where the operator runs"
        )
    variables = _variables(found)
    if variables.get(_ISTIO, "").lower() != "true":
        return "its operator makes no routes for Istio (its chart's value istio.enabled)"
    if (bound := variables.get(_GATEWAY, "")) != gateway:
        return (
            f"its operator binds routes to the Gateway {bound or 'none'}, and "
            f"{gateway} is asked for: set kubernetes.istio.gateway, or its chart's istio.gateway"
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
