"""Progress of a run, asset by asset, from the events of its instance."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import TextIOWrapper

import dagster as dg
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_MARKS = {"done": "[green]✓[/green]", "failed": "[red]✗[/red]", "skipped": "[dim]-[/dim]"}


class Line:
    """One asset: what became of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "waiting"
        self.change = ""
        self.started = 0.0
        self.seconds = 0.0
        self.checks_passed = 0
        self.failed_checks: list[str] = []
        self.warnings: list[str] = []

    def is_over(self) -> bool:
        """Return whether the asset's own step has ended."""
        return self.state in _MARKS


class Progress:
    """Collects events into one line per asset."""

    def __init__(self, keys: list[dg.AssetKey]) -> None:
        self.lines = {key: Line("/".join(key.path[1:])) for key in keys}

    def take(self, entry: dg.EventLogEntry) -> Line | None:
        """Update the lines by one event; return the line whose asset just ended."""
        event = entry.dagster_event
        if event is None:
            return None
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._take_check(event)
            return None
        line = self._line_of(event)
        if line is None or line.is_over():
            return None
        return self._take_step(line, event, entry.timestamp)

    def _take_check(self, event: dg.DagsterEvent) -> None:
        evaluation = event.asset_check_evaluation_data
        line = self.lines.get(evaluation.asset_key)
        if line is None:
            return
        if evaluation.passed:
            line.checks_passed += 1
            return
        is_warning = evaluation.severity == dg.AssetCheckSeverity.WARN
        problems = line.warnings if is_warning else line.failed_checks
        problems.append(f"{evaluation.check_name}: {evaluation.description}")

    def _line_of(self, event: dg.DagsterEvent) -> Line | None:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            return self.lines.get(event.asset_key) if event.asset_key else None
        names = {"__".join(key.path): line for key, line in self.lines.items()}
        return names.get(event.step_key or "")

    def _take_step(self, line: Line, event: dg.DagsterEvent, timestamp: float) -> Line | None:
        kind = event.event_type
        if kind == dg.DagsterEventType.STEP_START:
            line.state, line.started = "running", timestamp
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION:
            line.change = _change_in(event)
        elif kind == dg.DagsterEventType.STEP_SUCCESS:
            return self._end(line, "done", timestamp)
        elif kind == dg.DagsterEventType.STEP_FAILURE:
            return self._end(line, "failed", timestamp)
        elif kind == dg.DagsterEventType.STEP_SKIPPED:
            return self._end(line, "skipped", timestamp)
        return None

    def _end(self, line: Line, state: str, timestamp: float) -> Line:
        line.state = state
        line.seconds = timestamp - line.started if line.started else 0.0
        return line


def _change_in(event: dg.DagsterEvent) -> str:
    metadata = event.step_materialization_data.materialization.metadata
    value = metadata.get("change")
    return str(value.value) if value else ""


@contextmanager
def shown(
    progress: Progress, *, instance: dg.DagsterInstance, run_id: str, console: Console
) -> Iterator[None]:
    """Show the run while the block executes it: a live table, or lines without a terminal.

    The run goes on where nothing can be printed. Its events are taken in any case.
    """
    if isinstance(console.file, TextIOWrapper):  # Its encoding may lack the marks.
        console.file.reconfigure(errors="replace")
    if console.is_terminal:
        instance.add_event_listener(run_id, progress.take)
        table = partial(_table, progress)
        with _Live(get_renderable=table, console=console, refresh_per_second=8):
            yield
        return

    def print_ended(entry: dg.EventLogEntry) -> None:
        if (line := progress.take(entry)) is not None:
            with suppress(Exception):
                console.print(_row_text(line))

    instance.add_event_listener(run_id, print_ended)
    yield


class Updating:
    """A text that changes: updated in place on a terminal, else printed where it is news."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._live: _Live | None = None
        self._told: object = None

    def show(self, text: str, *, news: object) -> None:
        """Show the text. Without a terminal, it is printed if `news` is another than last time."""
        if self._console.is_terminal:
            self._spinner.update(text=Text(text))
            if self._live is None:
                self._live = _Live(self._spinner, console=self._console, refresh_per_second=8)
                self._live.transient = True
                self._live.start()
        elif news != self._told:
            self._told = news
            with suppress(Exception):
                self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def stop(self) -> None:
        """Remove the text from a terminal; the next one begins below what was printed since."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class _Live(Live):
    """A table that raises nothing, whatever happens to its terminal."""

    def start(self, refresh: bool = False) -> None:  # noqa: FBT001, FBT002  # as in Live
        with suppress(Exception):
            super().start(refresh)

    def refresh(self) -> None:
        with suppress(Exception):
            super().refresh()

    def stop(self) -> None:
        with suppress(Exception):
            super().stop()


def _row_text(line: Line) -> Text:
    return Text.from_markup(
        f"{_MARKS[line.state]} {line.name:<22} {line.change:<10} {line.seconds:6.1f} s"
    )


def _table(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 1))
    for line in progress.lines.values():
        if line.state == "waiting":
            table.add_row(Text(" "), Text(line.name, style="dim"), "", "", "")
        elif line.state == "running":
            elapsed = f"{max(0.0, _now() - line.started):6.1f} s"
            table.add_row(Spinner("dots"), line.name, Text("…"), elapsed, "")
        else:
            mark = Text.from_markup(_MARKS[line.state])
            table.add_row(mark, line.name, line.change, f"{line.seconds:6.1f} s", _checks(line))
    return table


def _checks(line: Line) -> Text:
    if line.failed_checks:
        return Text(f"{len(line.failed_checks)} checks failed", style="red")
    plural = "" if line.checks_passed == 1 else "s"
    return Text(f"{line.checks_passed} check{plural}" if line.checks_passed else "", style="dim")


def _now() -> float:
    """Return the time of day, which event timestamps are in; shown, never waited on."""
    return time.time()
