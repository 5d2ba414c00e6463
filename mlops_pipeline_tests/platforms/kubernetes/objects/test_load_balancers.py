from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import WaitTimeoutError
from mlops_pipeline.clients.kubernetes import SERVICE
from mlops_pipeline.platforms.kubernetes.objects import load_balancers
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import (
    describe_waiting,
    wait_for_address,
)
from mlops_pipeline_tests.platforms.kubernetes.rig import ExistingRig, Rig, existing_settings

PIN = "metallb.io/loadBalancerIPs"
POOL = {"metallb.io/ip-allocated-from-pool": "mlops-pipeline"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "kind").with_cluster()


def put(rig: Rig, *, address: str = "", annotations: dict[str, str] | None = None) -> None:
    rig.api.put(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "gateway", "namespace": "web", "annotations": annotations or {}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": address}] if address else []}},
        }
    )


def wait(rig: Rig) -> str:
    return wait_for_address(rig.parts, "gateway", namespace="web", of="the gateway")


def annotations(rig: Rig) -> dict[str, Any]:
    found = rig.api.get(SERVICE, "gateway", namespace="web")
    return {key: text for key, text in found["metadata"]["annotations"].items() if text}


def test_an_address_of_metallb_is_asked_for_from_then_on(rig: Rig) -> None:
    put(rig, address="172.18.0.9", annotations=POOL)
    assert wait(rig) == "172.18.0.9"
    assert annotations(rig) == {**POOL, PIN: "172.18.0.9"}


def test_of_another_load_balancer_nothing_is_asked(rig: Rig) -> None:
    put(rig, address="203.0.113.9")
    assert wait(rig) == "203.0.113.9"
    assert annotations(rig) == {}


def test_where_metallb_is_not_ours_the_load_balancer_is_named(tmp_path: Path) -> None:
    theirs = ExistingRig(tmp_path)
    metadata = {"name": "gateway", "namespace": "web"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}
    theirs.api.put({**service, "metadata": {**metadata, "annotations": {}}})
    with pytest.raises(WaitTimeoutError) as caught:
        wait_for_address(theirs.parts, "gateway", namespace="web", of="the gateway")
    said = str(caught.value)
    assert "kubectl describe service gateway --namespace web" in said
    assert "status` for metallb" not in said


def test_the_load_balancer_of_a_cloud_is_waited_for_as_long_as_anything(
    rig: Rig, tmp_path: Path
) -> None:
    settings = existing_settings(ready_timeout=240)
    assert ExistingRig(tmp_path, settings=settings).parts.patience(30) == 240
    assert rig.parts.patience(30) == 30


def test_an_address_that_cannot_be_had_any_more_is_given_up(rig: Rig) -> None:
    put(rig, annotations={PIN: "172.18.0.9"})
    with pytest.raises(WaitTimeoutError, match="no external IP was assigned to its Service"):
        wait(rig)
    assert annotations(rig) == {}


def test_who_waits_for_an_address_or_is_silent_at_it_is_named(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rig)
    assert describe_waiting(rig.parts) == "web/gateway has no address"
    put(rig, address="172.18.0.9")
    monkeypatch.setattr(load_balancers, "is_reachable", lambda *_: False)
    assert describe_waiting(rig.parts) == "web/gateway does not answer at 172.18.0.9"
    monkeypatch.setattr(load_balancers, "is_reachable", lambda *_: True)
    assert describe_waiting(rig.parts) is None
