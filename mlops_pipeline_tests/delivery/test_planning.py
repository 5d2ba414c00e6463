from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.criteria import dataset_criteria, model_criteria
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.desired import DesiredState
from mlops_pipeline.delivery.judging import Criterion, Judge
from mlops_pipeline.delivery.planning import Step, plan_layers, plan_model
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready, Unknown
from mlops_pipeline.platforms.observing import SeenState, observe_platform
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files

pytestmark = pytest.mark.usefixtures("worker_here")
OBSTACLE = "the volume has 20Gi and cannot shrink; set object_store.size to 20Gi"


@pytest.mark.parametrize(
    ("state", "action", "reason"),
    [
        (Absent(), "create", "absent"),
        (Ready(), "keep", ""),
        (Drifted(("port is 1, not 2", "one more")), "update", "port is 1, not 2; one more"),
        (Broken("does not answer"), "repair", "does not answer"),
        (Drifted(("it has 20Gi",), obstacle=OBSTACLE), "blocked", OBSTACLE),
        (Broken("it is somebody else's", obstacle=OBSTACLE), "blocked", OBSTACLE),
        (Absent(obstacle=OBSTACLE), "blocked", OBSTACLE),
        (Unknown("requires cluster"), "decide", "requires cluster"),
    ],
)
def test_a_layers_plan_says_why(state: SeenState, action: str, reason: str) -> None:
    assert plan_layers({"gateway": state}) == [Step("gateway", action, reason)]


def test_a_model_waits_for_an_object_store_at_which_nobody_could_look() -> None:
    platform = FakePlatform()
    platform.layers[0].state = Ready()
    seen: dict[str, SeenState] = {
        "object_store": Unknown("requires cluster, which is broken"),
        "gateway": Ready(),
    }
    steps = plan_model(REGISTERED, platform=platform, file=None, seen=seen)
    assert {(s.action, s.reason) for s in steps} == {
        ("load", "the object store requires cluster, which is broken"),
        ("train", "its dataset is new"),
        ("deploy", "new artifact"),
    }
    platform.deployments.list = lambda: pytest.fail("it hangs")  # type: ignore[method-assign]
    seen["gateway"] = Unknown("did not answer within 20 s")
    steps = plan_model(REGISTERED, platform=platform, file=None, seen=seen)
    assert {s.action for s in steps} == {"decide"}


def _plan(platform: FakePlatform) -> list[Step]:
    seen = observe_platform(platform)
    return plan_model(REGISTERED, platform=platform, file=None, seen=seen)


def _actions(platform: FakePlatform) -> list[str]:
    return [step.action for step in _plan(platform)]


def test_a_models_plan_follows_the_current_state() -> None:
    platform = FakePlatform()
    assert _actions(platform) == ["load", "train", "deploy"]
    for layer in platform.layers:
        layer.ensure()
    assert _actions(platform) == ["load", "train", "deploy"]
    datasets, artifacts = DatasetStore(platform.store), ArtifactStore(platform.store)
    snapshot = datasets.ensure(REGISTERED, file=None)
    assert _actions(platform) == ["verify", "train", "deploy"]
    _judge(platform, dataset_criteria(TOY), snapshot.ref)
    assert _actions(platform) == ["keep", "train", "deploy"]
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)
    ref = ensure_trained(order, datasets=datasets, artifacts=artifacts, run_id="r", force=False).ref
    _, model, deployment = _plan(platform)
    assert (model.action, deployment.action) == ("verify", "decide")
    assert model.reason.endswith(
        ": not evaluated yet: accuracy_at_least_threshold, predicts_the_same_where_it_is_served"
    )
    assert deployment.reason == "seldon/toy-model is missing, if its checks pass"
    platform.serving_environment.scores = [[float(n < 5), float(n >= 5)] for n in range(10)]
    _judge(platform, model_criteria(TOY), ref)
    assert _actions(platform) == ["keep", "keep", "deploy"]
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=platform.object_store_secret()))
    assert _actions(platform) == ["keep", "keep", "keep"]


