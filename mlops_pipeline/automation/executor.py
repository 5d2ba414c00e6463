"""Executes all steps of a run in one process, one run of a state folder at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._utils.interrupts import check_captured_interrupt

from mlops_pipeline.resources.records import process_tags
from mlops_pipeline.resources.turn import turn
from mlops_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode


class _Recorded(dg.Executor):
    """Writes the executing process to the run's tags, and waits for the turn of the run."""

    def __init__(self, inner: dg.Executor, settings: Settings) -> None:
        self._inner = inner
        self._settings = settings

    @property
    def retries(self) -> "RetryMode":
        return self._inner.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        plan_context.instance.add_run_tags(plan_context.run_id, process_tags())

        def say_waiting(who: str) -> None:
            dg.DagsterEvent.engine_event(plan_context, f"Waiting for {who}.", EngineEventData())

        purpose = f"execute the Dagster run {plan_context.run_id}"
        with turn(self._settings, purpose=purpose, on_wait=say_waiting, check=_end_when_told):
            yield from self._inner.execute(plan_context, execution_plan)


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
