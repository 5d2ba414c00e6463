"""A release on real processes, driven by Dagster alone: its sensor looks, and runs take steps."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from mlops_pipeline.catalog.registry import Catalog, RegisteredModel
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.clients.waiting import MONOTONIC
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.settings import load_settings
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded.release_rig import ReleaseRig
from mlops_pipeline_tests.embedded.unruly import REGISTERED, UNRULY

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(540)]
PLAN = ReleaseSpec(
    "canary",
    steps=(Step(20, answers=20, seconds=300), Step(50, answers=500, seconds=300)),
    max_errors=0.1,
    max_slow=0.5,
    slow_factor=5.0,
    keep_seconds=1.0,
)
SPEC = replace(UNRULY, release=PLAN)


class World:
    """The code location of a platform that is up, with one model."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        settings = load_settings(platform="embedded")
        self.instance = instance
        self.resource = PlatformResource.of("embedded", settings)
        self.rig = ReleaseRig(build_platform("embedded", settings))
        self.rig.spec = SPEC
        self.definitions = make_definitions(
            self.resource,
            catalog=Catalog((RegisteredModel(SPEC, REGISTERED.source),)),
            settings=settings,
        )

    def execute(self, job: str, config: Any = None) -> None:
        run = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config=config, raise_on_error=False
        )
        assert run.success, [event.step_failure_data for event in run.get_step_failure_events()]

    def train(self, behaviour: str, version: int) -> None:
        """Train an artifact, and deploy or release it."""
        parameters = {"behaviour": behaviour, "version": version}
        config = {"config": {"hyperparameters": parameters}}
        self.execute("everything", {"ops": {"embedded__unruly__model": config}})

    def tick(self) -> str:
        """Tick the sensor, execute what it requests, and return why it requests nothing."""
        name = "unruly_release_sensor"
        sensor = self.definitions.get_repository_def().get_sensor_def(name)
        with dg.build_sensor_context(
            self.instance, resources={"platform": self.resource}
        ) as context:
            data = sensor.evaluate_tick(context)
        for request in data.run_requests or ():
            self.execute("unruly_release", request.run_config)
        return data.skip_message or ""

    def drive(self, *, within: float) -> list[str]:
        """Tick until no release is in progress; return what the ticks said."""
        said: list[str] = []
        end = time.monotonic() + within
        while not said or not said[-1].startswith("no release"):
            assert time.monotonic() < end, said
            said.append(self.tick())
            MONOTONIC.sleep(0.5)
        return said

    def page(self, part: str = "deployment") -> dict[str, Any]:
        key = dg.AssetKey(["embedded", "unruly", part])
        event = self.instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A platform that is up, and the first version of the model on it."""
    directory = tmp_path_factory.mktemp("release_runs")
    made = CommandLine(directory / "home", directory, free_ports(3))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in made.environment().items():
            if name.startswith("MLOPS_"):
                patch.setenv(name, value)
        patch.chdir(directory)
        try:
            made.run("up", "gateway", "object_store")
            ready = World(instance)
            ready.train("good", 1)
            yield ready
        finally:
            made.run("down", "--purge", "--yes")


def _rows(value: Any) -> list[dict[str, Any]]:
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def test_the_sensor_promotes_a_good_version_and_rolls_a_bad_one_back(world: World) -> None:
    first = str(world.page()["artifact"].value)
    assert world.tick() == "no release of unruly is in progress"
    world.train("good", 2)
    page = world.page()
    assert (page["share"].value, page["artifact"].value) == (20, first)
    with world.rig.load(rate=60) as traffic:
        said = world.drive(within=200)
    assert traffic.failures == []
    assert any("missing" in sentence for sentence in said)
    page = world.page()
    second = str(page["artifact"].value)
    assert second != first
    (promoted,) = _rows(page["releases"])
    assert promoted["outcome"] == "promoted"
    assert promoted["signature"].startswith("key ")
    assert "errors 0 of" in promoted["counts"]

    world.train("errors", 3)
    bad = str(world.page()["candidate"].value)
    with world.rig.load(rate=60) as traffic:
        world.drive(within=100)
    assert world.page()["artifact"].value == second
    newest = _rows(world.page()["releases"])[0]
    assert (newest["outcome"], newest["candidate"]) == ("rolled back", bad[:12])
    assert world.rig.served() == second.rpartition("/")[2]
