"""The ingress-nginx layer: Ingress objects behind the mapped ports of the control plane.

Its maintainers retired it in March 2026; controller-v1.15.1 is its last release.
https://github.com/kubernetes/ingress-nginx/blob/controller-v1.15.1/README.md
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    FatalStateError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    EVENT,
    INGRESS,
    JOB,
    NAMESPACE,
    POD,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes import probes, upstream, workloads
from mlops_pipeline.platforms.kubernetes.cluster.config import HTTP, HTTPS, INGRESS_LABEL
from mlops_pipeline.platforms.kubernetes.cluster.kind import KindCluster
from mlops_pipeline.platforms.kubernetes.endings import wait_for_end
from mlops_pipeline.platforms.kubernetes.parts import KindParts
from mlops_pipeline.platforms.kubernetes.pods import explain_unready
from mlops_pipeline.platforms.kubernetes.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.webhooks import describe_silence
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
)

_SYSTEM = "ingress-nginx"
_CONTROLLER = "ingress-nginx-controller"
_JOBS = ("ingress-nginx-admission-create", "ingress-nginx-admission-patch")
_CLASS = "nginx"
_INGRESS_CLASS = Resource("networking.k8s.io/v1", "IngressClass")
_MANIFEST = "ingress-nginx"
"""Also the name of the group of its images."""
_REVISION = 1
"""Raised whenever `_manifests` changes: installed manifests are then applied again."""
_ANSWER = 30.0
_KEPT = 600
"""Seconds for which an admission job that has ended can be looked at."""


class IngressNginx:
    """ingress-nginx by its manifest for kind, on the node whose ports are mapped."""

    name = "ingress_nginx"
    description = "ingress-nginx (retired upstream) behind ports of this machine."
    kinds: tuple[str, ...] = ("nginx", "kubernetes")
    requires: tuple[str, ...] = ("metallb",)

    def __init__(self, parts: KindParts) -> None:
        self._parts = parts
        self._cluster = KindCluster(parts)

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That an Ingress answers on the mapped port."""
        return (
            HealthCheck(
                "serves_an_ingress",
                "A pod answers through an Ingress at the port of this machine that is mapped.",
                self._try_ingress,
            ),
        )

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

    def observe(self) -> LayerState:
        """Look at the controller, and at which manifest it was made from."""
        if (api := self._parts.find_api()) is None:
            return Absent()
        try:
            return self._observe(api)
        except (CommandError, NotFoundError, UnavailableError) as error:
            return Broken(str(error))

    def ensure(self) -> Change:
        """Install ingress-nginx, and wait until its webhook takes an Ingress.

        Raises:
            ConfigurationError: the manifest cannot be had, or the port is not mapped; nothing was
                changed.
            ConflictError: somebody else's ingress-nginx is there.
            UnavailableError: it did not become ready.
            FatalStateError: a pod or an admission job cannot succeed.
        """
        return bring_up(self, self._parts, self._bring_up, purpose="bring up ingress-nginx")

    def _bring_up(self, steps: Steps) -> Facts:
        api = self._parts.api()
        self._parts.sources.require([_MANIFEST])
        remedy = "remove it, or set kind.ingress_nginx to false"
        upstream.require_ours(api, self._manifests(), what="ingress-nginx", remedy=remedy)
        self._require_mapped()
        self._install(api, steps)
        return self._facts()

    def remove(self) -> None:
        """Delete ingress-nginx if it is ours; Ingress objects stay and do nothing."""
        upstream.remove(
            self._parts,
            layer=self.name,
            namespace=_SYSTEM,
            what="ingress-nginx",
            also=[_INGRESS_CLASS],
        )

    def _observe(self, api: KubernetesApi) -> LayerState:
        state = upstream.observe_controller(api, _CONTROLLER, namespace=_SYSTEM)
        if not isinstance(state, Ready):
            return state
        controller = api.get(DEPLOYMENT, _CONTROLLER, namespace=_SYSTEM)
        # Without the manifest nobody can say which version is asked for.
        with suppress(ConfigurationError, IntegrityError):
            if different := upstream.difference(controller, self._annotations()):
                return Drifted((different,))
        return Ready(self._facts())

    def _install(self, api: KubernetesApi, steps: Steps) -> None:
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        wait_for_end(api, NAMESPACE, _SYSTEM, timeout=timeout, clock=clock)
        with steps.step("images"):
            self._parts.images.ensure(_MANIFEST)
        with steps.step("apply"):
            for name in _JOBS:  # A job that is done cannot be changed.
                api.delete(JOB, name, namespace=_SYSTEM)
            self._wait("the end of its former admission jobs", lambda: _describe_former(api))
            upstream.apply(api, self._manifests(), timeout=timeout, clock=clock)
        with steps.step("jobs"):
            self._wait("the admission jobs of ingress-nginx", lambda: _describe_jobs(api))
        with steps.step("pods"):
            workloads.wait_for(self._parts, DEPLOYMENT, _CONTROLLER, namespace=_SYSTEM)
        with steps.step("webhook"):
            self._wait("the webhook of ingress-nginx", lambda: _describe_webhook(api))

    def _wait(self, what: str, describe: Callable[[], str | None]) -> None:
        wait_until(
            what,
            patiently(describe),
            timeout=self._parts.settings.ready_timeout,
            clock=self._parts.clock,
            hint=f"see `kubectl get pods,jobs --namespace {_SYSTEM}`",
        )

    def _manifests(self) -> Sequence[Manifest]:
        """Return upstream's objects; the Deployment, whose annotation stands for all, is last."""
        file, noted = self._parts.sources.manifest(_MANIFEST), self._annotations()
        archives = self._parts.sources.archives(_MANIFEST)
        held = {image for archive in archives for image in archive.images}

        def change(manifest: dict[str, Any]) -> None:
            if manifest["kind"] in (DEPLOYMENT.kind, JOB.kind):
                _take_from_archives(manifest, held)
            if manifest["kind"] == DEPLOYMENT.kind:
                _place(manifest, noted)
            if manifest["kind"] == JOB.kind:
                # Upstream's are gone as soon as they have ended: nobody could say how.
                manifest["spec"]["ttlSecondsAfterFinished"] = _KEPT

        found = upstream.read(file, layer=self.name, change=change)
        return sorted(found, key=lambda manifest: manifest["kind"] == DEPLOYMENT.kind)

    def _annotations(self) -> dict[str, str]:
        return upstream.annotations(self._parts.sources.manifest(_MANIFEST), revision=_REVISION)

    def _require_mapped(self) -> None:
        if self._cluster.host_port(HTTP) is None:
            raise ConfigurationError(
                f"the cluster {self._parts.settings.cluster.name} maps no port of this machine to "
                f"its port {HTTP}, where ingress-nginx listens; make it anew with `mlops-pipeline "
                "up cluster --recreate`, or set kind.ingress_nginx = false"
            )

    def _url(self, inner: int) -> str:
        if (found := self._cluster.way_to(inner)) is None:
            return ""
        host, port = found
        return f"{'https' if inner == HTTPS else 'http'}://{host}:{port}"

    def _facts(self) -> dict[str, str | int | float]:
        return {"address": self._url(HTTP), "https_address": self._url(HTTPS)}


