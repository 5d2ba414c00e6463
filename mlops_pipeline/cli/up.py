"""`up`: materialize the graph in a Dagster run that the UI shows too."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import instance_for_run
from mlops_pipeline.cli.narration import narrated
from mlops_pipeline.clients import errors
from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.layers import by_name

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


def run_everything(
    context: Context,
    *,
    targets: Sequence[str],
    force: bool,
    console: Console,
    accept_worse: bool = False,
) -> Outcome:
    """Materialize the targets (layers or models; none: everything) with what they stand on.

    Raises:
        ConfigurationError: a target is neither a layer nor a model.
    """
    refuse_unknown(context, targets)
    if accept_worse and not _named_models(context, targets):
        raise ConfigurationError("--accept-worse accepts the models that are named: name one")
    provide(context, console)
    import dagster as dg
    from dagster._core.utils import make_new_run_id

    from mlops_pipeline.automation.jobs import job_for
    from mlops_pipeline.cli.progress import Progress, shown
    from mlops_pipeline.definitions import location

    models = _chosen_models(context, targets)
    name = job_for(models, targets=targets)
    job = location(context.platform.name).resolve_job_def(name)
    keys = _selected(context, targets)
    progress, run_id = Progress(keys), make_new_run_id()
    turn = instance_for_run(context.settings, on_wait=lambda who: _say_waiting(who, console))
    with (
        turn as instance,
        shown(progress, instance=instance, run_id=run_id, console=console),
    ):
        job.execute_in_process(
            run_config=_run_config(context, targets, force=force, accept_worse=accept_worse),
            instance=instance,
            asset_selection=keys,
            raise_on_error=False,
            run_id=run_id,
            tags=_tags(context, models, targets, force=force, accept_worse=accept_worse),
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
    )


def _tags(
    context: Context,
    models: Sequence[str],
    targets: Sequence[str],
    *,
    force: bool,
    accept_worse: bool,
) -> dict[str, str]:
    from mlops_pipeline.automation.jobs import COMMAND_TAG, MODEL_TAG, PLATFORM_TAG
    from mlops_pipeline.resources.records import process_tags

    given = {"--force": force, "--accept-worse": accept_worse}
    command = " ".join(["up", *targets, *(option for option, is_on in given.items() if is_on)])
    tags = {PLATFORM_TAG: context.platform.name, COMMAND_TAG: command, **process_tags()}
    return tags | ({MODEL_TAG: ", ".join(models)} if targets and models else {})


def provide(context: Context, console: Console) -> None:
    """Get what comes from elsewhere where it can be seen: a run keeps what its steps print.

    What cannot be had is told by the layer that needs it, if one does.
    """
    with narrated(console), suppress(PipelineError):
        context.platform.provide()


def _say_waiting(who: str, console: Console) -> None:
    console.print(f"waiting for {who}", soft_wrap=True, markup=False)


def refuse_unknown(context: Context, targets: Sequence[str]) -> None:
    """Refuse targets that are neither layers nor models, before anything is changed."""
    known = [layer.name for layer in context.platform.layers] + [m.name for m in context.models]
    if unknown := [target for target in targets if target not in known]:
        raise ConfigurationError(
            "; ".join(context.describe_unknown(target, known) for target in unknown)
        )


def recreate_cluster(context: Context, console: Console) -> None:
    """Make the cluster anew where it differs from the settings in what cannot be updated.

    Raises:
        ConfigurationError: the platform has no cluster of its own.
        ConflictError: the cluster is somebody else's.
    """
    platform = build_platform(context.platform.name, context.settings, recreate=True)
    if platform.name != "kind":
        raise ConfigurationError(f"the platform {platform.name} has no cluster to recreate")
    change = by_name(platform.layers, "cluster").ensure()
    console.print(f"cluster: {change.action}")


def quiet_console() -> Console:
    """Return a console on the terminal itself: Dagster captures the streams during steps."""
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    return Console(file=stream)


def _selected(context: Context, targets: Sequence[str]) -> list["dg.AssetKey"]:
    from mlops_pipeline.assets.keys import PARTS, layer_key, model_key

    platform, layers = (
        context.platform.name,
        {layer.name: layer for layer in context.platform.layers},
    )
    models = _chosen_models(context, targets)
    wanted = set(layers) if models else set()
    waiting = [target for target in targets if target in layers]
    while waiting:
        wanted.add(name := waiting.pop())
        waiting += layers[name].requires
    return [
        *(layer_key(platform, name) for name in layers if name in wanted),
        *(model_key(platform, model, part) for model in models for part in PARTS),
    ]


def _named_models(context: Context, targets: Sequence[str]) -> list[str]:
    return [model.name for model in context.models if model.name in targets]


def _chosen_models(context: Context, targets: Sequence[str]) -> list[str]:
    return [m.name for m in context.models if not targets or m.name in targets]


def _run_config(
    context: Context, targets: Sequence[str], *, force: bool, accept_worse: bool
) -> dict[str, object]:
    from mlops_pipeline.assets.checks import ACCEPT_WORSE, op_name
    from mlops_pipeline.assets.keys import model_key

    quiet: dict[str, object] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    ops: dict[str, object] = {}
    for name in _chosen_models(context, targets):
        key = model_key(context.platform.name, name, "model")
        if force:
            ops["__".join(key.path)] = {"config": {"force": True}}
        if accept_worse:
            ops[op_name(key)] = {"config": {ACCEPT_WORSE: True}}
    return quiet | {"ops": ops} if ops else quiet


def _count_changes(progress: "Progress") -> int:
    return sum(line.change not in ("", "unchanged") for line in progress.lines.values())


def _failed_checks(progress: "Progress") -> tuple[str, ...]:
    return tuple(
        f"{line.name}: {check} (docs/operating.md says what to do)"
        for line in progress.lines.values()
        for check in line.failed_checks
    )


@dataclass(frozen=True)
class _Failure:
    """Why a step failed."""

    sentence: str
    interrupted: bool
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
        trace=f"{step}: {error.to_string() if error else described}",
    )


def _innermost(error: "SerializableErrorInfo | None") -> str:
    """Return the message of the first error of ours in the chain of causes, or of the last one."""
    while error is not None and error.cause is not None and error.cls_name not in _OURS:
        error = error.cause
    if error is None:
        return "it failed"
    message = error.message.strip()
    return message.split(": ", 1)[-1] if error.cls_name in _OURS else message
