"""A run waits for the turn of the state folder, whoever has it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from mlops_pipeline.assets.keys import WORKER_TAG, layer_key, model_key, step_tags
from mlops_pipeline.automation import executor
from mlops_pipeline.cli import runs
from mlops_pipeline.clients import running
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.resources import turn as turns
from mlops_pipeline.resources.records import PROCESS_TAG
from mlops_pipeline.resources.turn import turn, turn_released
from mlops_pipeline.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models=(), datasets={})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _execute(
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    body: Callable[[], None] = lambda: None,
    tags: Mapping[str, str] = MappingProxyType({}),
    run_tags: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dg.DagsterRun, list[float]]:
    """Execute a run of one step as the launcher does; return it with when the step ran."""
    ran: list[float] = []

    @dg.op(tags=tags)
    def step() -> None:
        ran.append(time.monotonic())
        body()

    @dg.job(executor_def=executor.make_executor(settings))
    def job() -> None:
        step()

    run = instance.create_run_for_job(job, tags=run_tags)
    execute_run(dg._core.definitions.job_base.InMemoryJob(job), run, instance)
    done = instance.get_run_by_id(run.run_id)
    assert done is not None
    return done, ran


def test_a_run_closes_those_whose_process_was_killed(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        tags = {PROCESS_TAG: str(running.identity(process.pid))}
        process.kill()
    lost = dg.DagsterRun("everything", status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.add_run(lost)
    done, _ = _execute(settings, instance)
    found = instance.get_run_by_id(lost.run_id)
    assert found is not None
    assert (found.status.value, done.status.value) == ("FAILURE", "SUCCESS")


def test_a_run_waits_for_a_command_and_says_so(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    has, release = threading.Event(), threading.Event()
    let_go: list[float] = []

    def hold() -> None:
        with turn(settings, purpose="roll iris back", on_wait=lambda _: None):
            has.set()
            release.wait(20)
            let_go.append(time.monotonic())

    holder = threading.Thread(target=hold)
    holder.start()
    assert has.wait(20)
    threading.Timer(1.5, release.set).start()

    run, ran = _execute(settings, instance)

    holder.join()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert ran[0] > let_go[0]
    said = [entry.message for entry in instance.all_logs(run.run_id)]
    waiting = f"Waiting for process {os.getpid()} (roll iris back, since "
    assert any(message.startswith(waiting) for message in said), said


def test_a_waiting_run_that_is_canceled_executes_nothing(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "check_captured_interrupt", lambda: True)
    with turn(settings, purpose="hold it", on_wait=lambda _: None):
        run, ran = _execute(settings, instance)
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
    assert ran == []


def test_a_timeout_names_the_holder_of_the_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.1)
    with (
        turn(settings, purpose="hold it", on_wait=lambda _: None),
        pytest.raises(UnavailableError, match=rf"process {os.getpid()} \(hold it, since"),
        turn(settings, purpose="play", on_wait=lambda _: None),
    ):
        raise AssertionError


def _silent(_: str) -> None:
    pass


def test_a_rollback_works_during_a_training_and_the_run_waits_for_its_end(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    trains, rolls, ends, done = (*(threading.Event() for _ in range(3)), list[str]())

    def roll_back() -> None:
        assert trains.wait(60)
        with turn(settings, purpose="roll back", on_wait=_silent, during_training=True):
            rolls.set()
            ends.wait(1.5)
            done.append("rolled back")

    def train() -> None:
        with turn_released():
            trains.set()
            assert rolls.wait(60)
            done.append("trained")
        done.append("published")

    other = threading.Thread(target=roll_back)
    other.start()
    run, _ = _execute(settings, instance, body=train, tags={WORKER_TAG: "true"})
    other.join()

    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert done == ["trained", "rolled back", "published"]
    said = [entry.message for entry in instance.all_logs(run.run_id)]
    waiting = f"Waiting for process {os.getpid()} (roll back, since "
    assert any(message.startswith(waiting) for message in said), said


def test_during_a_training_only_runs_that_deploy_do_not_wait(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.1)
    with turn(settings, purpose="train", on_wait=_silent), turn_released():
        for key in (
            model_key("embedded", "iris", "dataset"),
            model_key("embedded", "iris", "model"),
            layer_key("embedded", "object_store"),
        ):
            refused, ran = _execute(settings, instance, tags=step_tags(key))
            assert (refused.status, ran) == (dg.DagsterRunStatus.FAILURE, [])
        for part in ("deployment", "predictions"):
            tags = step_tags(model_key("embedded", "iris", part))
            taken, _ = _execute(settings, instance, tags=tags)
            assert taken.status == dg.DagsterRunStatus.SUCCESS


def test_a_run_that_does_not_get_the_turn_back_changes_nothing_more(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.2)
    has, release, after = threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with turn(settings, purpose="hold it", on_wait=_silent, during_training=True):
            has.set()
            release.wait(60)

    other = threading.Thread(target=hold)

    def train() -> None:
        with turn_released():
            other.start()
            assert has.wait(60)
        after.append("changed something")

    run, _ = _execute(settings, instance, body=train, tags={WORKER_TAG: "true"})
    release.set()
    other.join()
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert after == []
    (failure,) = runs._failures(instance, run.run_id)
    assert not failure.interrupted
    assert failure.sentence.startswith(
        f"step: could not execute the Dagster run {run.run_id}: process {os.getpid()} (hold it, "
    )


def test_a_killed_process_releases_the_turn_also_during_its_training(settings: Settings) -> None:
    for context in ("nullcontext", "turn_released"):
        code = (
            "import sys\nfrom contextlib import nullcontext\nfrom pathlib import Path\n"
            "from mlops_pipeline.settings import Settings\n"
            "from mlops_pipeline.resources.turn import turn_released, turn\n"
            f"settings = Settings(home=Path({str(settings.home)!r}), models=(), datasets={{}})\n"
            f"with turn(settings, purpose='die', on_wait=print), {context}():\n"
            "    print('has it', flush=True)\n    sys.stdin.read()\n"
        )
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"has it\n"
            process.kill()
        waited = list[str]()
        with turn(settings, purpose="live", on_wait=waited.append):
            assert waited == []


def test_a_run_that_a_code_server_executes_was_started_by_the_ui_or_an_api() -> None:
    repository = RemoteRepositoryOrigin(
        code_location_origin=RegisteredCodeLocationOrigin(location_name="embedded"),
        repository_name="repository",
    )
    origin = RemoteJobOrigin(repository_origin=repository, job_name="everything")
    run = dg.DagsterRun("everything", remote_job_origin=origin)
    assert executor._describe_trigger(run) == "Dagster UI or API"


def test_a_re_executed_run_does_not_name_the_command_of_the_original(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    command = {"mlops/command": "up iris --force"}
    original, _ = _execute(settings, instance, run_tags=command)
    copy, _ = _execute(settings, instance, run_tags={**command, "dagster/parent_run_id": "123"})
    assert original.tags["mlops/command"] == "up iris --force"
    assert copy.tags["mlops/command"] == "re-execution of the Dagster run 123"


@pytest.mark.parametrize(
    ("given", "trigger"),
    [
        ({}, "dagster, "),
        ({"dagster/schedule_name": "iris_weekly"}, "schedule iris_weekly"),
        ({"dagster/sensor_name": "drift"}, "sensor drift"),
        ({"mlops/trigger": "mlops-pipeline up, me"}, "mlops-pipeline up, me"),
        (
            {"mlops/trigger": "mlops-pipeline up, me", "dagster/parent_run_id": "123"},
            "re-execution of the Dagster run 123",
        ),
    ],
)
def test_every_run_says_its_platform_its_model_and_its_trigger(
    settings: Settings, instance: dg.DagsterInstance, given: dict[str, str], trigger: str
) -> None:
    tags = step_tags(model_key("embedded", "iris", "deployment"))
    run, _ = _execute(settings, instance, tags=tags, run_tags=given)
    assert run.tags["mlops/platform"] == "embedded"
    assert run.tags["mlops/model"] == "iris"
    assert run.tags["mlops/trigger"].startswith(trigger)