def _place(deployment: dict[str, Any], annotations: dict[str, str]) -> None:
    """Keep the controller on the node whose ports are mapped; upstream's goes to any.

    https://github.com/kubernetes/ingress-nginx/blob/controller-v1.15.1/deploy/static/provider/kind
    """
    metadata, spec = deployment["metadata"], deployment["spec"]["template"]["spec"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), INGRESS_LABEL: "true"}


def _take_from_archives(workload: dict[str, Any], held: Collection[str]) -> None:
    """Ask by its tag for an image that an archive brings: it has no digest of a registry."""
    for container in workload["spec"]["template"]["spec"]["containers"]:
        tagged, pinned, _ = container.get("image", "").partition("@")
        if pinned and tagged in held:
            container["image"] = tagged


def _describe_former(api: KubernetesApi) -> str | None:
    left = [name for name in _JOBS if api.find(JOB, name, namespace=_SYSTEM) is not None]
    return f"{', '.join(left)} is still there" if left else None


def _describe_jobs(api: KubernetesApi) -> str | None:
    """Say which admission job is not done; None when the webhook has its certificate.

    Raises:
        FatalStateError: one has failed.
    """
    for name in _JOBS:
        found = api.find(JOB, name, namespace=_SYSTEM)
        if found is None:
            return f"{name} is not there"
        conditions = (found.get("status") or {}).get("conditions") or ()
        true = {c["type"]: c.get("message", "") for c in conditions if c["status"] == "True"}
        if "Failed" in true:
            raise FatalStateError(
                f"the job {_SYSTEM}/{name} has failed: {true['Failed'] or 'it does not say why'}; "
                f"see `kubectl logs --namespace {_SYSTEM} job/{name}`"
            )
        if "Complete" not in true:
            pods = api.list(POD, namespace=_SYSTEM, labels=f"job-name={name}")
            why = explain_unready(pods, api.list(EVENT, namespace=_SYSTEM))
            return f"{name} is not done: {why or 'it runs'}"
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
