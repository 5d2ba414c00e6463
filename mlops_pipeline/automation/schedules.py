"""Schedules that retrain and redeploy. They are off by default; turn them on in the UI."""

from collections.abc import Sequence

import dagster as dg

from mlops_pipeline.assets.keys import TRIGGER_TAG
from mlops_pipeline.automation.jobs import life_cycle, lifecycle_job_name
from mlops_pipeline.catalog.registry import RegisteredModel

_WEEKLY = "0 3 * * 1"


def make_schedules(platform: str, models: Sequence[RegisteredModel]) -> list[dg.ScheduleDefinition]:
    """Return a weekly schedule (Monday 03:00 UTC) of each model's life cycle.

    Unchanged inputs are not trained again, so such a run only verifies the predictions. Layers are
    not changed: a platform that was stopped stays stopped.
    """
    return [_weekly(platform, model.name) for model in models]


def _weekly(platform: str, model: str) -> dg.ScheduleDefinition:
    name = f"{model}_weekly"

    def request(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tags = {TRIGGER_TAG: f"schedule {name}"}
        return dg.RunRequest(asset_selection=life_cycle(platform, model), tags=tags)

    return dg.ScheduleDefinition(
        name=name,
        job_name=lifecycle_job_name(model),
        cron_schedule=_WEEKLY,
        execution_timezone="UTC",
        execution_fn=request,
        description=f"Retrain {model} if its inputs changed, then deploy and verify it.",
    )
