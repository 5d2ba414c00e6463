"""Retrain and redeploy by the clock. Off until somebody turns one on in the UI."""

from collections.abc import Sequence

import dagster as dg

from mlops_pipeline.automation.jobs import lifecycle_job_name
from mlops_pipeline.catalog.registry import RegisteredModel

_WEEKLY = "0 3 * * 1"


def make_schedules(models: Sequence[RegisteredModel]) -> list[dg.ScheduleDefinition]:
    """Return a weekly schedule (Monday 03:00 UTC) of each model's life cycle.

    Unchanged inputs train nothing, so a run without news only proves the predictions again.
    """
    return [
        dg.ScheduleDefinition(
            name=f"{model.name}_weekly",
            job_name=lifecycle_job_name(model.name),
            cron_schedule=_WEEKLY,
            execution_timezone="UTC",
            description=f"Retrain {model.name} when its inputs changed, redeploy and prove it.",
        )
        for model in models
    ]
