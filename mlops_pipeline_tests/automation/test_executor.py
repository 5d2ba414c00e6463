"""A run waits for the turn of the state folder, whoever has it."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run

from mlops_pipeline.automation import executor
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.resources import turn as turns
from mlops_pipeline.resources.turn import turn
from mlops_pipeline.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models=(), datasets={})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _execute(settings: Settings, instance: dg.DagsterInstance) -> tuple[dg.DagsterRun, list[float]]:
    """Execute a run of one step as the launcher does; return it with when the step ran."""
    ran: list[float] = []

    @dg.op
    def step() -> None:
        ran.append(time.monotonic())

    @dg.job(executor_def=executor.make_executor(settings))
    def job() -> None:
        step()

    run = instance.create_run_for_job(job)
    execute_run(dg._core.definitions.job_base.InMemoryJob(job), run, instance)
    done = instance.get_run_by_id(run.run_id)
    assert done is not None
    return done, ran


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
    waiting = f"Waiting for process {os.getpid()} (roll iris back)"
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
        pytest.raises(UnavailableError, match=rf"process {os.getpid()} \(hold it\)"),
        turn(settings, purpose="play", on_wait=lambda _: None),
    ):
        raise AssertionError
