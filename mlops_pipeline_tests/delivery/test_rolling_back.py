"""A rollback takes what served or passed; what is refused only by its digest and on purpose."""

from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import NotFoundError, RefusedError, UnknownNameError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.criteria import MATCHES, NOT_WORSE, model_criteria
from mlops_pipeline.delivery.deploying import find_last_good, seldon_deployment
from mlops_pipeline.delivery.history import place_of, record_end, record_serving
from mlops_pipeline.delivery.judging import Judge, Verdict
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import (
    find_artifact,
    find_refusals,
    previous_good,
    require_good,
)
from mlops_pipeline.delivery.verdicts import (
    COMPARED_WITH,
    PLACE,
    READABLE,
    Acceptance,
    Judgement,
    ServingStarted,
    VerdictLog,
    standing,
)
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files

RIGHT = [[float(n < 5), float(n >= 5)] for n in range(10)]


class History:
    """Publishes, judges and deploys artifacts of the toy model, one a day."""

    def __init__(self, folder: Path) -> None:
        self.platform = FakePlatform()
        self.platform.serving_environment.scores = RIGHT
        self.judge = Judge(self.platform, by="a test")
        self._folder = folder
        self._day = 0

    def publish(self, *, accuracy: float = 1.0) -> ModelRef:
        self._day += 1
        manifest, files, evaluation = published_files(
            self._folder / str(self._day),
            content=f"v{self._day}",
            accuracy=accuracy,
            created=f"2026-01-{self._day:02}",
        )
        return self.judge.artifacts.publish(manifest, files=files, evaluation=evaluation)

    def judged(self, **fields: Any) -> ModelRef:
        ref = self.publish(**fields)
        for criterion in model_criteria(TOY):
            self.judge.evaluate(criterion, ref)
        return ref

    def serve(self, ref: ModelRef, *, although_refused: bool = False) -> ModelRef:
        before = self.platform.deployments.find("toy-model", namespace="seldon")
        after = seldon_deployment(TOY, ref, secret=self.platform.object_store_secret())
        self.platform.deployments.apply(after)
        record_serving(
            before,
            after,
            platform=self.platform,
            by="t",
            accepted={ref: {"accuracy": "too low"}} if although_refused else {},
        )
        return ref

    def last_good(self) -> ModelRef | None:
        judge = self.judge
        return find_last_good(TOY, self.platform, artifacts=judge.artifacts, log=judge.log)

    def refused_by(self, ref: ModelRef) -> tuple[str, ...]:
        return standing(self.judge.log.entries(ref)).refused_by

    def state(self, ref: ModelRef) -> str:
        return standing(self.judge.log.entries(ref)).state


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_a_refused_artifact_is_passed_over(history: History) -> None:
    good = history.serve(history.judged())
    refused = history.judged(accuracy=0.36)
    never_judged = history.publish()
    history.serve(history.judged())

    assert previous_good(TOY, history.judge) == good
    assert history.state(refused) == "refused"
    assert history.state(never_judged) == "unjudged"


def test_one_that_passed_and_never_served_is_taken(history: History) -> None:
    history.serve(history.judged())
    passed = history.judged()
    history.serve(history.judged())
    assert previous_good(TOY, history.judge) == passed


def test_where_there_is_none_each_is_named(history: History) -> None:
    with pytest.raises(NotFoundError, match="could not roll back toy: it is not"):
        previous_good(TOY, history.judge)
    refused, unjudged = history.judged(accuracy=0.36), history.publish()
    history.serve(history.judged())
    with pytest.raises(NotFoundError) as error:
        previous_good(TOY, history.judge)
    assert f"{refused.digest[:12]} is refused by accuracy_at_least_threshold" in str(error.value)
    assert f"{unjudged.digest[:12]} is unjudged" in str(error.value)


def test_a_refused_one_needs_to_be_accepted_and_is_marked(history: History) -> None:
    good = history.serve(history.judged())
    refused = history.judged(accuracy=0.36)
    with pytest.raises(RefusedError, match=r"the accuracy on the hold-out set is 0\.3600"):
        require_good(TOY, refused, history.judge, accept_refused=False)

    assert require_good(TOY, refused, history.judge, accept_refused=True)
    history.serve(refused, although_refused=True)

    marked = standing(history.judge.log.entries(refused))
    assert marked.describe().endswith("(accepted)")
    assert [period.although_refused for period in marked.served] == [True]
    assert history.last_good() == good
    newer = history.judged()
    facts = standing(history.judge.log.entries(newer)).judged[NOT_WORSE].facts
    assert facts[COMPARED_WITH] == good.digest
    history.serve(newer)
    assert previous_good(TOY, history.judge) == good
    assert not require_good(TOY, good, history.judge, accept_refused=False)


