"""The ingress-nginx layer: Ingress objects behind the mapped ports of the control plane.

Its maintainers retired it in March 2026; controller-v1.15.1 is its last release.
https://github.com/kubernetes/ingress-nginx/blob/controller-v1.15.1/README.md
"""

from collections.abc import Callable, Collection
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError, FatalStateError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    EVENT,
    INGRESS,
    JOB,
    POD,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.bases.manifest import ManifestLayer
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.cluster.config import HTTP, HTTPS, INGRESS_LABEL
from mlops_pipeline.platforms.kubernetes.objects import probes, upstream
from mlops_pipeline.platforms.kubernetes.objects.pods import explain_unready
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Facts, Finding, HealthCheck
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import LayerSettings

_SYSTEM = "ingress-nginx"
_CONTROLLER = "ingress-nginx-controller"
_JOBS = ("ingress-nginx-admission-create", "ingress-nginx-admission-patch")
_CLASS = "nginx"
_ANSWER = 30.0
_KEPT = 600
"""Seconds for which a completed admission job can be examined."""


class IngressNginx(ManifestLayer):
    """ingress-nginx from its manifest for kind, on the node whose ports are mapped."""

    name = "ingress_nginx"
    title = "ingress-nginx"
    description = "ingress-nginx (retired upstream) behind ports of this machine."
    kinds = ("nginx", "kubernetes")
    requires = ("metallb",)
    namespace = _SYSTEM
    manifest = images = "ingress-nginx"
    controller = _CONTROLLER
    also = (Resource("networking.k8s.io/v1", "IngressClass"),)
    addresses = 1
    remedy = "remove it, or set kind.ingress_nginx to false"
    _parts: KindParts

    def __init__(self, parts: KindParts) -> None:
        super().__init__(parts)

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether kind's settings enable it."""
        return isinstance(settings, KindSettings) and settings.ingress_nginx

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of its manifest, and the image of the check."""
        return (*super().sources, "extras")

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether an Ingress answers on the mapped port."""
        text = "A pod answers through an Ingress at the mapped port of this machine."
        return (HealthCheck("serves_an_ingress", text, self._try_ingress),)

    def _try_ingress(self) -> Finding:
        api, clock = self._parts.api(), self._parts.clock
        image = self._parts.sources.echo_image()
        with probes.echo(
            api, self._parts.images, type="ClusterIP", image=image, clock=clock
        ) as echoed:
            api.apply(_ingress(echoed))
            url = f"{self._url(HTTP)}/{echoed.namespace}"
            seconds = probes.answer_of(
                echoed,
                url,
                timeout=_ANSWER,
                clock=clock,
                hint=f"see `kubectl logs --namespace {_SYSTEM} deployment/{_CONTROLLER}`",
            )
            return Finding(passed=True, seen=f"{url} answered after {seconds:.1f} s")

    def require(self, api: KubernetesApi) -> None:
        """Refuse a cluster without mapped ports."""
        if self._parts.way_to(HTTP) is None:
            raise ConfigurationError(
                f"the cluster {self._parts.settings.cluster.name} does not map a port of this "
                f"machine to port {HTTP}, where ingress-nginx listens; create it again with "
                "`mlops-pipeline up cluster --recreate`, or set kind.ingress_nginx = false"
            )

    def change(self, manifest: dict[str, Any]) -> None:
        """Run the controller only on the node whose ports are mapped; upstream's may run on any.

        https://github.com/kubernetes/ingress-nginx/blob/controller-v1.15.1/deploy/static/provider/kind
        """
        if manifest["kind"] in (DEPLOYMENT.kind, JOB.kind):
            archives = self._parts.sources.archives(self.images)
            _take_from_archives(manifest, {i for archive in archives for i in archive.images})
        if manifest["kind"] == DEPLOYMENT.kind:
            spec = manifest["spec"]["template"]["spec"]
            spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), INGRESS_LABEL: "true"}
        if manifest["kind"] == JOB.kind:
            # Upstream deletes the jobs as soon as they end, so nobody could see their result.
            manifest["spec"]["ttlSecondsAfterFinished"] = _KEPT

    def prepare(self, api: KubernetesApi) -> None:
        """Delete previous admission jobs: a completed job cannot be changed."""
        for name in _JOBS:
            api.delete(JOB, name, namespace=_SYSTEM)
        self._wait("the deletion of its previous admission jobs", lambda: _describe_former(api))

    def wait(self, api: KubernetesApi, steps: Steps) -> None:
        """Wait for the admission jobs, the pods, and the webhook that accepts an Ingress."""
        with steps.step("jobs"):
            self._wait("the admission jobs of ingress-nginx", lambda: _describe_jobs(api))
        super().wait(api, steps)
        with steps.step("webhook"):
            self._wait("the webhook of ingress-nginx", lambda: _describe_webhook(api))

    def facts(self, api: KubernetesApi) -> Facts:
        """Return where an Ingress answers."""
        return {"address": self._url(HTTP), "https_address": self._url(HTTPS)}

    def _wait(self, what: str, describe: Callable[[], str | None]) -> None:
        wait_until(
            what,
            patiently(describe),
            timeout=self._parts.settings.ready_timeout,
            clock=self._parts.clock,
            hint=f"see `kubectl get pods,jobs --namespace {_SYSTEM}`",
        )

    def _url(self, inner: int) -> str:
        if (found := self._parts.way_to(inner)) is None:
            return ""
        host, port = found
        return f"{'https' if inner == HTTPS else 'http'}://{host}:{port}"


