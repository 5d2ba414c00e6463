"""The sensor of releases: starts a run when a step follows, and says why it does not."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import pytest

from mlops_pipeline.assets.keys import MODEL_TAG, PLATFORM_TAG, TRIGGER_TAG
from mlops_pipeline.automation import sensors
from mlops_pipeline.automation.looking import Looks
from mlops_pipeline.automation.sensors import RELEASE_TAG
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.clients import running
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.deploying import deploy
from mlops_pipeline.delivery.releases.driver import Releases
from mlops_pipeline.delivery.releases.state import RELEASE_ANNOTATION, Release
from mlops_pipeline.resources.records import PROCESS_TAG
from mlops_pipeline_tests.assets.whole_graph import WholeGraph, whole_graph
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files

SPEC = replace(
    TOY, release=ReleaseSpec("canary", steps=(Step(20, answers=10), Step(40, answers=10)))
)
NAMESPACE, NAME = TOY.server.namespace, TOY.server.deployment


@dataclass
class World:
    """A platform on which the artifact `v1` serves."""

    graph: WholeGraph

    def artifact(self, folder: Path, content: str) -> Any:
        manifest, files, evaluation = published_files(folder / content, content=content)
        store = ArtifactStore(self.graph.platform.store)
        return store.publish(manifest, files=files, evaluation=evaluation)

    @property
    def releases(self) -> Releases:
        return Releases(SPEC, self.graph.platform, by="the test")

    @property
    def release(self) -> Release:
        found = self.releases.find()
        assert found is not None
        return found

    def count(self, predictor: str, answered: int, failed: int = 0) -> None:
        self.graph.platform.deployments.count(
            NAME, predictor, namespace=NAMESPACE, answered=answered, failed=failed
        )

    def let_a_step_follow(self) -> None:
        self.releases.watch()
        self.count("default", 80)
        self.count("default-candidate", 20)

    def tick(self) -> dg.RunRequest | str:
        """Return the request of a tick, or why there is none."""
        definition = self.graph.definitions.get_repository_def().get_sensor_def(
            "toy_release_sensor"
        )
        with dg.build_sensor_context(
            self.graph.instance,
            resources={"platform": self.graph.resource},
        ) as context:
            data = definition.evaluate_tick(context)
        if data.run_requests:
            (request,) = data.run_requests
            return request
        assert data.skip_message
        return data.skip_message

    def add_run(self, job: str, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
        """Record a run of this process on this platform."""
        mine = {PLATFORM_TAG: "fake", PROCESS_TAG: str(running.identity(os.getpid()))}
        named = {name.replace("_", "/", 1): text for name, text in tags.items()}
        run = dg.DagsterRun(job, status=status, tags={**mine, **named})
        self.graph.instance.add_run(run)
        return run


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a platform on which nothing is released yet."""
    with whole_graph(tmp_path) as graph:
        graph.use(RegisteredModel(SPEC, REGISTERED.source))
        made = World(graph)
        store = ArtifactStore(graph.platform.store)
        deploy(SPEC, made.artifact(tmp_path, "v1"), platform=graph.platform, artifacts=store)
        yield made


@pytest.fixture
def released(world: World, tmp_path: Path) -> World:
    """Return a platform on which the artifact `v2` is being released."""
    world.releases.begin(world.artifact(tmp_path, "v2"))
    return world


def _request(found: dg.RunRequest | str) -> dg.RunRequest:
    assert isinstance(found, dg.RunRequest), found
    return found


def test_every_model_has_a_sensor_that_runs_and_a_job_that_advances(world: World) -> None:
    repository = world.graph.definitions.get_repository_def()
    sensor = repository.get_sensor_def("toy_release_sensor")
    job = world.graph.definitions.resolve_job_def("toy_release")

    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 15
    assert sensor.job_name == "toy_release"
    steps = {node.name for node in job.nodes}
    assert steps == {"fake__toy__deployment", "fake__toy__deployment__checks"}
    assert job.tags == {PLATFORM_TAG: "fake", MODEL_TAG: "toy"}


def test_without_a_release_nothing_but_the_deployment_is_read(world: World) -> None:
    world.graph.platform.store.silent = {"get", "sizes"}
    assert world.tick() == "no release of toy is in progress"


def test_a_tick_counts_and_says_what_is_missing(released: World) -> None:
    # Where the gateway tells what it lost, a restart of a server is no failed answer.
    released.graph.platform.deployments.lost = {"default": 0, "default-candidate": 0}
    assert "0 of 10 answers" in str(released.tick())
    released.count("default-candidate", 7)
    assert "7 of 10 answers; 3 are missing" in str(released.tick())
    released.graph.platform.deployments.restart(NAME, namespace=NAMESPACE)
    released.count("default-candidate", 2)
    assert "9 of 10 answers; 1 are missing" in str(released.tick())


def test_a_step_that_follows_is_taken_by_one_run(released: World) -> None:
    released.let_a_step_follow()
    release = released.release

    request = _request(released.tick())

    assert request.run_key == f"{release.id}-{release.revision}-1"
    assert request.tags[TRIGGER_TAG] == "sensor toy_release_sensor"
    assert request.tags[RELEASE_TAG] == f"{release.id}, revision {release.revision}"
    run = released.graph.definitions.resolve_job_def("toy_release").execute_in_process(
        instance=released.graph.instance, run_config=request.run_config, tags=request.tags
    )
    assert run.success
    assert (released.release.step, released.release.share) == (1, 40)
    assert "0 of 10 answers" in str(released.tick())


