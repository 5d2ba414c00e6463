"""The seldon_core layer: the operator that turns SeldonDeployments into pods and routes."""

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    POD,
    SECRET,
    SERVICE,
    VALIDATING_WEBHOOK,
    KubernetesApi,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.endings import is_ending, stays, wait_for_end
from mlops_pipeline.platforms.kubernetes.ownership import ensure_namespace, remove_namespace
from mlops_pipeline.platforms.kubernetes.parts import Parts
from mlops_pipeline.platforms.kubernetes.releases import (
    Installation,
    install,
    observe_release,
    uninstall,
)
from mlops_pipeline.platforms.kubernetes.seldon_core import chart
from mlops_pipeline.platforms.kubernetes.seldon_core.chart import NAMESPACE, ServingImages
from mlops_pipeline.platforms.kubernetes.seldon_core.deployments import foreign_deployments
from mlops_pipeline.platforms.kubernetes.seldon_core.webhook import describe_refusal, webhook_check
from mlops_pipeline.platforms.kubernetes.states import broken_by, needed, worst
from mlops_pipeline.platforms.kubernetes.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.workloads import (
    describe_stopped,
    describe_unready,
    wait_for,
)
from mlops_pipeline.platforms.layers import (
    Absent,
    Change,
    Drifted,
    Facts,
    HealthCheck,
    LayerState,
    Ready,
)

_log = logging.getLogger(__name__)
_NEEDED = ("helm", chart.CHART, "seldon")
_BROUGHT = (
    (VALIDATING_WEBHOOK, chart.WEBHOOK, ""),
    (SERVICE, chart.WEBHOOK_SERVICE, NAMESPACE),
    (SECRET, chart.WEBHOOK_SECRET, NAMESPACE),
    (CONFIG_MAP, chart.CONFIG, NAMESPACE),
)
"""What the release brings for SeldonDeployments to be checked and served, besides their definition.

That is 1 MB, so it is not looked at: without it a dry run is answered that the kind is unknown.
"""
_PATIENCE = 20.0
"""Seconds in which the webhook of a manager that runs answers; its start takes 4."""
_FORMER = 15.0
"""Seconds for pods of the operator that are replaced to end; they have 10 to do so."""
_PODS = "app=seldon"
_INSTALLED = "mlops-pipeline/installed"


