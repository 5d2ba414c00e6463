from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import NotFoundError, UnknownNameError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.planning import (
    find_artifact,
    plan_layers,
    plan_model,
    previous_artifact,
)
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, LayerState, Ready
from mlops_pipeline_tests.fakes import FakeLayer, FakeObjectStore, FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files


@pytest.mark.parametrize(
    ("state", "action", "reason"),
    [
        (Absent(), "create", "not there"),
        (Ready(), "keep", ""),
        (Drifted(("port is 1, not 2", "one more")), "update", "port is 1, not 2; one more"),
        (Broken("does not answer"), "repair", "does not answer"),
    ],
)
def test_a_layers_plan_says_why(state: LayerState, action: str, reason: str) -> None:
    (step,) = plan_layers([FakeLayer("gateway", state=state)])
    assert (step.asset, step.action, step.reason) == ("gateway", action, reason)


def test_what_is_broken_above_another_that_is_not_ready_may_be_so_only_for_that() -> None:
    steps = plan_layers(
        [
            FakeLayer("addresses", state=Drifted(("its pool is gone",))),
            FakeLayer("gateway", ("addresses",), state=Broken("it has no address")),
            FakeLayer("operator", ("gateway",), state=Broken("it does not answer")),
            FakeLayer("image", ("cluster",), state=Broken("a node lacks it")),
        ]
    )
    assert [(step.action, step.reason) for step in steps] == [
        ("update", "its pool is gone"),
        ("decide", "stands on addresses; it has no address"),
        ("decide", "stands on gateway; it does not answer"),
        ("repair", "a node lacks it"),
    ]


def _actions(platform: FakePlatform) -> list[str]:
    return [s.action for s in plan_model(REGISTERED, platform=platform, file=None)]


def test_a_models_plan_follows_what_is_there() -> None:
    platform = FakePlatform()
    assert _actions(platform) == ["load", "train", "deploy"]
    for layer in platform.layers:
        layer.ensure()
    assert _actions(platform) == ["load", "train", "deploy"]
    datasets, artifacts = DatasetStore(platform.store), ArtifactStore(platform.store)
    snapshot = datasets.ensure(REGISTERED, file=None)
    assert _actions(platform) == ["keep", "train", "deploy"]
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)
    ref = ensure_trained(order, datasets=datasets, artifacts=artifacts, run_id="r", force=False).ref
    assert _actions(platform) == ["keep", "keep", "deploy"]
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=platform.object_store_secret()))
    assert _actions(platform) == ["keep", "keep", "keep"]
    platform.deployments.applied.clear()
    other = replace(ref, digest="0" * 64)
    platform.deployments.apply(seldon_deployment(TOY, other, secret=platform.object_store_secret()))
    platform.deployments.difference = "the engine is off, the settings say on"
    *_, last = plan_model(REGISTERED, platform=platform, file=None)
    assert last.reason == f"the engine is off, the settings say on; {ref.digest[:12]} replaces it"
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=platform.object_store_secret()))
    platform.deployments.state = "failed"
    assert _actions(platform) == ["keep", "keep", "repair"]
    platform.deployments.state = "edited"
    assert _actions(platform) == ["keep", "keep", "update"]
    platform.deployments.delete(TOY.server.deployment, namespace=TOY.server.namespace)
    *_, last = plan_model(REGISTERED, platform=platform, file=None)
    assert (last.action, last.reason) == ("deploy", "seldon/toy-model is not there")
    platform.layers[0].state = Broken("the store is silent")
    first, *_ = plan_model(REGISTERED, platform=platform, file=None)
    assert first.reason == "the store is silent"


def _shared_digit(refs: list[ModelRef]) -> str:
    digits = [ref.digest[0] for ref in refs]
    return max(digits, key=digits.count)


@pytest.mark.parametrize("prefix", ["", "xyz", "../", "A1"])
def test_what_begins_no_digest_is_refused(prefix: str) -> None:
    with pytest.raises(UnknownNameError, match="is not how a digest begins"):
        find_artifact(ArtifactStore(FakeObjectStore()), "toy", prefix=prefix)


def test_artifacts_are_found_by_the_start_of_their_digest(tmp_path: Path) -> None:
    artifacts = ArtifactStore(FakeObjectStore())
    refs: list[ModelRef] = []
    for day in range(1, 18):  # One more than there are first digits.
        manifest, files, evaluation = published_files(
            tmp_path / str(day), content=f"v{day}", created=f"2026-01-{day:02}"
        )
        refs.append(artifacts.publish(manifest, files=files, evaluation=evaluation))

    assert find_artifact(artifacts, "toy", prefix=refs[1].digest[:12]) == refs[1]
    assert previous_artifact(artifacts, refs[2]) == refs[1]
    with pytest.raises(NotFoundError, match="is the digest of no artifact of toy; there are"):
        find_artifact(artifacts, "toy", prefix="0123456789")
    with pytest.raises(NotFoundError, match="is ambiguous"):
        find_artifact(artifacts, "toy", prefix=_shared_digit(refs))
    with pytest.raises(NotFoundError, match="no artifact of toy is older"):
        previous_artifact(artifacts, refs[0])
