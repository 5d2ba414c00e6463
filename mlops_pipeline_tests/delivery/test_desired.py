"""What a deployment should serve is remembered on it and in the object store."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import IntegrityError, RefusedError
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.choosing import choose_named, describe_refusal, find_pinned
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.desired import (
    PINNED_ANNOTATION,
    Desired,
    DesiredState,
    find_pin,
    find_pin_on_deployment,
    forget,
    pinned_digests,
    without_desired,
)
from mlops_pipeline.delivery.history import record_acceptance
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import Acceptance
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION
from mlops_pipeline_tests.delivery.test_rolling_back import History
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY

FIRST, SECOND = (ref_to("toy", digit * 64) for digit in "12")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COPY = ("models", "toy/desired/fake/seldon/toy-model.json")


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def state(platform: FakePlatform) -> DesiredState:
    return DesiredState(TOY, platform, now=lambda: NOON)


def serve(platform: FakePlatform, ref: ModelRef, *, is_pinned: bool = False) -> Desired:
    """Do what a deployment that was proved does."""
    desired = state(platform).wanting(ref, by="somebody", is_pinned=is_pinned)
    secret = platform.object_store_secret()
    platform.deployments.apply(seldon_deployment(TOY, ref, secret=secret, desired=desired))
    state(platform).keep(desired)
    return desired


def test_without_a_request_there_is_no_desired_state(platform: FakePlatform) -> None:
    assert state(platform).find() is None
    assert find_pin(TOY, platform) is None
    assert state(platform).unpin(by="me") is None


def test_each_change_has_a_higher_revision_and_no_change_has_none(platform: FakePlatform) -> None:
    first = serve(platform, FIRST)
    assert first == Desired(FIRST.digest, "somebody", "2026-01-01T12:00:00+00:00", False, 1)
    assert state(platform).wanting(FIRST, by="another", is_pinned=False) == first
    assert serve(platform, FIRST, is_pinned=True).revision == 2
    assert serve(platform, SECOND).revision == 3
    assert state(platform).find() == serve(platform, SECOND)
    annotations = platform.deployments.list()[0].metadata.annotations
    assert annotations["mlops-pipeline/artifact-digest"] == SECOND.digest
    assert annotations["mlops-pipeline/revision"] == "3"
    assert annotations["mlops-pipeline/wanted-by"] == "somebody"


def test_a_deployment_of_an_earlier_version_wants_what_it_serves(platform: FakePlatform) -> None:
    platform.deployments.apply(seldon_deployment(TOY, FIRST, secret="s"))
    assert state(platform).find() == Desired(FIRST.digest)
    unchanged = state(platform).wanting(FIRST, by="me", is_pinned=False)
    assert seldon_deployment(TOY, FIRST, secret="s", desired=unchanged) == (
        seldon_deployment(TOY, FIRST, secret="s")
    )
    state(platform).keep(unchanged)
    assert COPY not in platform.store.objects
    assert state(platform).wanting(FIRST, by="me", is_pinned=True).revision == 1


def test_a_deleted_deployment_is_wanted_as_before(platform: FakePlatform) -> None:
    pinned = serve(platform, FIRST, is_pinned=True)
    platform.deployments.delete("toy-model", namespace="seldon")
    assert state(platform).find() == pinned
    assert pinned_digests(platform.store) == {FIRST.digest}
    forget(platform)
    assert state(platform).find() is None
    assert pinned_digests(platform.store) == set()


def test_the_higher_revision_counts_and_an_older_manifest_is_reported(
    platform: FakePlatform,
) -> None:
    serve(platform, FIRST)
    old = platform.deployments.list()[0]
    newer = serve(platform, SECOND)
    assert state(platform).describe_difference() == ""
    platform.deployments.apply(old)
    assert state(platform).find() == newer
    said = state(platform).describe_difference()
    assert "has revision 1" in said
    assert "has revision 2 by somebody, which takes precedence" in said
    platform.deployments.apply(old.annotated(replace(newer, revision=7).annotations()))
    found = state(platform).find()
    assert found is not None
    assert found.revision == 7
    assert state(platform).describe_difference() == ""  # Its command was killed before the copy.


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"digest": 1}'])
def test_a_damaged_copy_counts_only_where_nothing_else_says_what_is_wanted(
    platform: FakePlatform, data: bytes
) -> None:
    desired = serve(platform, FIRST, is_pinned=True)
    platform.store.objects[COPY] = data
    assert state(platform).find() == desired
    state(platform).keep(desired)
    assert pinned_digests(platform.store) == {FIRST.digest}
    platform.store.objects[COPY] = data
    platform.deployments.delete("toy-model", namespace="seldon")
    with pytest.raises(IntegrityError, match=r"models/toy/desired/fake/seldon/toy-model.json"):
        state(platform).find()
    with pytest.raises(IntegrityError):
        pinned_digests(platform.store)


def test_a_manual_pin_without_a_revision_is_not_a_desired_state(platform: FakePlatform) -> None:
    deployment = seldon_deployment(TOY, FIRST, secret="s").annotated({PINNED_ANNOTATION: "true"})
    platform.deployments.apply(deployment)
    found = state(platform).find()
    assert found is not None
    assert not found.is_pinned


def test_a_manifest_without_a_desired_state_is_reported(platform: FakePlatform) -> None:
    serve(platform, FIRST, is_pinned=True)
    (exported,) = platform.deployments.list()
    platform.deployments.apply(without_desired(exported).annotated({DIGEST_ANNOTATION: ""}))
    said = state(platform).describe_difference()
    assert "revision 0 of its desired state, but the object store has revision 1" in said
    found = state(platform).find()
    assert found is not None
    assert found.is_pinned


def test_unpinning_moves_no_traffic_and_keeps_what_people_wrote(platform: FakePlatform) -> None:
    pinned = serve(platform, FIRST, is_pinned=True)
    found = platform.deployments.list()[0]
    theirs = {**found.metadata.annotations, "team": "forest"}
    metadata = found.metadata.model_copy(update={"annotations": theirs})
    platform.deployments.apply(found.model_copy(update={"metadata": metadata}))

    assert state(platform).unpin(by="me") == pinned

    (after,) = platform.deployments.list()
    assert after.spec == found.spec
    assert after.metadata.annotations["team"] == "forest"
    assert after.metadata.annotations[PINNED_ANNOTATION] == "false"
    assert state(platform).find() == Desired(
        FIRST.digest, "me", "2026-01-01T12:00:00+00:00", False, 2
    )
    assert state(platform).unpin(by="me") is None


def test_a_pin_is_shown_with_the_artifact_that_waits(history: History) -> None:
    old = history.serve(history.judged())
    platform = history.platform
    serve(platform, old, is_pinned=True)
    found = find_pin(TOY, platform)
    assert found is not None
    assert found.waiting == ""
    refused = history.judged(accuracy=0.36)
    found = find_pin(TOY, platform)
    assert found is not None
    assert (found.waiting, history.state(refused)) == ("", "refused")
    new = history.judged()
    found = find_pin(TOY, platform)
    assert found is not None
    assert found.describe() == (
        f"{old.digest[:12]} is pinned since 2026-01-01T12:00:00+00:00 by somebody; "
        f"the newer artifact {new.digest[:12]} waits"
    )
    platform.store.silent = {"get", "sizes"}
    found = find_pin_on_deployment(TOY, platform)
    assert found is not None
    assert (found.desired.digest, found.waiting) == (old.digest, "")


def test_a_pinned_artifact_is_deployed_only_while_it_may_serve(history: History) -> None:
    ref, judge = history.judged(), history.judge
    assert find_pinned(TOY, judge) is None
    serve(history.platform, ref, is_pinned=True)
    choice = find_pinned(TOY, judge)
    assert choice is not None
    assert (choice.ref, choice.is_pinned, choice.accepted) == (ref, True, {})

    history.platform.serving_environment.name = "another"
    history.platform.serving_environment.scores = [[0.5, 0.5]] * 10
    with pytest.raises(
        RefusedError, match=r"pinned artifact toy .* is refused by predicts_the_same"
    ):
        find_pinned(TOY, judge)


def test_a_pinned_artifact_that_a_person_accepted_stays_accepted(history: History) -> None:
    ref = history.judged(accuracy=0.36)
    serve(history.platform, ref, is_pinned=True)
    with pytest.raises(RefusedError, match="accuracy_at_least_threshold"):
        find_pinned(TOY, history.judge)
    assert "accuracy_at_least_threshold" in describe_refusal(TOY, ref.digest, history.judge)

    accepted = choose_named(TOY, history.judge, prefix=ref.digest, accept_refused=True).accepted
    for _ in range(3):
        record_acceptance(ref, accepted, log=history.judge.log, by="somebody")
    choice = find_pinned(TOY, history.judge)
    assert choice is not None
    assert list(choice.accepted) == ["accuracy_at_least_threshold"]
    assert describe_refusal(TOY, ref.digest, history.judge) == ""
    entries = history.judge.log.entries(ref)
    assert len([e for e in entries if isinstance(e, Acceptance)]) == 1


def test_a_pinned_artifact_that_is_gone_is_an_error_that_says_what_to_do(
    history: History,
) -> None:
    ref = history.judged()
    serve(history.platform, ref, is_pinned=True)
    history.judge.artifacts.delete(ref)
    with pytest.raises(Exception, match=r"missing or damaged .* `mlops-pipeline unpin toy`"):
        find_pinned(TOY, history.judge)