class SeldonCore:
    """Seldon Core's operator, by its Helm chart, with model servers of our choice.

    helm installs the CustomResourceDefinition too, which has more than 1 MB: it keeps what it has
    installed in a Secret of its own, compressed, where `kubectl apply` would have to write it into
    an annotation of at most 256 KiB.
    """

    name = "seldon_core"
    description = "Seldon Core, which makes pods and routes of each SeldonDeployment."
    kinds: tuple[str, ...] = ("seldon", "kubernetes")
    requires: tuple[str, ...] = ("istio", "serving_image")
    namespace = NAMESPACE

    def __init__(self, parts: Parts, serving: ServingImages) -> None:
        self._parts = parts
        self._serving = serving

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That its webhook does its work."""
        return (webhook_check(self._parts.api),)

    def observe(self) -> LayerState:
        """Look at the release, its operator, and whether its webhook accepts a SeldonDeployment.

        The webhook is asked, by a dry run that changes nothing (30 ms): the operator has no
        readiness probe, so that its pod is ready seconds before it listens, and would be ready
        too with a certificate that the API server does not trust.
        """
        try:
            return self._observe(self._parts.api())
        except NotFoundError:
            return Absent()
        except (ConfigurationError, UnavailableError) as error:
            return broken_by(str(error))

    def ensure(self) -> Change:
        """Install what is missing or differs, and wait until a SeldonDeployment is accepted.

        Raises:
            ConfigurationError: the chart cannot be had, or is of another version than the settings
                name; nothing was changed.
            ConflictError: there is a release of that name, and it is somebody else's.
            CommandError: helm refused; among its reasons is a Seldon Core of somebody else.
            UnavailableError: the webhook does not answer.
            FatalStateError: the operator's pod cannot become ready.
        """
        version = self._parts.settings.seldon.version
        if (licence := chart.licence_of(version)) != chart.FREE:
            _log.warning("Seldon Core %s is under the %s", version, licence)
        return bring_up(self, self._parts, self._bring_up, purpose="bring up Seldon Core")

    def _bring_up(self, steps: Steps) -> Facts:
        api = self._parts.api()
        wanted = self._wanted()
        self._parts.sources.require(_NEEDED)
        version = self._parts.sources.chart(chart.CHART).version
        chart.require_version(self._parts.settings, version)
        with steps.step("images"):
            self._parts.images.ensure("seldon")
        self._converge(api, wanted, steps)
        return self._facts(api)

    def remove(self) -> None:
        """Remove the operator and, with its definition, every SeldonDeployment.

        Raises:
            ConflictError: some SeldonDeployments are not ours.
        """
        if (api := self._parts.find_api()) is None:
            return
        with self._parts.locks.held("layers", purpose="remove Seldon Core"):
            _refuse_foreign(api)
            uninstall(self._parts, chart.RELEASE, namespace=NAMESPACE)
            remove_namespace(api, NAMESPACE, belongs=_belongs)

    def users(self) -> tuple[str, ...]:
        """Return the SeldonDeployments that somebody else made."""
        return foreign_deployments(self._parts.api())

    def _observe(self, api: KubernetesApi) -> LayerState:
        wanted = self._wanted()
        release = observe_release(self._parts, api, wanted)
        webhook = api.find(VALIDATING_WEBHOOK, chart.WEBHOOK)
        if isinstance(release, Absent) and webhook is None:
            return Absent()
        return worst(self._look(api, wanted, release)) or Ready(self._facts(api))

    def _look(
        self, api: KubernetesApi, wanted: Installation, release: LayerState
    ) -> Iterator[LayerState]:
        yield needed(release, str(wanted))
        for resource, name, namespace in _BROUGHT:
            if not stays(api.find(resource, name, namespace=namespace)):
                yield broken_by(f"the {resource.kind} {name} is not there")
        yield broken_by(describe_unready(api, DEPLOYMENT, chart.MANAGER, namespace=NAMESPACE))
        yield self._compare_servers(api)
        yield broken_by(describe_refusal(api))

    def _compare_servers(self, api: KubernetesApi) -> LayerState:
        """Compare what the operator reads, which somebody may have edited, with the settings."""
        found = api.get(CONFIG_MAP, chart.CONFIG, namespace=NAMESPACE)
        try:
            servers = json.loads((found.get("data") or {}).get("predictor_servers", ""))
        except ValueError:
            return Drifted((f"the ConfigMap {chart.CONFIG} holds no model servers",))
        wanted = chart.servers(self._parts.settings, self._serving)
        differences = chart.describe_other_servers(servers, wanted)
        return Drifted(differences) if differences else Ready()

    def _wanted(self) -> Installation:
        return chart.installation(self._parts.settings, self._serving)

    def _converge(self, api: KubernetesApi, wanted: Installation, steps: Steps) -> None:
        clock, timeout = self._parts.clock, self._parts.settings.ready_timeout
        ensure_namespace(api, NAMESPACE, timeout=timeout, clock=clock)
        whole = self._is_whole(api, wanted)
        if not whole:
            self._install(wanted, steps)
        self._wait_for_manager(steps)
        try:
            self._wait_for_webhook(api, steps, timeout=_PATIENCE if whole else timeout)
        except WaitTimeoutError:
            if not whole:
                raise
            # All is there and it does not answer: a new pod with a new certificate is left to try.
            self._install(wanted, steps)
            self._wait_for_manager(steps)
            self._wait_for_webhook(api, steps, timeout=timeout)

    def _is_whole(self, api: KubernetesApi, wanted: Installation) -> bool:
        stopped = describe_stopped(api, DEPLOYMENT, chart.MANAGER, namespace=NAMESPACE)
        return (
            isinstance(observe_release(self._parts, api, wanted), Ready)
            and api.find(CUSTOM_RESOURCE_DEFINITION, chart.DEFINITION) is not None
            and all(stays(api.find(kind, name, namespace=where)) for kind, name, where in _BROUGHT)
            and stopped is None
            and isinstance(self._compare_servers(api), Ready)
        )

    def _install(self, wanted: Installation, steps: Steps) -> None:
        """Install the chart, which makes a new certificate for the webhook each time.

        The operator reads it when it starts, so its pod gets an annotation that is new each time,
        and is replaced with it.
        """
        api, clock, timeout = (
            self._parts.api(),
            self._parts.clock,
            self._parts.settings.ready_timeout,
        )
        annotations = {_INSTALLED: secrets.token_hex(8)}
        manager = {**wanted.values["manager"], "annotations": annotations}
        with steps.step("chart"):
            for resource, name, namespace in (*_BROUGHT, (DEPLOYMENT, chart.MANAGER, NAMESPACE)):
                wait_for_end(api, resource, name, namespace=namespace, timeout=timeout, clock=clock)
            install(self._parts, wanted, extra={"manager": manager})

    def _wait_for_manager(self, steps: Steps) -> None:
        with steps.step("operator"):
            wait_for(self._parts, DEPLOYMENT, chart.MANAGER, namespace=NAMESPACE)

    def _wait_for_webhook(self, api: KubernetesApi, steps: Steps, *, timeout: float) -> None:
        with steps.step("webhook"):
            self._wait_for_former_pods(api)
            wait_until(
                "Seldon Core's webhook",
                lambda: describe_refusal(api),
                timeout=timeout,
                clock=self._parts.clock,
                interval=0.25,
                hint="see `mlops-pipeline logs seldon_core`",
            )

    def _wait_for_former_pods(self, api: KubernetesApi) -> None:
        """Wait for pods that end: one of them may be the one that still answers."""

        def describe_ending() -> str | None:
            pods = api.list(POD, namespace=NAMESPACE, labels=_PODS)
            ending = [str(pod["metadata"]["name"]) for pod in pods if is_ending(pod)]
            return f"{', '.join(ending)} is ending" if ending else None

        with suppress(WaitTimeoutError):  # That of a node which is lost never ends.
            wait_until(
                "the end of the operator's former pods",
                patiently(describe_ending),
                timeout=_FORMER,
                clock=self._parts.clock,
            )

    def _facts(self, api: KubernetesApi) -> Facts:
        found = api.get(DEPLOYMENT, chart.MANAGER, namespace=NAMESPACE)
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
            "could not remove Seldon Core: with it would go what this project did not make: "
            f"{', '.join(foreign)}; delete them first"
        )


def _belongs(name: str) -> bool:
    """Say whether what the operator made by itself has this name: its leader's record."""
    return name.endswith("machinelearning.seldon.io")
