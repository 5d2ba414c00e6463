"""The seldon_core layer: the operator that turns SeldonDeployments into pods and routes."""

import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlops_pipeline.clients.errors import ConflictError, WaitTimeoutError
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    VALIDATING_WEBHOOK,
    KubernetesApi,
)
from mlops_pipeline.platforms.kubernetes.bases.helm import HelmLayer
from mlops_pipeline.platforms.kubernetes.bases.layer import Question
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.deployments import foreign_deployments
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.existing import (
    ExistingOperator,
    diagnose_foreign,
)
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.webhook import (
    describe_refusal,
    wait_for_webhook,
    webhook_check,
)
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.kubernetes.objects.states import broken_by
from mlops_pipeline.platforms.kubernetes.objects.workloads import wait_for
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import (
    Change,
    Diagnosis,
    Drifted,
    Facts,
    HealthCheck,
    LayerState,
    Ready,
)
from mlops_pipeline.settings.layers import LayerSettings

_log = logging.getLogger(__name__)
_PATIENCE = 20.0
"""Seconds in which the webhook of a running manager answers; its start takes 4."""
_INSTALLED = "mlops-pipeline/installed"


class SeldonCore(HelmLayer):
    """Seldon Core's operator, from its Helm chart, with model servers of our choice.

    helm installs the CustomResourceDefinition too, which has more than 1 MB. helm keeps it
    compressed in a Secret of its own, but `kubectl apply` would have to write it into an annotation
    of at most 256 KiB.

    Observing it includes a dry run of its webhook, which changes nothing (30 ms): the operator has
    no readiness probe, so its pod is ready seconds before it listens, and would also be ready with
    a certificate that the API server does not trust.
    """

    name = "seldon_core"
    title = "Seldon Core"
    description = "Seldon Core, which creates pods and routes for each SeldonDeployment."
    kinds = ("seldon", "kubernetes")
    requires = ("istio", "serving_image")
    namespace = chart.NAMESPACE
    images = "seldon"
    chart_names = (chart.CHART,)
    releases = (chart.RELEASE,)
    serves_models = True

    def __init__(self, parts: Parts, serving: chart.ServingImages) -> None:
        super().__init__(parts)
        self._serving = serving

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings install it, instead of using an existing one."""
        return not ExistingOperator.is_wanted(settings)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the release, and Seldon's executor if it is enabled."""
        engine = self._parts.settings.seldon.engine
        return (*super().sources, *(("seldon.executor",) if engine else ()))

    @property
    def charts(self) -> tuple[Installation, ...]:
        """The operator, with the images of our model servers."""
        return (chart.installation(self._parts.settings, self._serving),)

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether its webhook works."""
        return (webhook_check(self._parts.api),)

    def check_version(self, kubernetes: str) -> str:
        """Return a warning if Seldon has not tested this version; raises like `chart`."""
        return chart.check_window(kubernetes)

    def diagnose(self) -> Iterable[Diagnosis]:
        """Report the licence of the version to be installed if it restricts the use."""
        return chart.examine(self._parts.settings)

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether somebody else has installed a Seldon Core."""
        yield "seldon core", lambda: diagnose_foreign(api)

    def ensure(self) -> Change:
        """Install what is missing or differs, and wait until a SeldonDeployment is accepted.

        Raises the same errors as every layer of charts.
        """
        version = self._parts.settings.seldon.version
        if (licence := chart.licence_of(version)) != chart.FREE:
            _log.warning("Seldon Core %s is under the %s", version, licence)
        return super().ensure()

    def require(self, api: KubernetesApi) -> None:
        """Refuse a chart of another version than the one in the settings."""
        version = self._parts.sources.chart(chart.CHART).version
        chart.require_version(self._parts.settings, version)

    def clear(self, api: KubernetesApi) -> None:
        """Refuse to continue if SeldonDeployments of somebody else would be deleted too."""
        _refuse_foreign(api)

    def belongs(self, name: str) -> bool:
        """Say whether the operator itself creates an object of this name: its leader election."""
        return name.endswith("machinelearning.seldon.io")

    def users(self) -> tuple[str, ...]:
        """Name the SeldonDeployments that somebody else created."""
        return foreign_deployments(self._parts.api())

    def is_begun(self, api: KubernetesApi) -> bool:
        """Say whether its webhook exists."""
        return api.find(VALIDATING_WEBHOOK, chart.WEBHOOK) is not None

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine the release's objects, its model servers, and whether it accepts."""
        yield from super().look(api)
        yield self._compare_servers(api)
        yield broken_by(describe_refusal(api))

    def _compare_servers(self, api: KubernetesApi) -> LayerState:
        """Compare the operator's configuration, which can be edited, with the settings."""
        found = api.get(CONFIG_MAP, chart.CONFIG, namespace=chart.NAMESPACE)
        try:
            servers = json.loads((found.get("data") or {}).get("predictor_servers", ""))
        except ValueError:
            return Drifted((f"the ConfigMap {chart.CONFIG} has no model servers",))
        wanted = chart.servers(self._parts.settings, self._serving)
        differences = chart.describe_other_servers(servers, wanted)
        return Drifted(differences) if differences else Ready()

    def converge(self, api: KubernetesApi, steps: Steps) -> None:
        """Install it if it is incomplete, and wait until its webhook accepts."""
        (wanted,), timeout = self.charts, self._parts.settings.ready_timeout
        if not (whole := self.is_whole(api, wanted)):
            self._install(api, wanted, steps)
        self._wait_for_manager(steps)
        try:
            with steps.step("webhook"):
                wait_for_webhook(self._parts, timeout=_PATIENCE if whole else timeout)
        except WaitTimeoutError:
            if not whole:
                raise
            # Everything exists but does not answer: what remains is a new pod with a new
            # certificate.
            self._install(api, wanted, steps)
            self._wait_for_manager(steps)
            with steps.step("webhook"):
                wait_for_webhook(self._parts, timeout=timeout)

    def is_whole(self, api: KubernetesApi, chart_of_it: Installation) -> bool:
        """Say whether the release, its definition and its model servers are as wanted."""
        return (
            super().is_whole(api, chart_of_it)
            and api.find(CUSTOM_RESOURCE_DEFINITION, chart.DEFINITION) is not None
            and isinstance(self._compare_servers(api), Ready)
        )

    def extra(self, wanted: Installation) -> Mapping[str, Any]:
        """Return an annotation of the operator's pod that is new each time.

        Each installation of the chart creates a new certificate for the webhook, and the operator
        reads it only at its start. So its pod must be replaced too.
        """
        annotations = {_INSTALLED: secrets.token_hex(8)}
        return {"manager": {**wanted.values["manager"], "annotations": annotations}}

    def _install(self, api: KubernetesApi, wanted: Installation, steps: Steps) -> None:
        with steps.step("chart"):
            self.install(api, wanted)

    def _wait_for_manager(self, steps: Steps) -> None:
        with steps.step("operator"):
            wait_for(self._parts, DEPLOYMENT, chart.MANAGER, namespace=chart.NAMESPACE)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return its version, its licence, and the images of the model servers."""
        found = api.get(DEPLOYMENT, chart.MANAGER, namespace=chart.NAMESPACE)
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        version = image.rpartition(":")[2]
        wanted = chart.servers(self._parts.settings, self._serving)
        images = {
            f"{server} ({protocol})": f"{split['image']}:{split['defaultImageVersion']}"
            for server, entry in wanted.items()
            for protocol, split in entry["protocols"].items()
        }
        return {"version": version, "licence": chart.licence_of(version), **images}


def _refuse_foreign(api: KubernetesApi) -> None:
    if foreign := foreign_deployments(api):
        raise ConflictError(
            "could not remove Seldon Core: this would delete objects that this project did not "
            f"create: {', '.join(foreign)}; delete them first"
        )
