"""Sensors: the release of a model takes its next step as soon as its answers allow that."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import dagster as dg

from mlops_pipeline.assets.keys import MODEL_TAG, PLATFORM_TAG, TRIGGER_TAG
from mlops_pipeline.automation.jobs import release_job_name, release_run_config
from mlops_pipeline.automation.looking import Looks
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.releases.machine import Ask, RollBack, Wait
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.resources.records import close_lost_runs

RELEASE_TAG = "mlops/release"
"""Tag of a run that the sensor requests: the release and its revision."""
_INTERVAL = 15
"""Seconds between two ticks."""
_DEADLINE = 10.0
"""Seconds for a tick."""
_LONGEST_PAUSE = 600.0
"""Seconds between two runs for the same step, if they fail."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_looks = Looks()
T = TypeVar("T")


def release_sensor_name(model: str) -> str:
    """Return the name of the sensor of a model's releases."""
    return f"{model}_release_sensor"


def make_sensors(platform: str, models: Sequence[RegisteredModel]) -> list[dg.SensorDefinition]:
    """Return a sensor for the releases of each model, which runs by default.

    A tick without a release reads the deployment and nothing else.
    """
    return [_release_sensor(platform, model) for model in models]


def _release_sensor(platform: str, model: RegisteredModel) -> dg.SensorDefinition:
    name = release_sensor_name(model.name)

    def evaluate(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        resource: PlatformResource = context.resources.platform
        releases = Releases(model.spec, resource.build(), by=f"sensor {name}")
        try:
            return _Tick(context.instance, platform, model.name, releases).run()
        except PipelineError as error:
            return dg.SkipReason(str(error))

    return dg.SensorDefinition(
        name=name,
        job_name=release_job_name(model.name),
        evaluation_fn=evaluate,
        minimum_interval_seconds=_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"platform"},
        description=f"Counts the answers of both versions while a release of {model.name} is in "
        f"progress, and starts {release_job_name(model.name)} when a step follows from them.",
    )


class _Tick:
    """One look at the release of a model."""

    def __init__(
        self, instance: dg.DagsterInstance, platform: str, model: str, releases: Releases
    ) -> None:
        self._instance = instance
        self._platform = platform
        self._model = model
        self._releases = releases
        self._end = time.monotonic() + _DEADLINE

    def run(self) -> dg.RunRequest | dg.SkipReason:
        """Return a request for a run if the release can take a step, else why there is none.

        Raises:
            PipelineError: the platform does not answer, or the state of the release is damaged.
        """
        release = self._look(self._releases.find)
        if release is None:
            return dg.SkipReason(f"no release of {self._model} is in progress")
        others = self._runs_of_model()
        if any(run.job_name == release_job_name(self._model) for run in others):
            return dg.SkipReason("a run for this release is in progress")
        # A run that works with the same evidence writes it itself.
        progress = self._look(self._releases.look if others else self._releases.watch)
        if progress.release is None or _waits(progress):
            return dg.SkipReason(progress.describe())
        if others and not isinstance(progress.action, RollBack):
            return dg.SkipReason(f"the run {others[0].run_id} of this model is in progress")
        return self._request(progress.release)

    def _look(self, what: Callable[[], T]) -> T:
        at = f"the release of {self._model} on {self._platform}"
        return _looks.look(what, at=at, seconds=self._end - time.monotonic())

    def _request(self, release: Release) -> dg.RunRequest | dg.SkipReason:
        """Return a request, later and later for a step whose runs fail.

        A run key that was used is never used again, so it has the number of the attempt.
        """
        step = f"{release.id}, revision {release.revision}"
        known = self._instance.get_run_records(dg.RunsFilter(tags={RELEASE_TAG: step}))
        ended = max((record.end_time or 0.0 for record in known), default=0.0)
        pause = min(_INTERVAL * 2.0 ** len(known), _LONGEST_PAUSE) if known else 0.0
        if (left := ended + pause - time.time()) > 0:
            return dg.SkipReason(
                f"the run {known[0].dagster_run.run_id} for this step changed nothing; the next "
                f"one starts in {left:.0f} s"
            )
        return dg.RunRequest(
            run_key=f"{release.id}-{release.revision}-{len(known) + 1}",
            run_config=release_run_config(self._platform, self._model, "advance"),
            tags={
                TRIGGER_TAG: f"sensor {release_sensor_name(self._model)}",
                RELEASE_TAG: step,
            },
        )

    def _runs_of_model(self) -> list[dg.DagsterRun]:
        """Return the unfinished runs that may change this model, also those of all models."""
        close_lost_runs(self._instance)
        runs = self._instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
        return [
            run
            for run in runs
            if run.tags.get(PLATFORM_TAG, self._platform) == self._platform
            and self._model in run.tags.get(MODEL_TAG, self._model).split(", ")
        ]


def _waits(progress: Progress) -> bool:
    """Say whether nothing follows now: answers are missing, or a person was asked already."""
    action, release = progress.action, progress.release
    if action is None or isinstance(action, Wait):
        return True
    # The reason counts answers: it changes all the time, and asking again changes nothing else.
    return isinstance(action, Ask) and release is not None and release.phase == "asking"
