"""`release …`: what it shows, what it decides, and what it needs for that."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mlops_pipeline.cli import release_report, releasing
from mlops_pipeline.cli.release_documents import ReleaseStatus
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.releases.refusing import find_refusal
from mlops_pipeline.delivery.releases.state import RELEASE_ANNOTATION
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline_tests.cli.release_rig import PLACE, ReleaseRig, release_rig
from mlops_pipeline_tests.toy import TOY


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseRig]:
    with release_rig(tmp_path, monkeypatch) as made:
        yield made


def nobody(who: str) -> None:
    pytest.fail(f"nobody else works, but it waits for {who}")


def seen(rig: ReleaseRig) -> ReleaseStatus:
    (status,) = release_report.observe(rig.context, [rig.model]).releases
    return status


def shown(rig: ReleaseRig) -> str:
    console = Console(width=200, file=io.StringIO())
    release_report.show(release_report.observe(rig.context, [rig.model]), console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_without_a_release_the_last_one_is_shown(rig: ReleaseRig) -> None:
    assert shown(rig) == "toy: no release is in progress, and there was none before\n"
    rig.begin()
    releasing.abort(rig.context, rig.model, nobody, reason="the wrong data")
    status = seen(rig)
    assert (status.state, status.id, status.versions, status.next.commands) == ("none", "", [], [])
    assert status.last is not None
    assert (status.last.outcome, status.last.reason) == ("aborted", "the wrong data")
    said = shown(rig)
    assert said.startswith(
        f"toy: no release is in progress. The canary release of {rig.new.digest[:12]} beside "
        f"{rig.old.digest[:12]} was aborted at 2026-12-01T00:01:00+00:00 by mlops-pipeline release "
        "abort, "
    )
    assert said.endswith(": the wrong data\n")


def test_the_evidence_of_a_release_is_shown(rig: ReleaseRig) -> None:
    rig.begin()
    rig.answer(60, failed=2, stable_failed=1)
    status = seen(rig)
    assert (status.state, status.step, status.steps) == ("observing", 1, 2)
    assert [(v.role, v.digest, v.traffic, v.copies) for v in status.versions] == [
        ("stable", rig.old.digest, 75, 0),
        ("candidate", rig.new.digest, 25, 0),
    ]
    assert (status.answers, status.answers_wanted, status.answers_missing) == (60, 100, 40)
    errors = next(metric for metric in status.metrics if metric.name == "errors")
    assert errors.all_steps.model_dump() == {
        "candidate_events": 2,
        "candidate_answers": 60,
        "stable_events": 1,
        "stable_answers": 60,
    }
    assert errors.live is not None
    assert (errors.live.e_threshold, errors.live.limit) == (200, 0.01)
    assert 0 < errors.live.e_value < 200
    assert 0.03 < errors.live.upper_bound < 0.2
    assert (errors.replayed, errors.missing > 100) == (None, True)
    assert status.next.action == "wait"
    assert "60 of 100 answers; 40 are missing" in status.next.sentence
    said = shown(rig)
    assert "step 1 of 2 since 2026-12-01T00:00:00+00:00" in said
    assert "errors  2 of 60" in said
    assert "answers of the candidate in this step: 60 of 100; 40 are missing" in said
    assert "`mlops-pipeline release abort toy`" in said


def test_a_pause_leaves_the_shares_and_a_resume_ends_it(rig: ReleaseRig) -> None:
    rig.begin()
    before = rig.served()
    releasing.pause(rig.context, rig.model, nobody)
    rig.answer(500)
    status = seen(rig)
    assert (status.state, status.next.action) == ("paused", "wait")
    assert status.next.sentence == "nothing: the release is paused; a person must resume it"
    assert "mlops-pipeline release resume toy" in status.next.commands
    assert rig.releases.advance().release is not None
    assert rig.served() == before
    releasing.resume(rig.context, rig.model, nobody)
    status = seen(rig)
    assert (status.state, status.next.action) == ("observing", "expose")
    assert status.next.sentence.startswith("the candidate gets the share of the next step: ")


def test_a_promotion_keeps_the_former_version_ready(rig: ReleaseRig) -> None:
    rig.begin()
    progress = releasing.promote(rig.context, rig.model, nobody)
    assert rig.served() == {rig.old.digest: 0, rig.new.digest: 100}
    said = releasing.describe_end(rig.context, rig.model, progress)
    assert said.startswith("toy: promoted: a person promoted it (mlops-pipeline release promote, ")
    assert f"{rig.new.digest[:12]} has the traffic, and {rig.old.digest[:12]} stays ready" in said
    assert "`mlops-pipeline release abort toy`" in said
    status = seen(rig)
    assert [(v.role, v.traffic) for v in status.versions] == [("promoted", 100), ("former", 0)]
    assert (status.state, status.next.action) == ("kept", "wait")
    said = shown(rig)
    assert (
        f"next: {rig.new.digest[:12]} has all traffic; {rig.old.digest[:12]} is kept ready for 300 "
        "s more, then `mlops-pipeline up toy` or the sensor stops it\n"
    ) in said
    rig.wait(301)
    assert (
        f"{rig.old.digest[:12]} was kept ready for 300 s, and `mlops-pipeline up toy` or the sensor"
        " stops it\n"
    ) in shown(rig)
    with pytest.raises(ConfigurationError, match="no release of toy is in progress"):
        releasing.pause(rig.context, rig.model, nobody)


def test_a_question_because_evidence_is_missing_names_resume(rig: ReleaseRig) -> None:
    rig.begin()
    rig.wait(1000)
    rig.releases.advance()
    status = seen(rig)
    assert (status.state, status.next.action) == ("asking", "ask")
    assert status.next.commands == [
        "mlops-pipeline release resume toy",
        "mlops-pipeline release promote toy",
        "mlops-pipeline release abort toy",
    ]


@pytest.mark.parametrize(
    "act", [releasing.promote, releasing.pause, releasing.resume, releasing.abort]
)
def test_without_a_release_nothing_is_decided(rig: ReleaseRig, act: Callable[..., Any]) -> None:
    with pytest.raises(
        ConfigurationError, match="no release of toy is in progress; run `mlops-pipeline"
    ):
        act(rig.context, rig.model, nobody)
    assert rig.served() == {rig.old.digest: 100}


def test_an_abort_needs_neither_the_object_store_nor_dagsters_storage(rig: ReleaseRig) -> None:
    rig.begin()
    rig.context.settings.dagster_home.mkdir(parents=True)
    (rig.context.settings.dagster_home / "dagster.yaml").write_text("storage: {postgres: away}\n")

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("the object store does not answer")

    store = rig.platform.store
    for name in ("find", "get", "put", "sizes"):
        setattr(store, name, away)
    status = seen(rig)
    assert status.problem == "the evidence is unknown: the object store does not answer"
    assert (status.state, status.metrics) == ("observing", [])
    progress = releasing.abort(rig.context, rig.model, nobody)
    assert rig.served() == {rig.old.digest: 100}
    said = releasing.describe_end(rig.context, rig.model, progress)
    assert f"{rig.old.digest[:12]} has the traffic" in said
    assert "Run `mlops-pipeline up toy` once the object store answers" in said
    assert seen(rig).state == "ended"
    for name in ("find", "get", "put", "sizes"):
        delattr(store, name)
    rig.releases.advance()
    assert [r.outcome for r in release_report.history_of(rig.context, rig.model).records] == [
        "aborted"
    ]
    log, place = VerdictLog(store), place_for(TOY, rig.platform)
    assert find_refusal(log, rig.new, place=place) == "a person decided so and gave no reason"


def test_a_damaged_state_is_shown_and_can_be_aborted(rig: ReleaseRig) -> None:
    rig.begin()
    damaged = {RELEASE_ANNOTATION: "{"}
    rig.platform.deployments.annotate(TOY.server.deployment, damaged, namespace=PLACE)
    status = seen(rig)
    assert status.state == "damaged"
    assert status.next.commands == ["mlops-pipeline release abort toy"]
    assert "could not read the state of the release" in shown(rig)
    assert releasing.is_going_on(rig.context, rig.model)
    releasing.abort(rig.context, rig.model, nobody)
    assert rig.served() == {rig.old.digest: 100}
    assert seen(rig).state == "none"


def test_the_history_has_each_release(rig: ReleaseRig) -> None:
    console = Console(width=200, file=io.StringIO())
    release_report.show_history(release_report.history_of(rig.context, rig.model), console)
    rig.begin()
    rig.answer(60)
    rig.releases.advance()
    reason = "too [slow] for the page that most of the customers see first, and for the others too"
    releasing.abort(rig.context, rig.model, nobody, reason=reason)
    found = release_report.history_of(rig.context, rig.model)
    (record,) = found.records
    assert record.metrics[0].all_steps.candidate_answers == 60
    release_report.show_history(found, console)
    first, names, *rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == "no release of toy has ended on fake"
    assert names.split() == ["outcome", "digest", "ended", "by", "reason", "release"]
    assert [" ".join(row.split()) for row in rows] == [
        f"aborted {rig.new.digest[:12]} {record.time} mlops-pipeline release abort too [slow] for "
        f"the page that most of the customers see firs… {record.id}"
    ]
    assert record.reason == reason