def test_one_that_was_never_judged_is_judged_first(history: History) -> None:
    assert not require_good(TOY, history.publish(), history.judge, accept_refused=False)
    with pytest.raises(RefusedError, match="accuracy_at_least_threshold"):
        require_good(TOY, history.publish(accuracy=0.5), history.judge, accept_refused=False)


def test_what_served_by_right_is_not_kept_back_by_a_better_one(history: History) -> None:
    old = history.serve(history.judged())
    better = history.serve(history.judged())
    worse = Judgement(NOT_WORSE, False, "6 rows lost", {COMPARED_WITH: better.digest})
    history.judge.log.append(old, worse)
    assert previous_good(TOY, history.judge) == old
    assert not require_good(TOY, old, history.judge, accept_refused=False)


def _not_worse(history: History, ref: ModelRef, *, accepts: bool = False) -> Verdict:
    (criterion,) = (c for c in model_criteria(TOY) if c.name == NOT_WORSE)
    return history.judge.evaluate(criterion, ref, accepts_worse=accepts)


def test_a_missing_or_damaged_reference_does_not_pass(history: History) -> None:
    good = history.serve(history.judged())
    objects, manifest = history.platform.store.objects, f"toy/{good.digest}/manifest.json"
    for damaged in (b"{", None):
        objects.pop(("models", manifest))
        if damaged:
            objects["models", manifest] = damaged
        new = history.judged()
        verdict = _not_worse(history, new)
        assert not verdict.passed
        assert f"could not compare it with {good.digest[:12]}, the last good version: " in (
            verdict.description
        )
        assert history.refused_by(new) == (NOT_WORSE,)
        assert _not_worse(history, new, accepts=True).passed
        assert history.refused_by(new) == ()


def test_what_was_worse_stays_so_when_its_reference_is_not_good_any_more(history: History) -> None:
    good, worse = history.serve(history.judged()), history.publish()
    history.platform.serving_environment.scores = RIGHT
    log, place = history.judge.log, place_of(history.platform, "seldon", "toy-model")
    lost = {COMPARED_WITH: good.digest, PLACE: place, "max_accuracy_drop": "0.02"}
    log.append(worse, Judgement(NOT_WORSE, False, "6 rows lost", lost))
    log.append(good, Judgement("accuracy_at_least_threshold", False, "the threshold was raised"))
    assert history.last_good() is None
    unmet = history.judge.find_unmet(model_criteria(TOY), worse)
    assert [u.sentence for u in unmet if u.criterion == NOT_WORSE] == ["6 rows lost"]


def test_an_acceptance_that_was_used_is_none_for_a_plan(history: History) -> None:
    good, worse = history.serve(history.judged()), history.judged()
    place = place_of(history.platform, "seldon", "toy-model")
    facts = {COMPARED_WITH: good.digest, PLACE: place, "max_accuracy_drop": "0.02"}
    history.judge.log.append(worse, Judgement(NOT_WORSE, False, "6 rows lost", facts))
    history.judge.log.append(worse, Acceptance("worse", {NOT_WORSE: "6 rows lost"}))
    criteria = model_criteria(TOY)
    assert history.judge.find_unmet(criteria, worse) == ()
    history.serve(worse)
    assert history.judge.find_unmet(criteria, worse) == ()
    history.serve(good)
    assert [u.criterion for u in history.judge.find_unmet(criteria, worse)] == [NOT_WORSE]
    assert not find_refusals(TOY, worse, history.judge)


def test_the_same_damage_is_written_down_once(history: History) -> None:
    ref = history.judged()
    history.platform.store.put("models", f"toy/{ref.digest}/model.joblib", b"other")
    for _ in range(3):
        for criterion in model_criteria(TOY):
            history.judge.evaluate(criterion, ref)
    damaged = [
        entry
        for entry in history.judge.log.entries(ref)
        if isinstance(entry, Judgement) and not entry.passed
    ]
    assert [entry.check for entry in damaged] == [MATCHES]
    assert "changed: model.joblib" in damaged[0].sentence
    assert "/mlops-pipeline-tmp-" not in damaged[0].sentence


