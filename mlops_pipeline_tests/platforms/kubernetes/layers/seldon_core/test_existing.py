from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import ConfigurationError, InvalidManifestError
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    Applied,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.existing import (
    ExistingOperator,
    diagnose,
)
from mlops_pipeline.platforms.layers import Broken, Ready
from mlops_pipeline_tests.platforms.kubernetes.charts import deployment
from mlops_pipeline_tests.platforms.kubernetes.rig import ExistingRig, existing_settings

SETTINGS = {
    "istio": {"install": False, "gateway": "edge/public"},
    "seldon": {"install": False, "namespace": "serving"},
}


def manager(**variables: str) -> Mapping[str, Any]:
    made: dict[str, Any] = dict(deployment(chart.MANAGER, "serving", image="seldon:1.17.1"))
    chosen = {"ISTIO_ENABLED": "true", "ISTIO_GATEWAY": "edge/public", **variables}
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in chosen.items()]
    return made


@pytest.fixture
def rig(tmp_path: Path) -> ExistingRig:
    """A cluster with a Seldon Core of somebody else."""
    rig = ExistingRig(tmp_path / "kubernetes", settings=existing_settings(**SETTINGS))
    rig.api.put(manager())
    rig.api.put(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": chart.DEFINITION},
            "spec": {"group": "machinelearning.seldon.io", "versions": [], "names": {}},
        }
    )
    return rig


def test_it_is_used_as_it_is(rig: ExistingRig) -> None:
    layer = ExistingOperator(rig.parts)
    assert layer.observe() == Ready({"version": "1.17.1", "licence": "Apache-2.0"})
    assert layer.ensure().action == "unchanged"
    layer.remove()
    assert rig.api.applied == []
    assert rig.api.deleted == []
    assert {m["metadata"]["namespace"] for m in rig.api.dry_runs} == {"serving"}
    assert diagnose(rig.parts).seen == "1.17.1 in serving"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"ISTIO_GATEWAY": "istio-system/seldon-gateway"}, "uses the Gateway istio-sys"),
        ({"ISTIO_ENABLED": "false"}, "creates no routes for Istio"),
    ],
)
def test_an_operator_that_routes_elsewhere_is_refused(
    rig: ExistingRig, variables: dict[str, str], reason: str
) -> None:
    rig.api.put(manager(**variables))
    layer = ExistingOperator(rig.parts)
    state = layer.observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert reason in diagnose(rig.parts).seen
    with pytest.raises(ConfigurationError, match="could not use the existing Seldon Core"):
        layer.ensure()


def test_one_that_is_not_there_is_told(rig: ExistingRig) -> None:
    rig.api.drop(DEPLOYMENT, chart.MANAGER, namespace="serving")
    state = ExistingOperator(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "the Deployment serving/seldon-controller-manager is missing" in state.reason
    rig.api.drop(CUSTOM_RESOURCE_DEFINITION, chart.DEFINITION)
    assert chart.DEFINITION in diagnose(rig.parts).seen


def test_a_webhook_that_refuses_a_right_one_breaks_it(rig: ExistingRig) -> None:
    rig.api.refuse("SeldonDeployment", "no")
    state = ExistingOperator(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "denied the request: no" in state.reason


def test_a_cluster_that_does_not_answer_breaks_it(rig: ExistingRig) -> None:
    rig.api.stop("connection refused")
    state = ExistingOperator(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "connection refused" in state.reason


def test_its_check_asks_its_webhook(rig: ExistingRig, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = ExistingOperator(rig.parts).checks
    assert not check.run().passed  # The fake's webhook accepts a wrong one too.
    accept = rig.api.apply

    def apply(manifest: Manifest, *, dry_run: bool = False) -> Applied:
        if sum(p["traffic"] for p in manifest["spec"]["predictors"]) != 100:
            raise InvalidManifestError("sum of traffic")
        return accept(manifest, dry_run=dry_run)

    monkeypatch.setattr(rig.api, "apply", apply)
    assert check.run().passed
    rig.api.refuse("SeldonDeployment", "nothing passes")
    assert "a valid SeldonDeployment was refused" in check.run().seen
