"""`status` on a cluster in which somebody else deploys too."""

from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.status import observe
from mlops_pipeline.clients.errors import AccessDeniedError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.fakes import FakePlatform
from mlops_pipeline_tests.platforms.kubernetes.rig import ExistingRig


@pytest.fixture
def rig(tmp_path: Path) -> ExistingRig:
    return ExistingRig(tmp_path / "kubernetes")


@pytest.fixture
def context(tmp_path: Path, rig: ExistingRig) -> Context:
    """Layers that are ready, no model of ours, and deployments in the rig's cluster."""
    platform: Any = FakePlatform()
    for layer in platform.layers:
        layer.ensure()
    platform.deployments = KubernetesDeployments(
        rig.parts,
        Manifests(secret="keys", image=None),
        artifacts=platform,
        gateway=platform,
    )
    context = Context(Settings(home=tmp_path))
    vars(context).update(platform=platform, catalog=type("None", (), {"models": (), "refused": ()}))
    return context


def theirs(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": SELDON_DEPLOYMENT.api_version,
        "kind": SELDON_DEPLOYMENT.kind,
        "metadata": {"name": name, "namespace": "strangers", "uid": name},
        "spec": {"predictors": [{"name": "main", "graph": {"name": "own"}}], **spec},
    }


def test_faults_of_other_deployments_are_shown_and_do_not_affect_ours(
    context: Context, rig: ExistingRig
) -> None:
    rig.api.put({**theirs("broken"), "status": {"state": "Failed", "description": "no container"}})
    rig.api.put(theirs("empty", predictors=[]))
    rig.api.put(theirs("odd", predictors=[{"name": "a", "traffic": 7, "graph": {}}, {}]))
    status = observe(context)
    shown = {m.deployment: [(p.state, p.reason) for p in m.predictors] for m in status.models}
    assert shown["broken"] == [("failed", "no container")]
    assert shown["empty"] == []
    assert len(shown["odd"]) == 2
    assert [m.namespace for m in status.models] == ["strangers"] * 3
    assert status.is_ready()


def test_an_unreadable_namespace_of_somebody_else_is_not_our_fault(
    context: Context, rig: ExistingRig
) -> None:
    rig.api.put(theirs("closed"))
    rig.api.fail(AccessDeniedError("you may not list them"), verbs=("list",), kind="Deployment")
    status = observe(context)
    (seen,) = status.models
    assert (seen.deployment, seen.predictors) == ("closed", [])
    assert seen.reason == "unknown: you may not list them"
    assert status.is_ready()
