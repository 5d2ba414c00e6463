"""Istio in the shared cluster: what it answers, what is broken on purpose, and how it mends."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Resource,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.layers.bookinfo import Bookinfo
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import IstioSettings

pytestmark = pytest.mark.kind

SYSTEM = "istio-system"
INGRESS = "istio-ingressgateway"
INJECTOR = Resource("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")


@pytest.fixture
def istio(parts: KindParts) -> Iterator[Istio]:
    """Istio as the settings of the shared cluster want it; so it is left."""
    layer = Istio(parts)
    layer.ensure()
    yield layer
    layer.ensure()


def with_settings(parts: KindParts, **given: object) -> KindParts:
    settings = KindSettings.model_validate({"cluster": parts.settings.cluster, **given})
    return replace(parts, settings=settings)


def test_it_is_ready_and_looking_at_it_is_quick(istio: Istio) -> None:
    assert isinstance(istio.observe(), Ready)
    start = time.monotonic()
    assert istio.ensure().action == "unchanged"
    assert time.monotonic() - start < 3


def test_it_routes_to_a_pod_and_leaves_nothing(istio: Istio, cluster_api: KubernetesApi) -> None:
    before = {v["metadata"]["name"] for v in cluster_api.list(VIRTUAL_SERVICE)}
    assert istio.checks[0].run().passed
    wait_until(
        "the end of what the check made",
        lambda: (
            None
            if {v["metadata"]["name"] for v in cluster_api.list(VIRTUAL_SERVICE)} == before
            else "its route is still there"
        ),
        timeout=30,
    )


def _no_gateway(api: KubernetesApi) -> None:
    api.delete(GATEWAY, "seldon-gateway", namespace=SYSTEM)


def _no_istiod(api: KubernetesApi) -> None:
    api.patch(DEPLOYMENT, "istiod", {"spec": {"replicas": 0}}, namespace=SYSTEM)


def _no_ingress(api: KubernetesApi) -> None:
    api.patch(DEPLOYMENT, INGRESS, {"spec": {"replicas": 0}}, namespace=SYSTEM)


def _no_deployment(api: KubernetesApi) -> None:
    api.delete(DEPLOYMENT, INGRESS, namespace=SYSTEM)


def _no_service(api: KubernetesApi) -> None:
    api.delete(SERVICE, INGRESS, namespace=SYSTEM)


def _interrupted(api: KubernetesApi) -> None:
    releases = api.list(SECRET, namespace=SYSTEM, labels="owner=helm,name=istiod")
    newest = max(releases, key=lambda r: int(r["metadata"]["labels"]["version"]))
    labels = {"metadata": {"labels": {"status": "pending-upgrade"}}}
    api.patch(SECRET, newest["metadata"]["name"], labels, namespace=SYSTEM)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(
            _no_gateway,
            "the Gateway istio-system/seldon-gateway is missing",
            marks=pytest.mark.long,
        ),
        pytest.param(
            _no_istiod, "the Deployment istio-system/istiod is scaled to 0", marks=pytest.mark.long
        ),
        pytest.param(
            _no_ingress,
            f"the Deployment istio-system/{INGRESS} is scaled to 0",
            marks=pytest.mark.long,
        ),
        (_no_deployment, f"the Deployment istio-system/{INGRESS} is"),
        pytest.param(
            _no_service, f"the Service istio-system/{INGRESS} is missing", marks=pytest.mark.long
        ),
        (_interrupted, "istio-system/istiod is `pending-upgrade`"),
    ],
)
def test_a_manual_damage_is_reported_and_repaired(
    istio: Istio, cluster_api: KubernetesApi, harm: Callable[[KubernetesApi], None], reason: str
) -> None:
    harm(cluster_api)
    state = istio.observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert istio.ensure().action == "repaired"
    assert istio.checks[0].run().passed


@pytest.mark.long
def test_a_pod_that_came_without_its_image_is_replaced(
    istio: Istio, cluster_api: KubernetesApi
) -> None:
    def describe_pods() -> str | None:
        pods = cluster_api.list(POD, namespace=SYSTEM, labels="istio=ingressgateway")
        images = [c["image"] for pod in pods for c in pod["spec"]["containers"]]
        for pod in pods:
            if "auto" not in images:
                cluster_api.delete(POD, pod["metadata"]["name"], namespace=SYSTEM)
        return None if "auto" in images else f"its images are {images}"

    cluster_api.delete(INJECTOR, "istio-sidecar-injector")
    # The API server goes on asking the webhook for a moment.
    wait_until("a pod without its image", describe_pods, timeout=60, interval=1)
    state = istio.observe()
    assert isinstance(state, Broken)
    assert "istio-sidecar-injector is missing" in state.reason
    assert istio.ensure().action == "repaired"
    assert istio.checks[0].run().passed


def test_tls_of_our_own_with_the_redirect(istio: Istio, parts: KindParts) -> None:
    secured = Istio(
        with_settings(parts, istio=IstioSettings(tls="self-signed", https_redirect=True))
    )
    assert isinstance(secured.observe(), Drifted)
    assert secured.ensure().action == "updated"
    assert secured.url().startswith("https://")
    findings = [check.run() for check in secured.checks]
    assert [finding.passed for finding in findings] == [True, True]
    plain = secured.url().replace("https://", "http://")
    assert http.get(plain, timeout=5).status == 301
    trust = (parts.state.home / "gateway.crt").read_text()
    assert trust == secured.trust()
    assert http.get(secured.url(), timeout=5, trust=trust).status == 404
    before = parts.api().get(SECRET, "seldon-gateway-tls", namespace=SYSTEM)
    parts.api().delete(SECRET, "seldon-gateway-tls", namespace=SYSTEM)
    assert secured.ensure().action == "repaired"
    after = parts.api().get(SECRET, "seldon-gateway-tls", namespace=SYSTEM)
    assert before["data"] != after["data"]
    assert secured.checks[1].run().passed


def test_bookinfo_is_installed_served_and_removed(
    istio: Istio, parts: KindParts, cluster_api: KubernetesApi
) -> None:
    bookinfo = Bookinfo(parts, istio)
    assert bookinfo.observe() == Absent()
    assert bookinfo.ensure().action == "created"
    assert bookinfo.checks[0].run().passed
    assert httpx.head(f"{istio.url()}/productpage", timeout=10).status_code == 200
    assert len(cluster_api.list(DEPLOYMENT, namespace="bookinfo")) == 6
    assert bookinfo.ensure().action == "unchanged"
    bookinfo.remove()
    assert bookinfo.observe() == Absent()
    assert cluster_api.find(NAMESPACE, "bookinfo") is None
