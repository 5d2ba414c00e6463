"""`plan` says what a run would do about a release, and changes nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.delivery.criteria import dataset_criteria, model_criteria
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.planning import Step as Planned
from mlops_pipeline.delivery.planning import plan_model
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.planned import (
    describe_missing_traffic,
    describe_plan,
    describe_start,
)
from mlops_pipeline.delivery.training import TrainingOrder
from mlops_pipeline.platforms.observing import observe_platform
from mlops_pipeline_tests.cli.release_rig import CANARY, PLACE, ReleaseRig, release_rig
from mlops_pipeline_tests.toy import TOY, published_files


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseRig]:
    with release_rig(tmp_path, monkeypatch) as made:
        yield made


def _train(rig: ReleaseRig) -> ModelRef:
    """Let `new` be the artifact of the current inputs, with all its verdicts."""
    platform, spec = rig.platform, rig.model.spec
    judge, datasets = Judge(platform, by="a test"), DatasetStore(platform.store)
    platform.serving_environment.scores = [[float(n < 5), float(n >= 5)] for n in range(10)]
    snapshot = datasets.ensure(rig.model, file=None)
    order = TrainingOrder(rig.model, snapshot.ref, spec.hyperparameters)
    manifest, files, evaluation = published_files(rig.folder / "trained", content="trained")
    manifest = replace(manifest, inputs_digest=order.inputs_digest())
    ref = judge.artifacts.publish(manifest, files=files, evaluation=evaluation)
    for criterion in dataset_criteria(spec):
        judge.evaluate(criterion, snapshot.ref)
    for criterion in model_criteria(spec):
        assert judge.evaluate(criterion, ref).passed
    return ref


def _plan(rig: ReleaseRig) -> Planned:
    seen = observe_platform(rig.platform)
    *_, step = plan_model(rig.model, platform=rig.platform, file=None, seen=seen)
    return step


def test_a_release_that_would_begin_is_planned(rig: ReleaseRig) -> None:
    step = _plan(rig)
    assert (step.asset, step.action) == ("toy/deployment", "release")
    assert step.reason.startswith(
        f"a new artifact is released beside {rig.old.digest[:12]}: canary with 25, 50 % of the "
        "requests, at least 100 answers in a step"
    )
    ref = _train(rig)
    step = _plan(rig)
    assert step.action == "release"
    assert step.reason.startswith(f"{ref.digest[:12]} is released beside {rig.old.digest[:12]}: ")
    assert rig.served() == {rig.old.digest: 100}


def test_a_release_that_goes_on_is_planned_with_what_is_missing(rig: ReleaseRig) -> None:
    rig.new = _train(rig)
    rig.begin()
    rig.answer(60)
    step = _plan(rig)
    assert step.action == "release"
    assert step.reason.startswith(f"{rig.new.digest[:12]} has 25 % of the traffic")
    assert "60 of 100 answers; 40 are missing" in step.reason


def test_a_newer_artifact_supersedes_a_release_or_waits(rig: ReleaseRig) -> None:
    rig.begin()
    step = _plan(rig)
    assert step.action == "release"
    assert step.reason.startswith(
        f"a new artifact supersedes a release that has not ended: {rig.new.digest[:12]} has 25 %"
    )
    ref = _train(rig)
    assert _plan(rig).reason.startswith(
        f"{ref.digest[:12]} supersedes a release that has not ended"
    )
    rig.releases.abort("a test")
    waiting = replace(CANARY, competing="wait")
    rig.model = replace(rig.model, spec=replace(rig.model.spec, release=waiting))
    rig.wait(60)
    rig.begin()
    assert _plan(rig).reason.endswith(f"; the newer artifact {ref.digest[:12]} waits")


def test_a_new_artifact_is_released_beside_a_promoted_version_while_the_former_one_is_kept(
    rig: ReleaseRig,
) -> None:
    rig.begin()
    rig.releases.promote()
    rig.wait(100)
    kept = (
        f"{rig.new.digest[:12]} has all traffic; {rig.old.digest[:12]} is kept ready for 200 s "
        "more, then `mlops-pipeline up toy` or the sensor stops it"
    )
    step = _plan(rig)
    assert step.action == "release"
    assert step.reason.startswith(
        f"{kept}; a new artifact is released beside {rig.new.digest[:12]}: canary with 25, 50 % of"
    )
    assert "Warning: the deployment gets" in step.reason
    ref = _train(rig)
    assert _plan(rig).reason.startswith(
        f"{kept}; {ref.digest[:12]} is released beside {rig.new.digest[:12]}: "
    )


def test_a_refused_artifact_is_held_while_a_former_version_is_kept(rig: ReleaseRig) -> None:
    other, rig.new = rig.new, _train(rig)
    rig.begin()
    refused = rig.new
    rig.releases.abort("a test")
    rig.wait(60)
    rig.new = other
    rig.begin()
    rig.releases.promote()
    step = _plan(rig)
    assert step.action == "held"
    assert f"the artifact toy {refused.digest[:12]} is not released again" in step.reason


def test_a_paused_release_is_held_unless_a_newer_artifact_supersedes_it(rig: ReleaseRig) -> None:
    rig.begin()
    rig.releases.pause()
    assert _plan(rig).action == "release"
    rig.releases.abort("a test")
    rig.wait(60)
    rig.new = _train(rig)
    rig.begin()
    rig.releases.pause()
    step = _plan(rig)
    assert step.action == "held"
    assert step.reason.endswith("; step 1 of 2; paused; a person must resume it")


def test_an_artifact_whose_release_was_rolled_back_is_held(rig: ReleaseRig) -> None:
    rig.new = _train(rig)
    rig.begin()
    rig.answer(100, failed=60)
    assert rig.releases.advance().decision is not None
    step = _plan(rig)
    assert step.action == "held"
    assert step.reason.startswith(
        f"the artifact toy {rig.new.digest[:12]} is not released again: its last release here "
        "ended with: failed answers: 60 of 100"
    )
    assert "--accept-refused" in step.reason


def test_a_deployment_after_a_release_is_kept(rig: ReleaseRig) -> None:
    rig.model = replace(
        rig.model, spec=replace(rig.model.spec, release=replace(CANARY, keep_seconds=0.0))
    )
    rig.new = _train(rig)
    rig.begin()
    rig.releases.promote()
    step = _plan(rig)
    assert (step.action, step.reason) == ("keep", rig.new.digest[:12])


def test_a_damaged_release_is_refused_with_what_to_do(rig: ReleaseRig) -> None:
    rig.begin()
    rig.platform.deployments.annotate(
        TOY.server.deployment, {"mlops-pipeline/release": "{"}, namespace=PLACE
    )
    step = _plan(rig)
    assert step.action == "refused"
    assert "release abort" in step.reason


def test_the_first_version_and_a_replacement_are_deployed(rig: ReleaseRig) -> None:
    other = replace(rig.model.spec, release=ReleaseSpec())
    assert describe_start(other, rig.new, rig.platform) == ""
    rig.platform.deployments.delete(TOY.server.deployment, namespace=PLACE)
    assert describe_start(rig.model.spec, rig.new, rig.platform) == ""
    assert _plan(rig).action == "deploy"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (ReleaseSpec("canary"), "canary with 5, 25, 50 % of the requests, at least 100 answers in"),
        (ReleaseSpec("shadow", approval=True), "least 100 answers; a person must promote it"),
        (
            ReleaseSpec("blue_green"),
            "100 % of the requests; the former version stays ready for 300",
        ),
        (ReleaseSpec("ab"), "ab with 50 % of the requests until a person decides"),
        (ReleaseSpec("canary", steps=(Step(5, 10), Step(9, 20))), "at least 10 to 20 answers"),
    ],
)
def test_a_plan_is_described(plan: ReleaseSpec, said: str) -> None:
    assert said in describe_plan(plan)


def test_a_canary_without_enough_requests_is_warned_of(rig: ReleaseRig) -> None:
    deployments, spec = rig.platform.deployments, rig.model.spec

    def warned(release: ReleaseSpec = CANARY, *, after: float = 1000.0) -> str:
        (predictor,) = deployments.counts(TOY.server.deployment, namespace=PLACE)
        now = predictor.servers[0].started + after
        return describe_missing_traffic(replace(spec, release=release), rig.platform, now=now)

    assert warned().startswith(
        "the deployment gets 0 requests/s, so the step of 25 % will see about 0 of 100 answers in "
        "900 s; then a person must decide. Send requests, or set when_silent"
    )
    assert "then it is rolled back" in warned(replace(CANARY, when_silent="roll_back"))
    assert warned(replace(CANARY, when_silent="replay")) == ""
    assert warned(ReleaseSpec("shadow")) == ""
    assert warned(after=5) == ""
    deployments.count(TOY.server.deployment, TOY.server.predictor, answered=1000, namespace=PLACE)
    assert warned() == ""
    assert "the deployment gets 0.1 requests/s" in warned(after=10_000)
