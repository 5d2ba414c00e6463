"""Releases on real processes: good versions are promoted, bad ones rolled back, none is dropped."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlops_pipeline.catalog.releasing import Step
from mlops_pipeline.clients.errors import PipelineError, RefusedError
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.records import history
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.settings import load_settings
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded import killed_release
from mlops_pipeline_tests.embedded.release_rig import QUICK, ReleaseRig

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseRig]:
    """A platform with the first version of the model, which answers well."""
    directory = tmp_path_factory.mktemp("releases")
    made = CommandLine(directory / "home", directory, free_ports(3))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment().items():
            if name.startswith("MLOPS_"):
                patch.setenv(name, value)
        patch.chdir(directory)
        try:
            made.run("up", "gateway", "object_store")
            platform = build_platform("embedded", load_settings(platform="embedded"))
            yield ReleaseRig(platform)
        finally:
            made.run("down", "--purge", "--yes")


def test_a_good_version_is_promoted_on_the_answers_of_clients(rig: ReleaseRig) -> None:
    old, new = rig.artifact(version=1), rig.artifact(version=2)
    rig.deploy(old)
    rig.plan(
        steps=(Step(25, answers=20, seconds=150), Step(50, answers=50, seconds=150)),
        max_errors=0.05,
        max_slow=0.3,
        when_silent="wait",
    )
    with rig.load(rate=200) as traffic:
        ended = rig.release(new)
    assert ended.decision is not None
    assert ended.decision.outcome == "promoted", ended.decision.reason
    assert traffic.failures == []
    assert rig.served() == new.digest
    (record, *_) = history(rig.spec, rig.platform)
    assert record.decision.outcome == "promoted"
    assert record.key, "the record is signed"
    answers = sum(step.live["errors"].candidate_answers for step in record.evidence.steps)
    assert 59 <= answers <= traffic.digests[new.digest]


def test_without_clients_hold_out_rows_stand_in(rig: ReleaseRig) -> None:
    old, new = rig.artifact(version=2), rig.artifact(version=3)
    rig.deploy(old)
    rig.plan(
        steps=(
            Step(5, answers=20, seconds=0.5),
            Step(25, answers=20, seconds=0.5),
            Step(50, answers=20, seconds=0.5),
        ),
        keep_seconds=2,
    )
    ended = rig.release(new)
    assert ended.decision is not None
    assert ended.decision.outcome == "promoted", ended.decision.reason
    assert "replayed" in ended.decision.reason
    assert ended.release is not None
    assert ended.release.phase == "kept"
    assert rig.served() == new.digest
    assert len(rig.predictors()) == 2, "the former version stays ready"
    last = rig.finish_keeping()
    assert last.release is None
    assert rig.predictors() == {"default": new.digest}
    assert rig.releases.look().release is None


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("errors", "failed answers"),
        ("crashes", "failed answers"),
        ("slow", "slow answers"),
        ("nan", "failed answers"),
    ],
)
def test_a_bad_version_is_rolled_back_on_the_answers_of_clients(
    rig: ReleaseRig, behaviour: str, reason: str
) -> None:
    old, bad = rig.artifact(version=1), rig.artifact(behaviour, version=1)
    rig.deploy(old)
    rig.plan(steps=(Step(25, answers=2000, seconds=120),), when_silent="wait", max_slow=0.3)
    with rig.load(rate=100) as traffic:
        ended = rig.release(bad)
        during = traffic.digests[bad.digest] + traffic.failed_by[bad.digest]
        total = sum(traffic.statuses.values())
    assert ended.decision is not None
    assert ended.decision.outcome == "rolled_back", ended.decision
    assert reason in ended.decision.reason
    assert rig.served() == old.digest
    assert rig.predictors() == {"default": old.digest}
    assert set(traffic.failed_by) <= {bad.digest}, "nobody else failed, and no request was dropped"
    assert during <= 0.4 * total, "it never got more than its share"
    with pytest.raises(RefusedError, match="is not released again"):
        rig.deliver(bad)
    assert rig.served() == old.digest


def test_a_version_that_cannot_load_changes_nothing(rig: ReleaseRig) -> None:
    old, bad = rig.artifact(version=1), rig.artifact("refuses", version=1)
    rig.deploy(old)
    rig.plan()
    with (
        rig.load(rate=50) as traffic,
        pytest.raises(PipelineError, match="the weights are missing"),
    ):
        rig.releases.begin(bad)
    assert traffic.failures == []
    assert rig.predictors() == {"default": old.digest}
    assert rig.releases.find() is None


def test_other_predictions_are_seen_in_replayed_rows(rig: ReleaseRig) -> None:
    old, bad = rig.artifact(version=1), rig.artifact("wrong", version=1)
    rig.deploy(old)
    rig.plan(steps=(Step(5, seconds=0.5),), max_disagreement=0.2)
    ended = rig.release(bad)
    assert ended.decision is not None
    assert ended.decision.outcome == "rolled_back"
    assert "another prediction" in ended.decision.reason
    assert rig.served() == old.digest


def test_an_abort_needs_no_object_store(rig: ReleaseRig) -> None:
    old, new = rig.artifact(version=1), rig.artifact(version=4)
    rig.deploy(old)
    rig.plan(steps=(Step(50, answers=10_000, seconds=600),))
    rig.releases.begin(new)
    assert set(rig.predictors().values()) == {old.digest, new.digest}
    with rig.without_store():
        with rig.load(rate=50) as traffic:
            rig.releases.abort("somebody does not like it")
        assert rig.predictors() == {"default": old.digest}
        waiting = rig.releases.find()
        assert waiting is not None
        assert waiting.phase == "ended"
    assert traffic.failures == []
    rig.releases.advance()
    assert rig.releases.find() is None
    (record, *_) = history(rig.spec, rig.platform)
    assert (record.decision.outcome, record.release.candidate) == ("aborted", new.digest)


def test_a_later_artifact_supersedes_a_release(rig: ReleaseRig) -> None:
    old, first, second = (rig.artifact(version=v) for v in (1, 5, 6))
    rig.deploy(old)
    rig.plan(steps=(Step(50, answers=10_000, seconds=600),))
    with rig.load(rate=50) as traffic:
        rig.deliver(first)
        rig.deliver(second)
        assert set(rig.predictors().values()) == {old.digest, second.digest}
        rig.releases.promote()
    assert traffic.failures == []
    assert rig.served() == second.digest
    outcomes = {r.release.candidate: r.decision.outcome for r in history(rig.spec, rig.platform)}
    assert (outcomes[first.digest], outcomes[second.digest]) == ("superseded", "promoted")
    rig.deliver(second)
    assert rig.releases.find() is None, "what serves is not released again"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "points",
    [
        pytest.param((2, 9, 17), id="some"),
        pytest.param(range(1, 80), id="all", marks=pytest.mark.long),
    ],
)
def test_what_a_killed_process_left_is_finished_by_another(
    rig: ReleaseRig, points: Sequence[int]
) -> None:
    old, new = rig.artifact(version=1), rig.artifact(version=7)
    rig.plan(**QUICK)
    for point in points:
        rig.deploy(old)
        with rig.load(rate=50) as traffic:
            code = _killed_at(point, version=7)
            shares = rig.shares()
            assert sum(shares.values()) == 100, point
            assert set(traffic.digests) <= {old.digest, new.digest}, point
            _finish(rig, new)
        assert traffic.failures == [], point
        assert rig.served() == new.digest, point
        assert rig.predictors() == {"default": new.digest}, point
        outcomes = {r.decision.outcome for r in history(rig.spec, rig.platform)[:1]}
        assert outcomes == {"promoted"}, point
        if code == 0:
            break
        assert code == -signal.SIGKILL, point
    else:
        assert points != range(1, 80), "it has fewer changes than that"


def _killed_at(point: int, *, version: int) -> int:
    """Release the version in a process that kills itself; return its exit code."""
    command = [sys.executable, "-m", killed_release.__name__, str(point), str(version)]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


def _finish(rig: ReleaseRig, new: ModelRef) -> None:
    """Do what the next run does: begin the release if it never began, and take all its steps."""
    if rig.releases.find() is None and rig.served() != new.digest:
        rig.deliver(new)
    rig.finish_keeping(within=60)
