"""`status`: what it shows of layers and models, also where somebody else deploys too."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mlops_pipeline.catalog.registry import Catalog
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.status import observe, show
from mlops_pipeline.clients.errors import AccessDeniedError, UnavailableError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.layers import Broken, Drifted
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.platforms.kubernetes.rig import ExistingRig
from mlops_pipeline_tests.toy import REGISTERED


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


@pytest.fixture
def toy(tmp_path: Path) -> Context:
    """Layers that are ready and one model, in memory."""
    platform: Any = FakePlatform()
    for layer in platform.layers:
        layer.ensure()
    context = Context(Settings(home=tmp_path))
    vars(context).update(platform=platform, catalog=Catalog((REGISTERED,)))
    return context


def test_a_layer_that_only_a_person_can_repair_says_what_to_do(toy: Context) -> None:
    store, gateway = toy.platform.layers
    cure = "the volume has 20Gi and cannot shrink; set [kind.object_store] size to 20Gi"
    store.state = Drifted(("the volume has 20Gi",), obstacle=cure)  # type: ignore[attr-defined]
    gateway.state = Broken("it does not answer")  # type: ignore[attr-defined]
    status = observe(toy)
    shown = {layer.name: (layer.state, layer.reason, layer.repairable) for layer in status.layers}
    assert shown == {
        "object_store": ("drifted", cure, False),
        "gateway": (
            "unknown",
            "requires object_store, which has drifted; it does not answer",
            None,
        ),
    }
    assert not status.is_ready()
    console = Console(width=200, file=io.StringIO())
    show(status, console)
    assert f"`up` cannot repair this: {cure}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_layer_that_up_repairs_says_so_too(toy: Context) -> None:
    toy.platform.layers[1].state = Broken("it does not answer")  # type: ignore[attr-defined]
    store, gateway = observe(toy).layers
    assert (store.state, store.repairable) == ("ready", None)
    assert (gateway.state, gateway.reason, gateway.repairable) == (
        "broken",
        "it does not answer",
        True,
    )


def test_deployments_that_do_not_answer_are_asked_once(toy: Context) -> None:
    asked = []

    def time_out(*_: object, **__: object) -> None:
        asked.append(1)
        raise UnavailableError("timed out after 15 s")

    for name in ("list", "find", "status", "describe_absence"):
        setattr(toy.platform.deployments, name, time_out)
    (model,) = observe(toy).models
    assert (model.reason, model.predictors, model.pin) == (
        "unknown: see the layers above",
        [],
        None,
    )
    assert len(asked) == 1
