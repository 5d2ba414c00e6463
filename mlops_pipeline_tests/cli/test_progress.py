"""The lines that `up` prints, in a run of stand-in layers."""

from io import StringIO

import dagster as dg
from dagster._core.utils import make_new_run_id
from rich.console import Console

from mlops_pipeline.cli.progress import Progress, shown

GOOD, BAD, LATER = (dg.AssetKey(["fake", name]) for name in ("good", "bad", "later"))


@dg.asset(key=GOOD)
def good() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"change": "created"})


@dg.asset(key=BAD, deps=[GOOD])
def bad() -> None:
    raise ValueError("no")


@dg.asset(key=LATER, deps=[BAD])
def later() -> None:
    """Never runs."""


def lines_of_a_run(*, is_terminal: bool) -> list[str]:
    """Return what is shown."""
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=is_terminal, color_system=None)
    progress = Progress([GOOD, BAD, LATER])
    run_id = make_new_run_id()
    job = dg.Definitions([good, bad, later]).resolve_implicit_global_asset_job_def()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        shown(progress, instance=instance, run_id=run_id, console=console),
    ):
        job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
    assert [line.state for line in progress.lines.values()] == ["done", "failed", "waiting"]
    return out.getvalue().splitlines()


def test_each_asset_that_ends_is_a_line() -> None:
    words = [line.split() for line in lines_of_a_run(is_terminal=False)]
    assert [line[:2] for line in words] == [["✓", "good"], ["✗", "bad"]]
    assert words[0][2] == "created"


def test_a_terminal_ends_with_a_row_of_each_asset() -> None:
    last_frame = " ".join(lines_of_a_run(is_terminal=True)[-4:]).split()
    assert last_frame.index("created") == last_frame.index("good") + 1
    marks = [last_frame[last_frame.index(name) - 1] for name in ("good", "bad")]
    assert [mark[-1] for mark in marks] == ["✓", "✗"]
    assert "later" in last_frame
