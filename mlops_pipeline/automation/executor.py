"""How runs are executed: all steps in the run's process, which is told to the instance."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from mlops_pipeline.resources.records import process_tags

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode


class _Recorded(dg.Executor):
    """Writes into the run's tags which process executes it, and lets the other one execute it."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> "RetryMode":
        return self._inner.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        plan_context.instance.add_run_tags(plan_context.run_id, process_tags())
        yield from self._inner.execute(plan_context, execution_plan)


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _Recorded(create(context))


recorded_executor = dg.ExecutorDefinition(
    name="in_process",
    config_schema=dg.in_process_executor.config_schema,  # type: ignore[arg-type]  # It is one.
    executor_creation_fn=_create,
    description="Executes all steps in one process, and records which one it is. A run whose "
    "process was killed says that it is in progress until a command finds it by that record.",
)
