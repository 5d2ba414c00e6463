"""Dagster's records: runs whose process is gone, and locks of other processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_pipeline.automation.executor import make_executor
from mlops_pipeline.cli.claim import Place, claimed, write_place
from mlops_pipeline.cli.instance import open_instance, purged_records
from mlops_pipeline.clients import running
from mlops_pipeline.clients.errors import ConflictError, PipelineError, UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.resources import records
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.resources.turn import turn, turn_released
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.platforms.embedded.test_state import damage_by

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DAGSTER_HOME", "")  # Put back afterwards: opening an instance sets it.
    return Settings.model_construct(home=tmp_path / "home")


@pytest.fixture
def killed() -> str:
    """The identity of a process that was killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        word = running.identity(process.pid)
        process.kill()
    assert word is not None
    return word


def create(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> str:
    run = dg.DagsterRun("everything", status=status, tags=dict(tags))
    return instance.add_run(run).run_id


def status_after(settings: Settings, status: dg.DagsterRunStatus, **tags: str) -> str:
    """Create a run, let another command open the instance, and return the run's status."""
    with open_instance(settings) as instance:
        run_id = create(instance, status, **tags)
    with open_instance(settings) as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


@pytest.mark.parametrize(
    ("before", "after"),
    [("STARTED", "FAILURE"), ("NOT_STARTED", "FAILURE"), ("CANCELING", "CANCELED")],
)
def test_a_run_whose_process_was_killed_is_closed_by_the_next_command(
    settings: Settings, killed: str, before: str, after: str
) -> None:
    status = dg.DagsterRunStatus(before)
    assert status_after(settings, status, **{records.PROCESS_TAG: killed}) == after


def test_a_run_of_an_earlier_version_is_closed_too(settings: Settings, killed: str) -> None:
    assert status_after(settings, STARTED, **{"mlops/process": killed}) == "FAILURE"


def test_slots_of_ended_runs_are_free_for_the_next_one(settings: Settings, killed: str) -> None:
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("pool", 3)
        lost = create(instance, STARTED, **{records.PROCESS_TAG: killed})
        ended = create(instance, dg.DagsterRunStatus.FAILURE)
        alive = create(instance, STARTED, **records.process_tags())
        for run_id in (lost, ended, alive, "deleted"):
            storage.claim_concurrency_slot("pool", run_id, "step")
    with open_instance(settings) as instance:
        info = instance.event_log_storage.get_concurrency_info("pool")
    assert {slot.run_id for slot in info.claimed_slots} == {alive}


def test_the_reason_is_in_the_log_of_the_run(settings: Settings, killed: str) -> None:
    with open_instance(settings) as instance:
        run_id = create(instance, STARTED, **{records.PROCESS_TAG: killed})
        assert records.close_lost_runs(instance) == [run_id]
        said = [entry.message for entry in instance.all_logs(run_id)]
    pid = killed.split(".")[1]
    assert any(f"The process {pid} that executed this run no longer exists" in s for s in said)


def test_runs_of_living_processes_and_of_other_machines_stay(
    settings: Settings, killed: str
) -> None:
    elsewhere = "0" * 12 + killed[12:]
    for word in (running.identity(os.getpid()) or "", elsewhere, "damaged"):
        assert status_after(settings, STARTED, **{records.PROCESS_TAG: word}) == "STARTED"
    assert status_after(settings, STARTED) == "STARTED"


@pytest.mark.parametrize(
    ("machine", "after"), [(running.machine(), "FAILURE"), ("0" * 12, "STARTING")]
)
def test_a_run_that_no_code_server_can_begin_any_more_is_closed(
    settings: Settings, tmp_path: Path, machine: str, after: str
) -> None:
    folder = running.sockets_prefix().replace(running.machine(), machine)
    socket = tmp_path / f"{folder}x" / "embedded.sock"
    launched = {".dagster/grpc_info": f'{{"host": "localhost", "socket": "{socket}"}}'}
    assert status_after(settings, dg.DagsterRunStatus.STARTING, **launched) == after


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_a_re_executed_run_is_not_closed_by_the_tags_of_its_original(
    settings: Settings, tmp_path: Path, killed: str, status: str
) -> None:
    socket = tmp_path / f"{running.sockets_prefix()}x" / "embedded.sock"
    launched = f'{{"host": "localhost", "socket": "{socket}"}}'
    tags = {records.PROCESS_TAG: killed, ".dagster/grpc_info": launched}
    with open_instance(settings) as instance:
        tags["dagster/parent_run_id"] = create(instance, dg.DagsterRunStatus.FAILURE, **tags)
    assert status_after(settings, dg.DagsterRunStatus(status), **tags) == status
    machine, pid, birth = killed.split(".")
    own = {**tags, records.PROCESS_TAG: f"{machine}.{pid}.{birth}0"}
    assert status_after(settings, dg.DagsterRunStatus(status), **own) == "FAILURE"


def test_a_reused_process_id_is_not_the_process(killed: str) -> None:
    mine = running.identity(os.getpid())
    assert mine is not None
    machine, pid, birth = mine.split(".")
    assert not running.is_gone(mine)
    assert running.is_gone(f"{machine}.{pid}.{birth}0")
    assert running.is_gone(killed)


def test_an_executed_run_says_which_process_executes_it(settings: Settings) -> None:
    @dg.op
    def nothing() -> None:
        pass

    @dg.job(executor_def=make_executor(settings))
    def job() -> None:
        nothing()

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job)
        dg._core.execution.api.execute_run(
            dg._core.definitions.job_base.InMemoryJob(job),
            run,
            instance,
        )
        done = instance.get_run_by_id(run.run_id)
    assert done is not None
    assert done.tags[records.PROCESS_TAG] == running.identity(os.getpid())
    assert done.is_success


