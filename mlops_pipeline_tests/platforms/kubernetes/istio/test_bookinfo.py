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
from mlops_pipeline.platforms.kubernetes.istio.layer import Istio
from mlops_pipeline.platforms.layers import Broken, Drifted, Ready
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig
from mlops_pipeline_tests.platforms.kubernetes.istio.test_layer import ADDRESS, BRINGS

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
    made.set(samples={"bookinfo": True})
    return made


def test_asked_for_it_is_a_difference_and_installed_in_its_own_namespace(rig: HelmRig) -> None:
    assert Istio(rig.parts).observe() == Drifted(("Bookinfo is asked for, and not there",))
    change = Istio(rig.parts).ensure()
    assert change.action == "updated"
    assert "bookinfo_seconds" in change.facts
    found = rig.api.get(SERVICE, "productpage", namespace="bookinfo")
    assert found["metadata"]["labels"] == {
        "app": "productpage",
        "app.kubernetes.io/managed-by": "mlops-pipeline",
    }
    route = rig.api.get(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    assert route["spec"]["gateways"] == ["istio-system/seldon-gateway"]
    assert isinstance(Istio(rig.parts).observe(), Ready)
    assert Istio(rig.parts).ensure().action == "unchanged"


def test_the_check_asks_for_the_product_page(rig: HelmRig, monkeypatch: pytest.MonkeyPatch) -> None:
    check = next(c for c in Istio(rig.parts).checks if c.name == "serves_the_product_page")
    finding = check.run()
    assert finding.passed
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
    with pytest.raises(ConfigurationError) as caught:
        Istio(rig.parts).ensure()
    assert "could not install Bookinfo: bookinfo is not in the bundle" in str(caught.value)
    assert "or set kind.samples.bookinfo to false" in str(caught.value)
    assert len(rig.api.applied) == applied


def test_what_it_lacks_breaks_it(rig: HelmRig) -> None:
    Istio(rig.parts).ensure()
    rig.api.drop(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    assert Istio(rig.parts).observe() == Broken("the VirtualService bookinfo/bookinfo is not there")
    Istio(rig.parts).ensure()
    change = {"spec": {"replicas": 0}}
    rig.api.patch(DEPLOYMENT, "productpage-v1", change, namespace="bookinfo")
    assert Istio(rig.parts).observe() == Broken(
        "Bookinfo: the Deployment bookinfo/productpage-v1 is scaled to 0"
    )
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    rig.api.patch(VIRTUAL_SERVICE, "bookinfo", {"metadata": metadata}, namespace="bookinfo")
    assert Istio(rig.parts).observe() == Broken("the VirtualService bookinfo/bookinfo is not there")
    with pytest.raises(WaitTimeoutError, match="VirtualService bookinfo/bookinfo"):
        Istio(rig.parts).ensure()
    rig.api.drop(VIRTUAL_SERVICE, "bookinfo", namespace="bookinfo")
    Istio(rig.parts).ensure()
    rig.api.drop(DEPLOYMENT, "productpage-v1", namespace="bookinfo")
    assert Istio(rig.parts).observe() == Broken("Bookinfo: it has no Deployment")
    assert Istio(rig.parts).ensure().action == "repaired"


def test_not_asked_for_any_more_it_goes(rig: HelmRig) -> None:
    Istio(rig.parts).ensure()
    rig.set()
    assert Istio(rig.parts).observe() == Drifted(("Bookinfo is there, not asked for",))
    assert Istio(rig.parts).ensure().action == "updated"
    assert rig.api.find(NAMESPACE, "bookinfo") is None
    assert len(Istio(rig.parts).checks) == 1


def test_while_it_goes_nothing_is_missing(rig: HelmRig) -> None:
    Istio(rig.parts).ensure()
    rig.set()
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    rig.api.patch(NAMESPACE, "bookinfo", {"metadata": metadata})
    assert isinstance(Istio(rig.parts).observe(), Ready)


def test_a_namespace_of_somebody_else_is_left_alone(rig: HelmRig) -> None:
    rig.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bookinfo"}})
    with pytest.raises(ConflictError, match="the namespace bookinfo is there"):
        Istio(rig.parts).ensure()
    rig.set()
    assert isinstance(Istio(rig.parts).observe(), Ready)
    Istio(rig.parts).remove()
    assert rig.api.find(NAMESPACE, "bookinfo") is not None
