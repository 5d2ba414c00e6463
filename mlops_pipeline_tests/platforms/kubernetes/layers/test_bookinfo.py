from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import DEPLOYMENT, NAMESPACE, SERVICE, VIRTUAL_SERVICE
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.layers.bookinfo import Bookinfo
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig
from mlops_pipeline_tests.platforms.kubernetes.layers.istio.test_layer import ADDRESS, BRINGS

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: productpage, labels: {app: productpage}}
spec: {type: ClusterIP, ports: [{port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: productpage-v1}
spec: {replicas: 1, selector: {matchLabels: {app: productpage}}, template: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings-v1}
spec: {replicas: 1, selector: {matchLabels: {app: ratings}}, template: {}}
"""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelmRig:
    """A cluster with our Istio, and the manifest of Bookinfo at hand."""
    made = HelmRig.make(tmp_path, BRINGS)
    file = tmp_path / "bookinfo.yaml"
    file.write_text(MANIFEST)
    made.sources._manifests["bookinfo"] = file
    page = HttpAnswer(200, {}, b"<title>Simple Bookstore App</title>")
    monkeypatch.setattr(http, "get", lambda url, *, timeout, trust="": page)
    Istio(made.parts).ensure()
    return made


def bookinfo(rig: HelmRig) -> Bookinfo:
    return Bookinfo(rig.parts, Istio(rig.parts))


def test_it_is_a_layer_on_the_gateway_where_it_is_asked_for(rig: HelmRig) -> None:
    def last() -> str:
        return KindPlatform(rig.parts.state.home, rig.settings, bundle=None).layers[-1].name

    assert last() == "seldon_core"
    rig.set(samples={"bookinfo": True})
    assert last() == "bookinfo"
    assert bookinfo(rig).requires == ("istio",)


def test_it_is_installed_in_its_own_namespace(rig: HelmRig) -> None:
    assert bookinfo(rig).observe() == Absent()
    change = bookinfo(rig).ensure()
    assert change.action == "created"
    assert change.facts["page"] == f"http://{ADDRESS}/productpage"
    found = rig.api.get(SERVICE, "productpage", namespace="bookinfo")
    assert found["metadata"]["labels"] == {
        "app": "productpage",
        "app.kubernetes.io/managed-by": "mlops-pipeline",
        "mlops-pipeline/layer": "bookinfo",
    }
    route = rig.api.get(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    assert route["spec"]["gateways"] == ["istio-system/seldon-gateway"]
    assert isinstance(bookinfo(rig).observe(), Ready)
    assert bookinfo(rig).ensure().action == "unchanged"


def test_the_check_asks_for_the_product_page(rig: HelmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = bookinfo(rig).checks
    finding = check.run()
    assert (check.name, finding.passed) == ("serves_the_product_page", True)
    assert finding.seen.startswith(f"http://{ADDRESS}/productpage shows")
    other = HttpAnswer(503, {}, b"no healthy upstream")
    monkeypatch.setattr(http, "get", lambda url, *, timeout, trust="": other)
    with pytest.raises(WaitTimeoutError, match="it answered 503: no healthy upstream"):
        check.run()

    def refuse(url: str, *, timeout: float, trust: str = "") -> HttpAnswer:
        raise UnavailableError("Connection refused")

    monkeypatch.setattr(http, "get", refuse)
    with pytest.raises(WaitTimeoutError, match="Connection refused"):
        check.run()


def test_without_its_manifest_nothing_is_done(rig: HelmRig) -> None:
    rig.sources.lose("bookinfo")
    applied = len(rig.api.applied)
    with pytest.raises(ConfigurationError, match="bookinfo is not in the bundle"):
        bookinfo(rig).ensure()
    assert len(rig.api.applied) == applied


def test_what_it_lacks_breaks_it(rig: HelmRig) -> None:
    layer = bookinfo(rig)
    layer.ensure()
    rig.api.drop(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    assert layer.observe() == Broken("the VirtualService bookinfo/bookinfo is missing")
    layer.ensure()
    change = {"spec": {"replicas": 0}}
    rig.api.patch(DEPLOYMENT, "ratings-v1", change, namespace="bookinfo")
    assert layer.observe() == Broken("the Deployment bookinfo/ratings-v1 is scaled to 0")
    layer.ensure()
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    rig.api.patch(VIRTUAL_SERVICE, "bookinfo", {"metadata": metadata}, namespace="bookinfo")
    assert layer.observe() == Broken("the VirtualService bookinfo/bookinfo is missing")
    with pytest.raises(WaitTimeoutError, match="VirtualService bookinfo/bookinfo"):
        layer.ensure()
    rig.api.drop(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    layer.ensure()
    rig.api.drop(DEPLOYMENT, "productpage-v1", namespace="bookinfo")
    assert layer.observe() == Broken("bookinfo exists without its controller")
    assert layer.ensure().action == "repaired"


def test_another_version_is_a_difference(rig: HelmRig) -> None:
    layer = bookinfo(rig)
    layer.ensure()
    annotations = {"mlops-pipeline/version": "1.29.0"}
    change = {"metadata": {"annotations": annotations}}
    rig.api.patch(DEPLOYMENT, "productpage-v1", change, namespace="bookinfo")
    assert isinstance(layer.observe(), Drifted)
    assert layer.ensure().action == "updated"


def test_it_goes_with_its_namespace(rig: HelmRig) -> None:
    bookinfo(rig).ensure()
    bookinfo(rig).remove()
    assert rig.api.find(NAMESPACE, "bookinfo") is None
    assert bookinfo(rig).observe() == Absent()


def test_a_namespace_of_somebody_else_is_left_alone(rig: HelmRig) -> None:
    rig.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bookinfo"}})
    with pytest.raises(ConflictError, match=r"Namespace bookinfo lacks our label; delete it, or"):
        bookinfo(rig).ensure()
    bookinfo(rig).remove()
    assert rig.api.find(NAMESPACE, "bookinfo") is not None