def test_the_last_good_one_is_found_without_reading_the_whole_log(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.judged()
    good = history.serve(history.judged())
    log, read, store = VerdictLog(history.platform.store), [], history.platform.store
    get, artifacts = store.get, history.judge.artifacts

    def noted(bucket: str, key: str) -> bytes:
        read.append(key)
        return get(bucket, key)

    monkeypatch.setattr(store, "get", noted)
    assert find_last_good(TOY, history.platform, artifacts=artifacts, log=log) == good
    assert {key.split("/")[2] for key in read} == {good.digest}


def test_one_that_does_not_pass_any_more_is_passed_over(history: History) -> None:
    first, second = history.serve(history.judged()), history.serve(history.judged())
    history.serve(history.judged())
    history.platform.store.put("models", f"toy/{second.digest}/model.joblib", b"other")
    assert previous_good(TOY, history.judge) == first
    assert history.refused_by(second) == (MATCHES,)
    history.platform.store.put("models", f"toy/{first.digest}/model.joblib", b"other")
    with pytest.raises(NotFoundError, match=f"{first.digest[:12]} is refused by {MATCHES}"):
        previous_good(TOY, history.judge)


def test_what_is_deployed_may_be_damaged(history: History) -> None:
    good, deployed = history.serve(history.judged()), history.serve(history.judged())
    history.platform.store.put("models", f"toy/{deployed.digest}/manifest.json", b"{")
    assert previous_good(TOY, history.judge) == good


def test_one_that_passed_after_it_was_accepted_is_good(history: History) -> None:
    accepted = history.serve(history.publish(), although_refused=True)
    for criterion in model_criteria(TOY):
        assert history.judge.evaluate(criterion, accepted).passed
    history.serve(history.judged())
    assert previous_good(TOY, history.judge) == accepted


def test_who_served_beside_the_models_own_deployment_is_not_good_for_that(
    history: History,
) -> None:
    beside = history.publish()
    history.judge.log.append(beside, ServingStarted("fake seldon/scratch"))
    history.serve(history.judged())
    with pytest.raises(NotFoundError, match=f"{beside.digest[:12]} is serving"):
        previous_good(TOY, history.judge)


def test_the_log_says_what_served_when(history: History) -> None:
    first = history.serve(history.serve(history.judged()))
    second = history.serve(history.judged())
    place = place_of(history.platform, "seldon", "toy-model")
    (period,) = standing(history.judge.log.entries(first)).served
    assert (period.place, period.until is None) == (place, False)
    assert history.state(second) == "serving"

    deployed = history.platform.deployments.find("toy-model", namespace="seldon")
    assert deployed is not None
    history.platform.deployments.delete("toy-model", namespace="seldon")
    record_end(deployed, platform=history.platform, by="t")
    assert history.state(second) == "served"
    assert history.last_good() == second


def _shared_digit(refs: list[ModelRef]) -> str:
    digits = [ref.digest[0] for ref in refs]
    return max(digits, key=digits.count)


@pytest.mark.parametrize("prefix", ["", "xyz", "../", "A1"])
def test_what_begins_no_digest_is_refused(prefix: str) -> None:
    with pytest.raises(UnknownNameError, match="is not the start of a digest"):
        find_artifact(ArtifactStore(FakeObjectStore()), "toy", prefix=prefix)


def test_artifacts_are_found_by_the_start_of_their_digest(history: History) -> None:
    refs = [history.publish() for _ in range(17)]  # One more than there are first digits.
    artifacts: ArtifactStore = history.judge.artifacts
    assert find_artifact(artifacts, "toy", prefix=refs[1].digest[:12]) == refs[1]
    with pytest.raises(NotFoundError, match="matches no artifact of toy; choose one of"):
        find_artifact(artifacts, "toy", prefix="0123456789")
    with pytest.raises(NotFoundError, match="matches several artifacts"):
        find_artifact(artifacts, "toy", prefix=_shared_digit(refs))


def test_verdicts_are_not_listed_as_artifacts(history: History) -> None:
    ref = history.judged()
    history.judge.artifacts.delete(ref)
    assert history.judge.artifacts.list("toy") == []
    assert history.state(ref) == "passed"
    assert history.judge.artifacts.models() == ["toy"]


def test_an_unreadable_entry_switches_no_comparison_off(history: History) -> None:
    """It may have been a refusal: such an artifact is not deployed, but others are compared."""
    deployed = history.serve(history.judged())
    store = history.platform.store
    (key, *_) = (k for k in store.objects if f"verdicts/{deployed.digest}/" in k[1])
    store.objects[key] = store.objects[key][:40]
    judge = Judge(history.platform, by="another process")
    assert standing(judge.log.entries(deployed)).refused_by == (READABLE,)
    assert (
        find_last_good(TOY, history.platform, artifacts=judge.artifacts, log=judge.log) == deployed
    )
    history.platform.deployments.delete("toy-model", namespace="seldon")
    assert (
        find_last_good(TOY, history.platform, artifacts=judge.artifacts, log=judge.log) == deployed
    )
