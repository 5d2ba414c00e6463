"""The lines that `up` prints, in a run of stand-in layers."""

from io import BytesIO, StringIO, TextIOWrapper

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id
from rich.console import Console

from mlops_pipeline.cli.progress import Progress, Updating, shown

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


def console_on(stream: StringIO | TextIOWrapper, *, is_terminal: bool) -> Console:
    return Console(file=stream, width=80, force_terminal=is_terminal, color_system=None)


def run(console: Console, *assets: dg.AssetsDefinition) -> list[str]:
    """Return the state of each asset after a run that is shown."""
    progress = Progress([asset.key for asset in assets])
    run_id = make_new_run_id()
    job = dg.Definitions(assets).resolve_implicit_global_asset_job_def()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        shown(progress, instance=instance, run_id=run_id, console=console),
    ):
        job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
    return [line.state for line in progress.lines.values()]


def lines_of_a_run(*, is_terminal: bool) -> list[str]:
    """Return what is shown."""
    out = StringIO()
    states = run(console_on(out, is_terminal=is_terminal), good, bad, later)
    assert states == ["done", "failed", "waiting"]
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


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_mark_that_the_encoding_lacks_is_replaced(*, is_terminal: bool) -> None:
    out = BytesIO()
    stream = TextIOWrapper(out, encoding="iso-8859-1")
    states = run(console_on(stream, is_terminal=is_terminal), good, bad, later)
    assert states == ["done", "failed", "waiting"]
    stream.flush()
    assert b"? good" in out.getvalue()


class Gone(StringIO):
    """A terminal that is gone after some writes."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._left = after

    def write(self, text: str) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_goes_on_without_its_terminal(after: int, *, is_terminal: bool) -> None:
    states = run(console_on(Gone(after=after), is_terminal=is_terminal), good, bad, later)
    assert states == ["done", "failed", "waiting"]


def test_a_text_without_a_terminal_is_printed_when_it_is_news() -> None:
    out = StringIO()
    line = Updating(console_on(out, is_terminal=False))
    for text, news in (("1 of 9", 1), ("2 of 9", 1), ("paused", 2), ("[3 of 9]", 1)):
        line.show(text, news=news)
    line.stop()
    assert out.getvalue().splitlines() == ["1 of 9", "paused", "[3 of 9]"]


def test_a_text_on_a_terminal_is_updated_in_place_and_gone_at_the_end() -> None:
    out = StringIO()
    line = Updating(console_on(out, is_terminal=True))
    line.show("1 of 9", news=1)
    line.show("2 [of] 9", news=1)
    line.stop()
    line.show("3 of 9", news=1)
    line.stop()
    said = out.getvalue()
    assert "2 [of] 9" in said
    assert said.index("2 [of] 9") < said.index("3 of 9")
    assert said.rstrip("\x1b[?25h").endswith("\x1b[2K")  # The line is erased.


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_text_needs_no_terminal_that_stays(*, is_terminal: bool) -> None:
    line = Updating(console_on(Gone(after=0), is_terminal=is_terminal))
    line.show("1 of 9", news=1)
    line.show("2 of 9", news=2)
    line.stop()