def test_the_job_needs_no_config(released: World) -> None:
    released.let_a_step_follow()
    job = released.graph.definitions.resolve_job_def("toy_release")
    assert job.execute_in_process(instance=released.graph.instance).success
    assert released.release.share == 40


@pytest.mark.parametrize(
    ("job", "tags", "reason"),
    [
        ("toy_release", {"mlops_model": "toy"}, "a run for this release is in progress"),
        ("toy_lifecycle", {"mlops_model": "toy"}, "of this model is in progress"),
        ("everything", {}, "of this model is in progress"),
        ("everything", {"mlops_model": "iris, toy"}, "of this model is in progress"),
        ("iris_lifecycle", {"mlops_model": "iris"}, ""),
        ("toy_release", {"mlops_model": "toy", "mlops_platform": "kind"}, ""),
    ],
)
def test_runs_of_one_model_do_not_overlap(
    released: World, job: str, tags: dict[str, str], reason: str
) -> None:
    released.let_a_step_follow()
    released.add_run(job, dg.DagsterRunStatus.STARTED, **tags)

    found = released.tick()

    assert reason in found if isinstance(found, str) else not reason


def test_a_bad_version_is_rolled_back_during_a_training_too(released: World) -> None:
    released.releases.watch()
    released.count("default", 80)
    released.count("default-candidate", 0, failed=20)
    released.add_run("toy_lifecycle", dg.DagsterRunStatus.STARTED, mlops_model="toy")
    assert isinstance(released.tick(), dg.RunRequest)


def test_a_run_whose_process_was_killed_blocks_nothing(released: World) -> None:
    released.let_a_step_follow()
    gone = str(running.identity(os.getpid())).replace(str(os.getpid()), "4194304")
    run = released.add_run("toy_release", dg.DagsterRunStatus.STARTED, mlops_model="toy")
    released.graph.instance.add_run_tags(run.run_id, {PROCESS_TAG: gone})
    assert isinstance(released.tick(), dg.RunRequest)


def test_a_step_whose_run_failed_is_tried_again_later_and_later(
    released: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    released.let_a_step_follow()
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for attempt, pause in ((1, 30), (2, 60), (3, 120)):
        request = _request(released.tick())
        assert request.run_key is not None
        assert request.run_key.endswith(f"-{attempt}")
        run = released.add_run("toy_release", dg.DagsterRunStatus.STARTED)
        released.graph.instance.add_run_tags(run.run_id, dict(request.tags))
        released.graph.instance.report_run_failed(run)
        clock[0] += pause - 5
        assert "changed nothing; the next one starts in" in str(released.tick())
        clock[0] += 10


def test_a_person_who_was_asked_is_not_asked_again(released: World) -> None:
    release = released.release
    asking = release.changed(phase="asking", reason="evidence is missing")
    released.graph.platform.deployments.annotate(NAME, asking.annotations(), namespace=NAMESPACE)
    assert "waits for a decision: evidence is missing" in str(released.tick())


def test_a_platform_that_does_not_answer_is_a_skip_with_its_reason(
    released: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object, **__: object) -> NoReturn:
        raise UnavailableError("could not reach the API server")

    monkeypatch.setattr(released.graph.platform.deployments, "find", find)
    assert released.tick() == "could not reach the API server"


def test_a_damaged_state_is_a_skip_that_says_what_to_do(released: World) -> None:
    released.graph.platform.deployments.annotate(
        NAME, {RELEASE_ANNOTATION: "{"}, namespace=NAMESPACE
    )
    assert "Run `mlops-pipeline release abort" in str(released.tick())


def test_a_tick_ends_in_time_whatever_hangs(
    released: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    found = released.graph.platform.deployments.find

    def find(*arguments: Any, **named: Any) -> Any:
        go_on.wait(30)
        return found(*arguments, **named)

    monkeypatch.setattr(sensors, "_DEADLINE", 0.2)
    monkeypatch.setattr(released.graph.platform.deployments, "find", find)
    start = time.monotonic()
    assert "could not look at the release of toy on fake within" in str(released.tick())
    assert "an earlier look at the release of toy on fake still waits" in str(released.tick())
    assert time.monotonic() - start < 10
    go_on.set()
    monkeypatch.setattr(sensors, "_DEADLINE", 10.0)
    assert "of 10 answers" in _after_the_other_look(released.tick)


def _after_the_other_look(tick: Callable[[], dg.RunRequest | str]) -> str:
    end = time.monotonic() + 10
    while "an earlier look" in (said := str(tick())):
        assert time.monotonic() < end
    return said


def test_a_look_returns_and_raises_what_the_function_does() -> None:
    looks = Looks()

    def fail() -> NoReturn:
        raise NotFoundError("nothing is there")

    assert looks.look(lambda: 1, at="a", seconds=5) == 1
    with pytest.raises(NotFoundError, match="nothing is there"):
        looks.look(fail, at="a", seconds=5)
    assert looks.look(lambda: 2, at="a", seconds=5) == 2