HOLD = (
    "import sqlite3, sys, time\n"
    "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(float(sys.argv[2]))\n"
)


@pytest.fixture
def holder(settings: Settings) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the runs locked for longer than Dagster waits."""
    with open_instance(settings):
        pass
    database = settings.dagster_home / "history/runs.db"
    command = [sys.executable, "-c", HOLD, str(database), "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is Linux's")
def test_a_locked_database_is_waited_for_and_who_locks_it_is_said(
    settings: Settings, holder: "subprocess.Popen[str]"
) -> None:
    waited: list[str] = []
    with open_instance(settings, on_wait=waited.append) as instance:
        create(instance, STARTED)
    assert holder.wait(timeout=30) == 0  # It has let go before it ends.
    (said,) = waited
    assert said.startswith(f"process {holder.pid} (")
    assert said.endswith("), which holds a lock on Dagster's records")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is Linux's")
def test_when_the_lock_stays_its_holder_is_named_and_nothing_is_to_be_removed(
    settings: Settings, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PATIENCE", 0.2)
    with pytest.raises(UnavailableError) as failure, open_instance(settings) as instance:
        create(instance, STARTED)
    said = str(failure.value)
    assert f"process {holder.pid} ({sys.executable}" in said
    assert "Wait until that process ends, or stop it" in said
    assert "move" not in said


def _use(settings: Settings) -> None:
    """Do with the instance what `up` and `rollback` do."""
    asset = dg.AssetKey(["embedded", "iris", "model"])
    with open_instance(settings) as instance:
        run = instance.get_run_by_id(create(instance, STARTED))
        instance.report_engine_event("begun", run)
        instance.report_runless_asset_event(dg.AssetMaterialization(asset))
        assert instance.get_latest_materialization_event(asset) is not None
        instance.all_instigator_state()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an instance that was used."""
    home = tmp_path_factory.mktemp("used") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        _use(Settings.model_construct(home=home))
    return home


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(k, marks=pytest.mark.long) for k in ("empty", "truncated", "a directory")),
        *("binary", "lost"),
    ],
)
def test_no_damaged_file_of_the_records_ends_in_a_trace(
    settings: Settings, used: Path, kind: str
) -> None:
    files = [p.relative_to(used) for p in used.rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) > 4
    for file in files:
        shutil.rmtree(settings.home, ignore_errors=True)
        shutil.copytree(used, settings.home)
        damaged = settings.home / file
        damage_by(damaged, kind)
        one_run = damaged.parent.name == "runs" and len(damaged.stem) == 36
        if one_run or kind in ("empty", "lost"):
            _use(settings)
        else:
            with pytest.raises(PipelineError) as error:
                _use(settings)
            assert str(damaged) in str(error.value)
            assert "ove " in str(error.value)  # Move it away.
            damaged.rename(settings.home / "moved away")
            _use(settings)


def test_an_emptied_configuration_of_dagster_is_written_again(settings: Settings) -> None:
    file = prepare_instance(settings) / "dagster.yaml"
    before = file.read_text()
    file.write_text("")
    prepare_instance(settings)
    assert file.read_text() == before


def test_only_their_owner_can_read_the_records(settings: Settings) -> None:
    with open_instance(settings):
        pass
    assert settings.dagster_home.stat().st_mode & 0o777 == 0o700


def purge(settings: Settings) -> None:
    with purged_records(settings, "embedded"):
        pass


def test_an_empty_state_folder_goes_with_the_records(settings: Settings) -> None:
    with open_instance(settings):
        pass
    purge(settings)
    assert not settings.home.exists()
    purge(settings)
    assert not settings.home.exists()


def test_a_state_folder_with_something_else_in_it_stays(settings: Settings) -> None:
    with open_instance(settings):
        pass
    (settings.home / "mine").write_text("")
    purge(settings)
    assert [file.name for file in settings.home.iterdir()] == ["mine"]


def test_records_of_a_ui_that_runs_are_not_removed(settings: Settings) -> None:
    home = prepare_instance(settings)
    with claimed(home / "ui.lock") as claim:
        assert claim is not None
        with pytest.raises(ConflictError, match=r"another process starts or stops `mlops-pipeline"):
            purge(settings)
        write_place(claim, Place(os.getpid(), "127.0.0.1", 3000))
        with pytest.raises(ConflictError) as refused, purged_records(settings, "embedded"):
            pytest.fail("something is removed before the UI is looked for")
        assert f"process {os.getpid()} runs `mlops-pipeline ui`" in str(refused.value)
        (settings.home / "kind").mkdir()  # It has the same records: they stay, and the UI too.
        purge(settings)
    assert home.exists()


def test_records_that_an_up_writes_are_not_removed(settings: Settings) -> None:
    home = prepare_instance(settings)
    with (
        Locks(home, timeout=0).held("up", purpose="run `mlops-pipeline up`"),
        pytest.raises(UnavailableError, match=rf"process {os.getpid()} \(run `mlops-pipeline up`"),
    ):
        purge(settings)
    with (
        turn(settings, purpose="train", on_wait=lambda _: None),
        turn_released(),
        pytest.raises(UnavailableError, match=rf"process {os.getpid()} \(train, since"),
    ):
        purge(settings)
    assert home.exists()


def test_no_ui_starts_while_records_are_removed(settings: Settings) -> None:
    lock = prepare_instance(settings) / "ui.lock"
    with purged_records(settings, "embedded"), claimed(lock) as claim:
        assert claim is None
