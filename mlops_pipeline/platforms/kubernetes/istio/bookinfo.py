"""Istio's sample application Bookinfo: four services behind the gateway, when it is asked for."""

from typing import Any

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    NAMESPACE,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Manifest,
    parse_all,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes import upstream
from mlops_pipeline.platforms.kubernetes.endings import find_lasting, stays
from mlops_pipeline.platforms.kubernetes.ownership import (
    delete_ours,
    ensure_namespace,
    is_ours,
)
from mlops_pipeline.platforms.kubernetes.parts import Parts
from mlops_pipeline.platforms.kubernetes.steps import Steps
from mlops_pipeline.platforms.kubernetes.workloads import describe_unready, wait_for
from mlops_pipeline.platforms.layers import Broken, Drifted, Finding, LayerState, Ready
from mlops_pipeline.platforms.seldon import MANAGED_BY

NAME = "bookinfo"
_PORT = 9080
_TITLE = "Simple Bookstore App"
_PAGE = "/productpage"


class Bookinfo:
    """The application, in a namespace of its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def wanted(self) -> bool:
        """Whether the settings ask for it."""
        return self._parts.settings.samples.bookinfo

    @property
    def _otherwise(self) -> str:
        return f"or set {self._parts.settings.platform}.samples.bookinfo to false"

    def observe(self, api: KubernetesApi) -> LayerState:
        """Compare what is there with what the settings ask for."""
        namespace = api.find(NAMESPACE, NAME)
        if not self.wanted:
            ours = namespace is not None and is_ours(namespace) and stays(namespace)
            return Drifted(("Bookinfo is there, not asked for",)) if ours else Ready()
        if namespace is None:
            return Drifted(("Bookinfo is asked for, and not there",))
        if find_lasting(api, VIRTUAL_SERVICE, NAME, namespace=NAME) is None:
            return Broken(f"the VirtualService {NAME}/{NAME} is not there")
        found = api.list(DEPLOYMENT, namespace=NAME)
        names = [deployment["metadata"]["name"] for deployment in found]
        reasons = (describe_unready(api, DEPLOYMENT, name, namespace=NAME) for name in names)
        reason = next((r for r in reasons if r), None) if names else "it has no Deployment"
        return Broken(f"Bookinfo: {reason}") if reason else Ready()

    def require(self) -> None:
        """Refuse to go on without its manifest, before anything is changed.

        Raises:
            PipelineError: the manifest, or an archive of its images, cannot be had.
        """
        if self.wanted:
            try:
                self._parts.sources.require([NAME])
            except PipelineError as error:
                raise type(error)(
                    f"could not install Bookinfo: {error}; {self._otherwise}"
                ) from error

    def ensure(self, api: KubernetesApi, steps: Steps) -> None:
        """Install it, or remove what is there of ours when it is not asked for.

        Raises:
            ConfigurationError: its manifest cannot be had.
            ConflictError: somebody else's namespace has its name.
            FatalStateError: one of its pods cannot become ready.
        """
        if not self.wanted:
            self.remove(api)
            return
        with steps.step("bookinfo"):
            self._parts.images.ensure(NAME)
            self._install(api, self._manifests())

    def remove(self, api: KubernetesApi) -> None:
        """Delete its namespace, if we made it."""
        delete_ours(api, NAMESPACE, NAME, namespace="")

    def try_page(self, url: str, *, trust: str) -> Finding:
        """Ask for the product page at the gateway.

        Raises:
            WaitTimeoutError: it did not come; what did.
        """

        def describe_other() -> str | None:
            try:
                answer = http.get(f"{url}{_PAGE}", timeout=5, trust=trust)
            except UnavailableError as error:
                return str(error)
            if answer.status == 200 and _TITLE in answer.text:
                return None
            return f"it answered {answer.status}: {answer.text[:200]}"

        taken = wait_until(
            f"{url}{_PAGE}", describe_other, timeout=30, clock=self._parts.clock, interval=0.5
        )
        return Finding(
            passed=True,
            seen=f"{url}{_PAGE} shows {_TITLE!r}",
            facts={"seconds": round(taken, 2)},
        )

    def _install(self, api: KubernetesApi, manifests: list[dict[str, Any]]) -> None:
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        ensure_namespace(api, NAME, timeout=timeout, clock=clock)
        self._refuse_foreign(api)
        route = _route(self._parts.settings.istio.reference)
        upstream.apply(api, [*manifests, route], timeout=timeout, clock=clock)
        for manifest in manifests:
            if manifest["kind"] == DEPLOYMENT.kind:
                wait_for(self._parts, DEPLOYMENT, manifest["metadata"]["name"], namespace=NAME)

    def _manifests(self) -> list[dict[str, Any]]:
        try:
            path = self._parts.sources.manifest(NAME).path
        except ConfigurationError as error:
            raise ConfigurationError(
                f"could not install Bookinfo: {error}; {self._otherwise}"
            ) from error
        return [_placed(manifest) for manifest in parse_all(path.read_text())]

    def _refuse_foreign(self, api: KubernetesApi) -> None:
        if not is_ours(api.get(NAMESPACE, NAME)):
            raise ConflictError(
                f"could not install Bookinfo: the namespace {NAME} is there and this project did "
                "not make it; delete it, or set "
                f"{self._parts.settings.platform}.samples.bookinfo to false"
            )


def _placed(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest in our namespace, with our label."""
    metadata = dict(manifest["metadata"])
    labels = {**(metadata.get("labels") or {}), **MANAGED_BY}
    return {**manifest, "metadata": {**metadata, "namespace": NAME, "labels": labels}}


def _route(gateway: str) -> dict[str, Any]:
    """Return the VirtualService of upstream's bookinfo-gateway.yaml, bound to our Gateway."""
    paths: list[dict[str, dict[str, str]]] = [
        {"uri": {"exact": _PAGE}},
        {"uri": {"prefix": "/static"}},
        {"uri": {"exact": "/login"}},
        {"uri": {"exact": "/logout"}},
        {"uri": {"prefix": "/api/v1/products"}},
    ]
    page = {"destination": {"host": "productpage", "port": {"number": _PORT}}}
    return {
        "apiVersion": VIRTUAL_SERVICE.api_version,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {"name": NAME, "namespace": NAME, "labels": dict(MANAGED_BY)},
        "spec": {
            "hosts": ["*"],
            "gateways": [gateway],
            "http": [{"match": paths, "route": [page]}],
        },
    }
