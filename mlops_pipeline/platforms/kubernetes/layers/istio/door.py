"""Our Gateway and its address, for HTTP and, with a certificate, for HTTPS."""

from collections.abc import Iterator

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.kubernetes import GATEWAY, KubernetesApi, Manifest
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import GATEWAY as SERVICE
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import GATEWAY_PORTS, NAMESPACE
from mlops_pipeline.platforms.kubernetes.layers.istio.gateway import NAME, gateway_manifest
from mlops_pipeline.platforms.kubernetes.layers.istio.https import Https
from mlops_pipeline.platforms.kubernetes.objects.edits import apply_whole, differences
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import (
    NONE_GIVEN,
    find_endpoint,
    wait_for_address,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import delete_ours, require_ours
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.layers import Broken, Drifted, Facts, Finding, LayerState, Ready

_GLANCE = 5.0
"""Seconds in which a gateway that is observed must answer."""
_ANSWER = 30.0
"""Seconds in which a gateway with a ready pod answers, if it can be reached at all."""


class Door:
    """The Gateway that every route uses, and how this machine reaches it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings.istio
        self._https = Https(parts)

    @property
    def has_certificate(self) -> bool:
        """Whether the gateway has a port 443."""
        return self._https.wanted

    def url(self) -> str:
        """Return `http://<address>`, or `https://<address>` if it redirects plain HTTP to https.

        Raises:
            NotFoundError: there is no cluster, or the gateway has no address yet.
        """
        endpoint = self._find_endpoint()
        if endpoint is None:
            raise NotFoundError(
                "the gateway has no address; bring it up with `mlops-pipeline up istio`"
            )
        return self._url_at(endpoint)

    def trust(self) -> str:
        """Return the certificates (PEM) that a client of an https `url` needs; empty for http."""
        return self._https.chain(self._parts.api()) if self._settings.https_redirect else ""

    def find(self, api: KubernetesApi) -> Manifest | None:
        """Return our Gateway, or None."""
        return find_lasting(api, GATEWAY, NAME, namespace=NAMESPACE)

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine our Gateway, its address, its certificate and whether it answers."""
        listens = self._compare(self.find(api))
        yield listens
        endpoint = self._find_endpoint()
        if endpoint is None:
            yield Broken(f"the gateway has no address: {NONE_GIVEN}")
            return
        if isinstance(listens, Ready):
            # Otherwise its ports are closed, which explains why it does not answer.
            yield self._https.observe(api, endpoint)
            if reason := self._describe_silence(endpoint):
                yield Broken(reason)

    def require(self, api: KubernetesApi) -> None:
        """Refuse a Gateway or a Secret of somebody else, and files without a certificate.

        Raises:
            ConfigurationError: names the file, and what is wrong with it.
            ConflictError: the Gateway or the Secret exists and is not ours.
        """
        require_ours(api, GATEWAY, NAME, namespace=NAMESPACE, to="bring up the gateway")
        self._https.require(api, self._find_endpoint())

    def open(self, api: KubernetesApi) -> None:
        """Create the Gateway, and wait until it answers this machine."""
        address = wait_for_address(self._parts, SERVICE, namespace=NAMESPACE, of="the gateway")
        endpoint = self._parts.endpoint(address, GATEWAY_PORTS)
        self._https.ensure(api, endpoint)
        self._apply(api)
        wait_until(
            f"the gateway at {self._url_at(endpoint)}",
            lambda: self._describe_silence(endpoint) or self._https.describe_other(api, endpoint),
            timeout=self._parts.patience(_ANSWER),
            clock=self._parts.clock,
            hint=self._parts.unreachable,
        )

    def remove(self, api: KubernetesApi) -> None:
        """Remove our Gateway and its certificate."""
        delete_ours(api, GATEWAY, NAME, namespace=NAMESPACE)
        self._https.remove(api)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return its address and its certificate."""
        endpoint = self._find_endpoint()
        address = self._url_at(endpoint) if endpoint is not None else ""
        return {"address": address, **self._https.facts(api)}

    def try_certificate(self) -> Finding:
        """Examine the certificate that port 443 presents."""
        endpoint = self._find_endpoint()
        if endpoint is None:
            return Finding(passed=False, seen=f"the gateway has no address: {NONE_GIVEN}")
        return self._https.try_certificate(self._parts.api(), endpoint)

    def _compare(self, gateway: Manifest | None) -> LayerState:
        if gateway is None:
            return Broken(f"the Gateway {NAMESPACE}/{NAME} is missing")
        different = differences(gateway["spec"], gateway_manifest(self._settings)["spec"])
        named = tuple(f"the Gateway {NAMESPACE}/{NAME} differs: {what}" for what in different)
        return Drifted(named) if named else Ready()

    def _apply(self, api: KubernetesApi) -> None:
        """Apply our Gateway. After its start, istiod's webhook may refuse calls for some time."""
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        wait_for_end(api, GATEWAY, NAME, namespace=NAMESPACE, timeout=timeout, clock=clock)
        wait_until(
            f"the Gateway {NAMESPACE}/{NAME}",
            lambda: describe_silence(lambda: apply_whole(api, gateway_manifest(self._settings))),
            timeout=timeout,
            clock=clock,
        )

    def _describe_silence(self, endpoint: Endpoint) -> str | None:
        """Say why the gateway does not answer this machine; None for any answer, also 404.

        It starts to listen when istiod has sent it our Gateway.
        """
        try:
            http.get(endpoint.url(), timeout=_GLANCE)
        except UnavailableError as error:
            return f"{error}; {self._parts.unreachable}"
        return None

    def _find_endpoint(self) -> Endpoint | None:
        return find_endpoint(self._parts, SERVICE, namespace=NAMESPACE, node_ports=GATEWAY_PORTS)

    def _url_at(self, endpoint: Endpoint) -> str:
        return endpoint.url(scheme="https" if self._settings.https_redirect else "http")
