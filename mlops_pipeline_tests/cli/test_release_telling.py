"""What the commands say of releases beside their state: exit codes, refusals, lists."""

import io
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from mlops_pipeline.assets.failures import explained
from mlops_pipeline.cli import release_report, releasing, runs, status
from mlops_pipeline.cli.app import app
from mlops_pipeline.cli.release_documents import TallyStatus
from mlops_pipeline.clients.errors import ConflictError, RefusedError
from mlops_pipeline_tests.cli.release_rig import ReleaseRig, release_rig


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseRig]:
    with release_rig(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        ("up", ["Exit code 4: a release has not ended", "Exit code 5: a release ended without"]),
        ("plan", ["Exit code 3: something would change"]),
        ("release", ["exit code is 4 if the release has not ended, and 5 if it ended without"]),
        ("release resume", ["The time of the step starts again"]),
    ],
)
def test_the_help_names_exit_codes_and_effects(command: str, sentences: list[str]) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "400"}).output
    said = " ".join(shown.split())
    for sentence in sentences:
        assert sentence in said


def _failures(raised: Exception) -> list[runs._Failure]:
    @dg.op
    def fails() -> None:
        with explained():
            raise raised

    @dg.job
    def failing() -> None:
        fails()

    with dg.DagsterInstance.ephemeral() as instance:
        done = failing.execute_in_process(instance=instance, raise_on_error=False)
        return runs._failures(instance, done.run_id)


@pytest.mark.parametrize(
    ("raised", "is_refused"), [(RefusedError("worse"), True), (ConflictError("changed"), False)]
)
def test_a_run_that_a_refusal_ended_is_known(raised: Exception, *, is_refused: bool) -> None:
    (failure,) = _failures(raised)
    assert (failure.is_refused, failure.sentence) == (is_refused, f"fails: {raised}")


@pytest.mark.parametrize(
    ("next_step", "end"),
    [("", "(see `mlops-pipeline ui`)\n"), ("try again", "(see `mlops-pipeline ui`); try again\n")],
)
def test_a_failed_run_names_a_next_step_if_there_is_one(next_step: str, end: str) -> None:
    console = Console(width=200, file=io.StringIO())
    failed = runs.Outcome("a-run", False, 0, ("toy/deployment: worse",), (), ())
    with pytest.raises(typer.Exit):
        runs.show_outcome(failed, console, next_step=next_step)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said == f"error: toy/deployment: worse\nrun a-run failed {end}"


def test_a_disagreement_has_no_count_of_the_stable_version() -> None:
    tally = TallyStatus(
        candidate_events=2, candidate_answers=30, stable_events=1, stable_answers=29
    )
    for name in ("disagreement", "disagreement, replayed rows"):
        _, candidate, stable, *_ = release_report._metric_row(name, tally, None)
        assert (candidate, stable) == ("2 of 30", "")
    _, _, stable, *_ = release_report._metric_row("errors", tally, None)
    assert stable == "1 of 29"


def test_a_record_without_a_proof_is_named_below_the_list(
    rig: ReleaseRig,
) -> None:
    rig.begin()
    releasing.abort(rig.context, rig.model, pytest.fail)
    found = release_report.history_of(rig.context, rig.model)
    (record,) = found.records
    doubted = record.model_copy(update={"doubt": "it is not signed"})
    console = Console(width=200, file=io.StringIO())
    release_report.show_history(found.model_copy(update={"records": [doubted]}), console)
    last = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert last == f"the record of {record.id} is not proved: it is not signed"


def test_the_summary_does_not_repeat_what_up_has_said(rig: ReleaseRig) -> None:
    rig.begin()
    console = Console(width=200, file=io.StringIO())
    seen = status.observe(rig.context)
    status._show_notes(seen, console, told={"toy"})
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    status._show_notes(seen, console)
    assert console.file.getvalue().startswith(f"toy: {rig.new.digest[:12]} has 25 %")  # type: ignore[attr-defined]