def test_a_plan_follows_the_current_state_of_the_deployment() -> None:
    platform = FakePlatform()
    order = _trained(platform)
    artifacts = ArtifactStore(platform.store)
    ref = artifacts.find_by_inputs("toy", inputs_digest=order.inputs_digest())
    assert ref is not None
    _judge(platform, model_criteria(TOY), ref)
    other = replace(ref, digest="0" * 64)
    platform.deployments.apply(seldon_deployment(TOY, other, secret=platform.object_store_secret()))
    platform.deployments.difference = "the engine is off, the settings say on"
    platform.deployments.conflict = "somebody else created it"
    *_, last = _plan(platform)
    assert (last.action, last.reason) == ("held", "somebody else created it")
    platform.deployments.conflict = ""
    *_, last = _plan(platform)
    assert last.reason == f"the engine is off, the settings say on; {ref.digest[:12]} replaces it"
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=platform.object_store_secret()))
    platform.deployments.state = "failed"
    assert _actions(platform) == ["keep", "keep", "repair"]
    platform.deployments.state = "edited"
    assert _actions(platform) == ["keep", "keep", "update"]
    platform.deployments.delete(TOY.server.deployment, namespace=TOY.server.namespace)
    *_, last = _plan(platform)
    assert (last.action, last.reason) == ("deploy", "seldon/toy-model is missing")
    platform.layers[0].state = Broken("the store is silent")
    first, *_ = _plan(platform)
    assert first.reason == "the store is silent"


def _judge(
    platform: FakePlatform, criteria: Sequence[Criterion], ref: DatasetRef | ModelRef
) -> None:
    judge = Judge(platform, by="a test")
    for criterion in criteria:
        judge.evaluate(criterion, ref)


def _trained(platform: FakePlatform) -> TrainingOrder:
    """Load and train the toy model, and judge its data alone."""
    for layer in platform.layers:
        layer.ensure()
    platform.serving_environment.scores = [[float(n < 5), float(n >= 5)] for n in range(10)]
    datasets, artifacts = DatasetStore(platform.store), ArtifactStore(platform.store)
    snapshot = datasets.ensure(REGISTERED, file=None)
    _judge(platform, dataset_criteria(TOY), snapshot.ref)
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)
    ensure_trained(order, datasets=datasets, artifacts=artifacts, run_id="r", force=False)
    return order


def test_a_plan_knows_what_checks_refused() -> None:
    platform = FakePlatform()
    order = _trained(platform)
    judge = Judge(platform, by="a test")
    ref = judge.artifacts.find_by_inputs("toy", inputs_digest=order.inputs_digest())
    assert ref is not None
    right = platform.serving_environment.scores
    platform.serving_environment.scores = [[0.5, 0.5]] * 10
    for criterion in model_criteria(TOY):
        judge.evaluate(criterion, ref)

    _, model, deployment = _plan(platform)
    assert (model.action, deployment.action) == ("refused", "held")
    for step in (model, deployment):
        assert "predicts_the_same_where_it_is_served: the scores of 10 rows" in step.reason

    platform.store.objects = {
        k: v for k, v in platform.store.objects.items() if "served" not in k[1]
    }
    platform.serving_environment.scores = right
    for criterion in model_criteria(TOY):
        assert judge.evaluate(criterion, ref).passed
    assert _actions(platform) == ["keep", "keep", "deploy"]


def _pinned(platform: FakePlatform, folder: Path) -> tuple[ModelRef, ModelRef]:
    """Deploy and pin an old artifact; return it and that of the current inputs."""
    order = _trained(platform)
    artifacts = ArtifactStore(platform.store)
    ref = artifacts.find_by_inputs("toy", inputs_digest=order.inputs_digest())
    assert ref is not None
    manifest, files, evaluation = published_files(folder, created="2020-01-01")
    pinned = artifacts.publish(manifest, files=files, evaluation=evaluation)
    state = DesiredState(TOY, platform)
    desired = state.wanting(pinned, by="somebody", is_pinned=True)
    secret = platform.object_store_secret()
    platform.deployments.apply(seldon_deployment(TOY, pinned, secret=secret, desired=desired))
    state.keep(desired)
    return pinned, ref


