"""The bookinfo layer: Istio's sample application, four services behind the gateway."""

from collections.abc import Iterator, Sequence
from typing import Any

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.kubernetes import VIRTUAL_SERVICE, KubernetesApi, Manifest
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.bases.layer import GatewayLayer
from mlops_pipeline.platforms.kubernetes.bases.manifest import ManifestLayer
from mlops_pipeline.platforms.kubernetes.objects import upstream
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Broken, Facts, Finding, HealthCheck, LayerState
from mlops_pipeline.settings.layers import LayerSettings

_PORT = 9080
_TITLE = "Simple Bookstore App"
_PAGE = "/productpage"


class Bookinfo(ManifestLayer):
    """The application, in a namespace of its own, behind the gateway."""

    name = "bookinfo"
    title = "Bookinfo"
    description = "Istio's sample application, whose product page is served through the gateway."
    kinds = ("istio", "kubernetes")
    namespace = "bookinfo"
    manifest = images = "bookinfo"
    controller = "productpage-v1"

    def __init__(self, parts: Parts, gateway: GatewayLayer) -> None:
        super().__init__(parts)
        self._gateway = gateway

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings enable it."""
        return settings.samples.bookinfo

    @property
    def requires(self) -> tuple[str, ...]:
        """The gateway that routes to it."""
        return (self._gateway.name,)

    @property
    def remedy(self) -> str:
        """What to do if the namespace belongs to somebody else."""
        return f"delete it, or set {self._parts.settings.platform}.samples.bookinfo to false"

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether its page is served through the gateway."""
        text = "The product page of Bookinfo is served through the gateway."
        return (HealthCheck("serves_the_product_page", text, self._try_page),)

    def manifests(self) -> Sequence[Manifest]:
        """Return its namespace, upstream's objects, and the route to them."""
        metadata = {"name": self.namespace, "labels": upstream.labels_of(self.name)}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        return [made, *super().manifests(), self._route()]

    def change(self, manifest: dict[str, Any]) -> None:
        """Set our namespace in the object."""
        manifest["metadata"]["namespace"] = self.namespace

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine its route too."""
        if find_lasting(api, VIRTUAL_SERVICE, self.name, namespace=self.namespace) is None:
            yield Broken(f"the VirtualService {self.namespace}/{self.name} is missing")
        yield from super().look(api)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return its version and its page."""
        return {**super().facts(api), "page": f"{self._gateway.url()}{_PAGE}"}

    def _try_page(self) -> Finding:
        url, trust = f"{self._gateway.url()}{_PAGE}", self._gateway.trust()

        def describe_other() -> str | None:
            try:
                answer = http.get(url, timeout=5, trust=trust)
            except UnavailableError as error:
                return str(error)
            if answer.status == 200 and _TITLE in answer.text:
                return None
            return f"it answered {answer.status}: {answer.text[:200]}"

        taken = wait_until(url, describe_other, timeout=30, clock=self._parts.clock, interval=0.5)
        facts = {"seconds": round(taken, 2)}
        return Finding(passed=True, seen=f"{url} shows {_TITLE!r}", facts=facts)

    def _route(self) -> dict[str, Any]:
        """Return the VirtualService of upstream's bookinfo-gateway.yaml, bound to our Gateway."""
        paths: list[dict[str, dict[str, str]]] = [
            {"uri": {"exact": _PAGE}},
            {"uri": {"prefix": "/static"}},
            {"uri": {"exact": "/login"}},
            {"uri": {"exact": "/logout"}},
            {"uri": {"prefix": "/api/v1/products"}},
        ]
        page = {"destination": {"host": "productpage", "port": {"number": _PORT}}}
        labels = upstream.labels_of(self.name)
        return {
            "apiVersion": VIRTUAL_SERVICE.api_version,
            "kind": VIRTUAL_SERVICE.kind,
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "hosts": ["*"],
                "gateways": [self._parts.settings.istio.reference],
                "http": [{"match": paths, "route": [page]}],
            },
        }
