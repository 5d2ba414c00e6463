"""What workers print is kept of a run, and no more than there is room for."""

import threading
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType

from mlops_pipeline.resources import step_output
from mlops_pipeline.resources.step_output import StepOutput, worker_context
from mlops_pipeline.resources.turn import turn_released

KEY = ("a-run", "compute_logs", "abc")


@pytest.fixture
def manager(tmp_path: Path) -> StepOutput:
    return StepOutput(str(tmp_path / "storage"))


def read(manager: StepOutput, stream: ComputeIOType = ComputeIOType.STDOUT) -> str | None:
    data, _ = manager.get_log_data_for_type(KEY, stream)
    return None if data is None else data.decode()


def test_it_is_readable_while_the_run_executes_and_afterwards(manager: StepOutput) -> None:
    with manager.capture_logs(KEY) as context:
        assert context.log_key == KEY
        assert not manager.is_capture_complete(KEY)
        write = manager.writer()
        write("out", "epoch 1\n")
        assert read(manager) == "epoch 1\n"
        write("err", "é\n")
        write("out", "epoch 2\n")
    write("out", "too late\n")
    assert manager.is_capture_complete(KEY)
    assert read(manager) == "epoch 1\nepoch 2\n"
    assert read(manager, ComputeIOType.STDERR) == "é\n"


def test_two_runs_of_one_process_keep_their_own(manager: StepOutput) -> None:
    with manager.capture_logs(KEY):
        write = manager.writer()

        def other_run() -> None:
            with manager.capture_logs(["another", "compute_logs", "run"]):
                manager.writer()("out", "theirs\n")

        thread = threading.Thread(target=other_run)
        thread.start()
        thread.join()
        write("out", "ours\n")
    assert read(manager) == "ours\n"


def test_a_run_that_fails_is_complete_too(manager: StepOutput) -> None:
    with pytest.raises(ZeroDivisionError), manager.capture_logs(KEY):
        raise ZeroDivisionError
    assert manager.is_capture_complete(KEY)
    assert read(manager) is None


def test_more_than_there_is_room_for_is_not_kept_and_that_is_said(
    manager: StepOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_output, "MOST", 1 << 20)
    with manager.capture_logs(KEY):
        write = manager.writer()
        for _ in range(3_000):
            write("out", "x" * 999 + "\n")
        write("err", "still room\n")
    kept = read(manager) or ""
    assert len(kept) < (1 << 20) + 100
    assert kept.endswith("x\n(output after the first 1 MiB is not stored)\n")
    assert read(manager, ComputeIOType.STDERR) == "still room\n"


def test_output_that_cannot_be_written_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "storage").mkdir()
    manager = StepOutput(str(tmp_path / "storage"))
    with manager.capture_logs(KEY):
        write = manager.writer()
        (tmp_path / "storage" / "a-run").write_text("a file where the folder should be")
        write("out", "one\n")
        write("out", "two\n")
        (tmp_path / "storage" / "a-run").unlink()
    assert [record.getMessage()[:41] for record in caplog.records] == [
        "the output of the workers is not stored: "
    ]


def test_an_instance_keeps_it_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(
        "compute_logs: {module: mlops_pipeline.resources.step_output, class: StepOutput}"
    )
    with dg.DagsterInstance.get() as instance, instance.compute_log_manager.capture_logs(KEY):
        place = worker_context(instance)
        place.on_line("out", "a\n")
    assert place.without_turn is turn_released
    assert (tmp_path / "storage/a-run/compute_logs/abc.out").read_text() == "a\n"


def test_other_managers_get_it_from_the_streams_of_this_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        worker_context(instance).on_line("err", "a\n")
    with dg.DagsterInstance.ephemeral() as instance:
        worker_context(instance).on_line("out", "nothing keeps this\n")
    assert capsys.readouterr() == ("", "a\n")
