"""Runs of the graph in this process, which the Dagster UI shows too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from mlops_pipeline.cli import FAILED, is_debugging
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.streams import copy_of_errors
from mlops_pipeline.clients import errors

if TYPE_CHECKING:
    import dagster as dg
    from dagster_shared.error import SerializableErrorInfo

    from mlops_pipeline.cli.progress import Progress

_OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
"""Names of our errors: their messages are complete, what caused them is for the trace."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_id: str
    succeeded: bool
    changes: int
    """Assets that were created, updated or repaired."""
    problems: tuple[str, ...]
    """A sentence for each failed step and check."""
    warnings: tuple[str, ...]
    """A sentence for each check that failed as a warning only."""
    traces: tuple[str, ...]
    """The trace of each failed step."""
    is_refused: bool = False
    """Whether it failed because artifacts or data are refused, and would fail again likewise."""


@dataclass(frozen=True)
class Order:
    """What a run materializes."""

    command: str
    """As it was typed, without the program's name."""
    job: str
    keys: "Sequence[dg.AssetKey]"
    models: Sequence[str]
    """Those that the command named."""
    config: Mapping[str, Any]
    """Step → its config."""


def execute(
    context: Context, order: Order, *, instance: "dg.DagsterInstance", console: Console
) -> Outcome:
    """Materialize assets in this process, and show the progress. The caller has the turn.

    Raises:
        KeyboardInterrupt: a step was interrupted.
    """
    import dagster as dg
    from dagster._core.utils import make_new_run_id

    from mlops_pipeline.cli.progress import Progress, shown
    from mlops_pipeline.definitions import location

    keys = list(order.keys)
    progress, run_id = Progress(keys), make_new_run_id()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with shown(progress, instance=instance, run_id=run_id, console=console):
        location(context.platform.name).resolve_job_def(order.job).execute_in_process(
            run_config=quiet | ({"ops": dict(order.config)} if order.config else {}),
            instance=instance,
            asset_selection=keys,
            raise_on_error=False,
            run_id=run_id,
            tags=_tags(context, order),
        )
        run = instance.get_run_by_id(run_id)
        failures = _failures(instance, run_id)
    if any(failure.interrupted for failure in failures):
        raise KeyboardInterrupt
    return Outcome(
        run_id,
        succeeded=run is not None and run.status == dg.DagsterRunStatus.SUCCESS,
        changes=_count_changes(progress),
        problems=tuple(f.sentence for f in failures) + _failed_checks(progress),
        warnings=tuple(
            f"{line.name}: {warning}"
            for line in progress.lines.values()
            for warning in line.warnings
        ),
        traces=tuple(f.trace for f in failures) + _failed_checks(progress),
        is_refused=bool(failures) and all(f.is_refused for f in failures),
    )


def _tags(context: Context, order: Order) -> dict[str, str]:
    from mlops_pipeline.assets.keys import COMMAND_TAG, MODEL_TAG, PLATFORM_TAG, TRIGGER_TAG
    from mlops_pipeline.resources.records import process_tags

    return {
        PLATFORM_TAG: context.platform.name,
        COMMAND_TAG: order.command,
        TRIGGER_TAG: typed(order.command.split()[0]),
        **({MODEL_TAG: ", ".join(order.models)} if order.models else {}),
        **process_tags(),
    }


def show_outcome(
    outcome: Outcome, screen: Console, *, next_step: str, more: Sequence[str] = ()
) -> None:
    """Print what failed and what warns; `more` are sentences on what else is wrong.

    `next_step` says what to do after a failed run; empty if the problems say it.

    Raises:
        typer.Exit: the run failed.
    """
    for problem in [*(outcome.traces if is_debugging() else outcome.problems), *more]:
        screen.print(f"error: {problem}", style="red", markup=False, soft_wrap=True)
    if not outcome.succeeded:
        told = f"run {outcome.run_id} failed (see `mlops-pipeline ui`)"
        screen.print(f"{told}; {next_step}" if next_step else told, soft_wrap=True)
        raise typer.Exit(FAILED)
    for warning in outcome.warnings:
        screen.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)


def quiet_console() -> Console:
    """Return a console on the terminal itself: Dagster captures the streams during steps."""
    return Console(file=copy_of_errors())


def _count_changes(progress: "Progress") -> int:
    return sum(line.change not in ("", "unchanged") for line in progress.lines.values())


def _failed_checks(progress: "Progress") -> tuple[str, ...]:
    return tuple(
        f"{line.name}: {check} (see docs/operating.md)"
        for line in progress.lines.values()
        for check in line.failed_checks
    )


@dataclass(frozen=True)
class _Failure:
    """Why a step failed."""

    sentence: str
    interrupted: bool
    is_refused: bool
    trace: str


def _failures(instance: "dg.DagsterInstance", run_id: str) -> list[_Failure]:
    """Return why each step of an asset failed: checks say it for themselves."""
    import dagster as dg

    events = [
        entry.dagster_event
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    return [_failure(event) for event in events if event is not None and not _is_verdict(event)]


def _is_verdict(event: "dg.DagsterEvent") -> bool:
    """Say whether the step failed only because a blocking check did."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _failure(event: "dg.DagsterEvent") -> _Failure:
    data, error = event.step_failure_data, event.step_failure_data.error
    described = data.user_failure_data.description if data.user_failure_data else None
    step = (event.step_key or "").replace("__", "/")
    return _Failure(
        sentence=f"{step}: {described or _innermost(error)}",
        interrupted=error is not None and error.cls_name == "DagsterExecutionInterruptedError",
        is_refused=_is_refusal(error),
        trace=f"{step}: {error.to_string() if error else described}",
    )


def _is_refusal(error: "SerializableErrorInfo | None") -> bool:
    """Say whether the first error of ours in the chain of causes is a RefusedError."""
    while error is not None and error.cls_name not in _OURS:
        error = error.cause
    return error is not None and error.cls_name == errors.RefusedError.__name__


def _innermost(error: "SerializableErrorInfo | None") -> str:
    """Return the message of the first error of ours in the chain of causes, or of the last one."""
    while error is not None and error.cause is not None and error.cls_name not in _OURS:
        error = error.cause
    if error is None:
        return "failed without an error message"
    message = error.message.strip()
    return message.split(": ", 1)[-1] if error.cls_name in _OURS else message
