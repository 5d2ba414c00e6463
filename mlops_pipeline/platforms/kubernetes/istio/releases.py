"""Istio's three Helm releases: installed where something of them is missing."""

from collections.abc import Iterator

from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    GATEWAY,
    SERVICE,
    KubernetesApi,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.endings import stays, wait_for_end
from mlops_pipeline.platforms.kubernetes.endpoints import GATEWAY_PORTS
from mlops_pipeline.platforms.kubernetes.istio import charts
from mlops_pipeline.platforms.kubernetes.istio.charts import NAMESPACE
from mlops_pipeline.platforms.kubernetes.ownership import ensure_namespace
from mlops_pipeline.platforms.kubernetes.parts import Parts
from mlops_pipeline.platforms.kubernetes.releases import (
    Installation,
    install,
    observe_release,
    uninstall,
)
from mlops_pipeline.platforms.kubernetes.states import broken_by, needed
from mlops_pipeline.platforms.kubernetes.steps import Steps
from mlops_pipeline.platforms.kubernetes.workloads import (
    describe_stopped,
    describe_unready,
    wait_for,
)
from mlops_pipeline.platforms.layers import Absent, LayerState, Ready

ISTIOD = "istiod"
_INJECTOR = (
    Resource("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    "istio-sidecar-injector",
)
"""What puts the image into the gateway's pod. Without it a pod that is made anew has none."""


class Releases:
    """The releases, what they brought, and the pods that run of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        ingress = charts.ingress({} if parts.reaches_addresses else GATEWAY_PORTS)
        self._charts = (charts.BASE, charts.ISTIOD, ingress)

    def observe(self, api: KubernetesApi) -> list[LayerState] | None:
        """Return the states of the releases; None where there is none of them."""
        states = [observe_release(self._parts, api, chart) for chart in self._charts]
        if all(isinstance(state, Absent) for state in states):
            return None
        return [needed(state, str(c)) for c, state in zip(self._charts, states, strict=True)]

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Look at what they brought, one thing after the other."""
        yield broken_by(self._describe_missing(api))
        for name in (ISTIOD, charts.GATEWAY):
            yield broken_by(describe_unready(api, DEPLOYMENT, name, namespace=NAMESPACE))

    def install(self, api: KubernetesApi, steps: Steps) -> None:
        """Install those that are not whole, one on the other, and wait for their pods.

        Raises:
            ConflictError: a release of that name is somebody else's.
            CommandError: helm failed.
            UnavailableError: a pod did not become ready.
            FatalStateError: a pod cannot become ready.
        """
        clock, timeout = self._parts.clock, self._parts.settings.ready_timeout
        ensure_namespace(api, NAMESPACE, timeout=timeout, clock=clock)
        base, istiod, ingress = self._charts
        with steps.step("base"):
            self._install_unless_whole(api, base)
        with steps.step("istiod"):
            self._install_unless_whole(api, istiod, deployment=ISTIOD)
            wait_for(self._parts, DEPLOYMENT, ISTIOD, namespace=NAMESPACE)
        with steps.step("gateway"):
            self._install_unless_whole(api, ingress, deployment=charts.GATEWAY)
            wait_for(self._parts, DEPLOYMENT, charts.GATEWAY, namespace=NAMESPACE)

    def uninstall(self) -> None:
        """Remove those that are ours, the last one first. Istio's definitions stay, by its will."""
        for chart in reversed(self._charts):
            uninstall(self._parts, chart.release, namespace=NAMESPACE)

    def _install_unless_whole(
        self, api: KubernetesApi, chart: Installation, *, deployment: str = ""
    ) -> None:
        whole = isinstance(observe_release(self._parts, api, chart), Ready)
        whole = whole and not any(self._missing(api, chart))
        if whole and deployment:
            stopped = describe_stopped(api, DEPLOYMENT, deployment, namespace=NAMESPACE)
            whole = stopped is None
        if not whole:
            clock, timeout = self._parts.clock, self._parts.settings.ready_timeout
            if deployment:
                for resource in (DEPLOYMENT, SERVICE):
                    wait_for_end(
                        api, resource, deployment, namespace=NAMESPACE, timeout=timeout, clock=clock
                    )
            install(self._parts, chart)

    def _describe_missing(self, api: KubernetesApi) -> str | None:
        missing = (name for chart in self._charts for name in self._missing(api, chart))
        return next((f"{name} is not there" for name in missing), None)

    def _missing(self, api: KubernetesApi, chart: Installation) -> Iterator[str]:
        """Name what a release should have brought and is gone, one thing of each kind."""
        definition = f"gateways.{GATEWAY.api_version.partition('/')[0]}"
        if chart is charts.BASE and not stays(api.find(CUSTOM_RESOURCE_DEFINITION, definition)):
            yield f"the CustomResourceDefinition {definition}"
        if chart is charts.ISTIOD and not stays(api.find(*_INJECTOR)):
            yield f"the {_INJECTOR[0].kind} {_INJECTOR[1]}"
        service = api.find(SERVICE, charts.GATEWAY, namespace=NAMESPACE)
        if chart.release == charts.GATEWAY and not stays(service):
            yield f"the Service {NAMESPACE}/{charts.GATEWAY}"
