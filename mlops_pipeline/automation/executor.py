"""Executes all steps of a run in one process, one run of a state folder at a time."""

import getpass
import platform
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import (
    PARENT_RUN_ID_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)
from dagster._utils.interrupts import check_captured_interrupt

from mlops_pipeline.assets.keys import (
    COMMAND_TAG,
    MODEL_TAG,
    PLATFORM_TAG,
    TRIGGER_TAG,
    WORKER_TAG,
)
from mlops_pipeline.automation.jobs import EVERYTHING
from mlops_pipeline.resources.records import close_lost_runs, process_tags
from mlops_pipeline.resources.turn import turn
from mlops_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.plan.step import ExecutionStep
    from dagster._core.execution.retries import RetryMode


class _Recorded(dg.Executor):
    """Completes the run's tags, and waits for the turn of the run."""

    def __init__(self, inner: dg.Executor, settings: Settings) -> None:
        self._inner = inner
        self._settings = settings

    @property
    def retries(self) -> "RetryMode":
        return self._inner.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        steps = execution_plan.get_steps_to_execute_in_topo_order()
        tags = {**_tags(plan_context.dagster_run, self._settings.platform, steps), **process_tags()}
        plan_context.instance.add_run_tags(plan_context.run_id, tags)
        close_lost_runs(plan_context.instance)  # Dagster's own commands come from elsewhere.

        def say_waiting(who: str) -> None:
            dg.DagsterEvent.engine_event(plan_context, f"Waiting for {who}.", EngineEventData())

        with turn(
            self._settings,
            purpose=f"execute the Dagster run {plan_context.run_id}",
            on_wait=say_waiting,
            check=_end_when_told,
            during_training=all(_only_deploys(step) for step in steps),
        ):
            yield from self._inner.execute(plan_context, execution_plan)


def _only_deploys(step: "ExecutionStep") -> bool:
    """Say whether the step neither trains nor loads data nor changes a layer."""
    return MODEL_TAG in step.tags and WORKER_TAG not in step.tags


def _tags(run: dg.DagsterRun, name: str, steps: "Iterable[ExecutionStep]") -> dict[str, str]:
    """Return the tags that the run does not have: its platform, models, and what started it.

    A re-executed run has the tags of the original, so they are replaced.
    """
    models = sorted({step.tags[MODEL_TAG] for step in steps if MODEL_TAG in step.tags})
    is_everything = run.job_name == EVERYTHING and run.asset_selection is None
    trigger = _describe_trigger(run)
    known = {
        PLATFORM_TAG: name,
        TRIGGER_TAG: trigger,
        **({COMMAND_TAG: trigger} if COMMAND_TAG in run.tags else {}),
        **({MODEL_TAG: ", ".join(models)} if models and not is_everything else {}),
    }
    is_copy = PARENT_RUN_ID_TAG in run.tags
    return {tag: text for tag, text in known.items() if is_copy or tag not in run.tags}


def _describe_trigger(run: dg.DagsterRun) -> str:
    if parent := run.tags.get(PARENT_RUN_ID_TAG):
        return f"re-execution of the Dagster run {parent}"
    for kind, tag in (("schedule", SCHEDULE_NAME_TAG), ("sensor", SENSOR_NAME_TAG)):
        if name := run.tags.get(tag):
            return f"{kind} {name}"
    if run.remote_job_origin is not None:
        return "Dagster UI or API"
    return f"dagster, {getpass.getuser()} on {platform.node()}"


def _end_when_told() -> None:
    if check_captured_interrupt():
        raise DagsterExecutionInterruptedError


def make_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor of the jobs on the platforms that `settings` describe."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        inner = dg.in_process_executor.executor_creation_fn
        assert inner is not None
        return _Recorded(inner(context), settings)

    return dg.ExecutorDefinition(
        name="in_process",
        config_schema=dg.in_process_executor.config_schema,  # type: ignore[arg-type]  # It is one.
        executor_creation_fn=create,
        description="Executes all steps in one process, while no other run or command changes a "
        "platform of the same state folder. If the process is killed, the run stays in progress "
        "until the next command marks it as failed.",
    )