def _deployment_step(platform: FakePlatform) -> Step:
    *_, step = _plan(platform)
    return step


def test_a_plan_leaves_a_pinned_artifact_in_place(tmp_path: Path) -> None:
    platform = FakePlatform()
    pinned, ref = _pinned(platform, tmp_path)
    step = _deployment_step(platform)
    assert step.action == "keep"
    assert step.reason.startswith(f"{pinned.digest[:12]} is pinned since ")
    assert step.reason.endswith(f"by somebody; the newer artifact {ref.digest[:12]} waits")
    platform.deployments.delete("toy-model", namespace="seldon")
    step = _deployment_step(platform)
    assert step.action == "deploy"
    assert f"; {pinned.digest[:12]} is pinned" in step.reason


def test_a_plan_says_why_a_pinned_artifact_is_not_deployed(tmp_path: Path) -> None:
    platform = FakePlatform()
    pinned, ref = _pinned(platform, tmp_path)
    platform.deployments.delete("toy-model", namespace="seldon")
    platform.serving_environment.scores = [[0.5, 0.5]] * 10
    judge = Judge(platform, by="a test")
    for criterion in model_criteria(TOY):
        judge.evaluate(criterion, ref)
    step = _deployment_step(platform)
    assert step.action == "held"
    assert f"`mlops-pipeline rollback toy {pinned.digest[:12]}`" in step.reason

    for criterion in model_criteria(TOY):
        judge.evaluate(criterion, pinned)
    step = _deployment_step(platform)
    assert step.action == "refused"
    assert "refused by predicts_the_same_where_it_is_served" in step.reason

    judge.artifacts.delete(pinned)
    step = _deployment_step(platform)
    assert step.action == "refused"
    assert "it is missing or damaged in the object store" in step.reason

    platform.store.objects["models", "toy/desired/fake/seldon/toy-model.json"] = b"{"
    step = _deployment_step(platform)
    assert step.action == "refused"
    assert "could not read the desired state" in step.reason


def test_a_plan_trains_nothing_on_a_refused_dataset() -> None:
    platform = FakePlatform()
    order = _trained(platform)
    judge = Judge(platform, by="a test")
    place = ("datasets", f"toy/{order.dataset.digest}/profile.json")
    whole = platform.store.objects[place]
    platform.store.objects[place] = whole.replace(b'"missing": 0', b'"missing": 3')
    for criterion in dataset_criteria(TOY):
        judge.evaluate(criterion, order.dataset)
    platform.store.objects[place] = whole

    steps = _plan(platform)

    assert [step.action for step in steps] == ["refused", "held", "held"]
    for step in steps:
        assert "has_no_missing_values: " in step.reason
        assert "train: 3 values are missing or infinite" in step.reason


def test_a_plan_does_not_keep_an_object_that_was_overwritten() -> None:
    platform = FakePlatform()
    order = _trained(platform)
    judge = Judge(platform, by="a test")
    ref = judge.artifacts.find_by_inputs("toy", inputs_digest=order.inputs_digest())
    assert ref is not None
    for criterion in model_criteria(TOY):
        assert judge.evaluate(criterion, ref).passed
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=platform.object_store_secret()))
    assert _actions(platform) == ["keep", "keep", "keep"]

    for path in (f"toy/{ref.digest}/model.joblib", f"toy/evaluations/{ref.digest}/holdout.npz"):
        whole = platform.store.objects["models", path]
        platform.store.objects["models", path] = bytes(reversed(whole))
        _, model, deployment = _plan(platform)
        assert (model.action, deployment.action) == ("refused", "held")
        assert "matches_its_manifest" in model.reason
        assert path.rpartition("/")[2] in model.reason
        platform.store.objects["models", path] = whole
        assert _actions(platform) == ["keep", "keep", "keep"]