def _take_from_archives(workload: dict[str, Any], held: Collection[str]) -> None:
    """Refer to an archive's image by its tag: it has no digest of a registry."""
    for container in workload["spec"]["template"]["spec"]["containers"]:
        tagged, pinned, _ = container.get("image", "").partition("@")
        if pinned and tagged in held:
            container["image"] = tagged


def _describe_former(api: KubernetesApi) -> str | None:
    left = [name for name in _JOBS if api.find(JOB, name, namespace=_SYSTEM) is not None]
    return f"{', '.join(left)} still exists" if left else None


def _describe_jobs(api: KubernetesApi) -> str | None:
    """Say which admission job is not complete; None when the webhook has its certificate.

    Raises:
        FatalStateError: a job failed.
    """
    for name in _JOBS:
        found = api.find(JOB, name, namespace=_SYSTEM)
        if found is None:
            return f"{name} is missing"
        conditions = (found.get("status") or {}).get("conditions") or ()
        true = {c["type"]: c.get("message", "") for c in conditions if c["status"] == "True"}
        if "Failed" in true:
            raise FatalStateError(
                f"the job {_SYSTEM}/{name} failed: {true['Failed'] or 'it reports no reason'}; see "
                f"`kubectl logs --namespace {_SYSTEM} job/{name}`"
            )
        if "Complete" not in true:
            pods = api.list(POD, namespace=_SYSTEM, labels=f"job-name={name}")
            why = explain_unready(pods, api.list(EVENT, namespace=_SYSTEM))
            return f"{name} is not complete: {why or 'it runs'}"
    return None


def _describe_webhook(api: KubernetesApi) -> str | None:
    probe = _object("default", "mlops-pipeline-probe", "/mlops-pipeline-probe")
    return describe_silence(lambda: api.apply(probe, dry_run=True))


def _ingress(echoed: probes.Echo) -> Manifest:
    return _object(echoed.namespace, echoed.service, f"/{echoed.namespace}", port=echoed.port)


def _object(namespace: str, service: str, path: str, *, port: int = 80) -> Manifest:
    backend = {"service": {"name": service, "port": {"number": port}}}
    rule = {"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    labels = upstream.labels_of(IngressNginx.name)
    return {
        "apiVersion": INGRESS.api_version,
        "kind": INGRESS.kind,
        "metadata": {"name": service, "namespace": namespace, "labels": labels},
        "spec": {"ingressClassName": _CLASS, "rules": [rule]},
    }
