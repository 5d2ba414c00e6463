from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import ExistingGateway
from mlops_pipeline.platforms.layers import Broken, Ready
from mlops_pipeline_tests.platforms.kubernetes.charts import their_istio
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    ExistingRig,
    existing_settings,
    run_workloads,
)

THEIRS = {"install": False, "gateway": "edge/public", "service": "edge/gateway"}


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def get(url: str, **_: Any) -> HttpAnswer:
        asked.append(url)
        return HttpAnswer(404, {}, b"")

    monkeypatch.setattr(http, "get", get)
    return asked


@pytest.fixture
def rig(tmp_path: Path) -> ExistingRig:
    """A cluster with an Istio of somebody else."""
    rig = ExistingRig(tmp_path / "kubernetes", settings=existing_settings(istio=THEIRS))
    for manifest in their_istio():
        rig.api.put(manifest)
    return rig


def test_its_gateway_is_used_as_it_is(rig: ExistingRig, answers: list[str]) -> None:
    layer = ExistingGateway(rig.parts)
    facts = {"address": "http://203.0.113.9", "gateway": "edge/public", "version": "1.30.3"}
    assert layer.observe() == Ready(facts)
    change = layer.ensure()
    assert (change.action, dict(change.facts)) == ("unchanged", facts)
    assert set(answers) == {"http://203.0.113.9"}
    assert (layer.namespace, layer.trust(), layer.requires) == ("edge", "", ("cluster",))
    layer.remove()
    assert rig.api.applied == []
    assert rig.api.deleted == []


def test_its_address_may_be_another_one_from_here(rig: ExistingRig) -> None:
    rig.settings = existing_settings(istio={**THEIRS, "address": "https://models.example.com"})
    assert ExistingGateway(rig.parts).url() == "https://models.example.com"


def test_a_gateway_that_is_not_there_is_told_with_those_that_are(rig: ExistingRig) -> None:
    rig.settings = existing_settings(istio={**THEIRS, "gateway": "edge/other"})
    layer = ExistingGateway(rig.parts)
    state = layer.observe()
    assert isinstance(state, Broken)
    assert "the Gateway edge/other is missing (there are: edge/public)" in state.reason
    with pytest.raises(ConfigurationError, match="could not use the existing Istio: the Gateway"):
        layer.ensure()


def test_a_service_without_an_address_is_told(rig: ExistingRig) -> None:
    rig.settings = existing_settings(istio={**THEIRS, "service": "edge/none"})
    layer = ExistingGateway(rig.parts)
    assert isinstance(layer.observe(), Broken)
    with pytest.raises(NotFoundError, match=r"edge/none is missing or has no address.*address"):
        layer.url()


def test_one_that_does_not_answer_from_here_is_told(
    rig: ExistingRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(url: str, **_: Any) -> HttpAnswer:
        raise UnavailableError(f"{url} does not answer")

    monkeypatch.setattr(http, "get", get)
    state = ExistingGateway(rig.parts).observe()
    assert isinstance(state, Broken)
    assert (
        "203.0.113.9 does not answer; check that this machine can reach the addresses"
        in state.reason
    )


def test_a_cluster_that_does_not_answer_breaks_it(rig: ExistingRig) -> None:
    rig.api.stop("connection refused")
    state = ExistingGateway(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "connection refused" in state.reason


def test_its_check_routes_by_their_gateway(
    rig: ExistingRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_workloads(rig.api)

    def get(url: str, **_: Any) -> HttpAnswer:
        (route,) = [m for m in rig.api.applied if m["kind"] == "VirtualService"]
        return HttpAnswer(200, {}, str(route["metadata"]["namespace"]).encode())

    monkeypatch.setattr(http, "get", get)
    (check,) = ExistingGateway(rig.parts).checks
    assert check.run().passed
    (route,) = [m for m in rig.api.applied if m["kind"] == "VirtualService"]
    assert route["spec"]["gateways"] == ["edge/public"]
