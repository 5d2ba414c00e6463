"""A disk that is full or may not be written, as a small file system that the test mounts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
from mlops_pipeline.delivery.artifacts import ArtifactStore, ref_to
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded.faults import fill, small_disk
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in
from mlops_pipeline_tests.toy import published_files

pytestmark = [
    pytest.mark.embedded,
    # botocore drops the connection of a request that failed, and leaves it to the collector,
    # which runs at the end of each test here, so that no test of another module is blamed.
    pytest.mark.filterwarnings("ignore:Exception ignored in. .socket:pytest.PytestWarning"),
]


@pytest.fixture(autouse=True)
def _dropped_connections_are_collected() -> Iterator[None]:
    yield
    gc.collect()


@contextmanager
def rig_with_small_store(home: Path, *, megabytes: int) -> Iterator[Rig]:
    with rig_in(home) as rig:
        rig.ensure("supervisor")
        with small_disk(home / "object_store/data", megabytes=megabytes):
            try:
                rig.up()
                yield rig
            finally:
                rig.platform.down()


def test_a_full_disk_leaves_nothing_half_that_could_be_deployed(tmp_path: Path) -> None:
    with rig_with_small_store(tmp_path / "s", megabytes=160) as rig:
        rig.apply(predictor(rig.publish("one")))
        artifacts = ArtifactStore(rig.platform.object_store())
        manifest, files, evaluation = published_files(tmp_path / "toy")
        data = tmp_path / "s/object_store/data"
        filler = fill(data)

        with pytest.raises(PipelineError) as failure:
            artifacts.publish(manifest, files=files, evaluation=evaluation)
        assert f"the disk of {data} has 0 MiB free, but 64 MiB are required" in str(failure.value)
        assert "free disk space there, then run `mlops-pipeline up` again" in str(failure.value)
        ref = ref_to(manifest.name, manifest.digest)
        assert not artifacts.exists(ref)
        assert not [artifact for artifact in artifacts.list("toy") if artifact.complete]
        with pytest.raises(
            ConfigurationError,
            match="the object store runs, but is not ready: the",
        ):
            rig.ensure("object_store")
        assert rig.predict() == ["one"]

        filler.unlink()
        assert rig.ensure("object_store").action in ("repaired", "unchanged")
        assert artifacts.publish(manifest, files=files, evaluation=evaluation) == ref
        assert artifacts.download(ref, tmp_path / "back").digest == manifest.digest


def test_a_full_disk_for_downloads_is_not_called_the_store(tmp_path: Path) -> None:
    with rig_in(tmp_path / "s") as rig, small_disk(tmp_path / "full", megabytes=2):
        for layer in ("supervisor", "object_store"):
            rig.ensure(layer)
        store = rig.platform.object_store()
        store.put("models", "large", bytes(3 << 20))
        with pytest.raises(ConfigurationError) as failure:
            store.download("models", "large", tmp_path / "full/large")
        assert "No space left on device; free disk space there" in str(failure.value)
        assert "object store" not in str(failure.value)
        with pytest.raises(ConfigurationError, match=r"could not read .*: No such file"):
            store.upload("models", "none", tmp_path / "none")


def test_a_state_folder_that_is_full_from_the_start_is_named(tmp_path: Path) -> None:
    line = CommandLine(tmp_path / "disk/home", tmp_path, free_ports(3))
    with small_disk(tmp_path / "disk", megabytes=32):
        fill(tmp_path / "disk", leave=2)
        done = line.run("up", "supervisor", code=2)
        assert "the records of a run require 16 MiB, but the disk of" in done.stderr
        assert "Traceback" not in done.stderr
        fill(tmp_path / "disk")
        line.run("down", "--purge", "--yes")


def test_down_works_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=100), rig_in(tmp_path / "disk/s") as rig:
        rig.up()
        fill(tmp_path / "disk")
        rig.platform.down()
        assert rig.pids() == []


@pytest.mark.parametrize("command", ["up", "rollback"])
def test_a_state_folder_that_may_not_be_written_is_named(tmp_path: Path, command: str) -> None:
    line = CommandLine(tmp_path / "disk/home", tmp_path, free_ports(3))
    arguments = {"up": ("up", "supervisor"), "rollback": ("rollback", "iris")}[command]
    with small_disk(tmp_path / "disk", megabytes=1, options=",ro"):
        done = line.run(*arguments, code=2)
    assert "Traceback" not in done.stderr
    assert "Read-only file system; free disk space there" in done.stderr


def test_a_file_in_the_place_of_the_state_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine")
    line = CommandLine(tmp_path / "home", tmp_path, free_ports(3))
    done = line.run("up", "supervisor", code=2)
    assert f"could not write {tmp_path}/home/dagster/dagster.yaml: Not a directory" in done.stderr
    assert "MLOPS_HOME" in done.stderr
    assert (tmp_path / "home").read_text() == "mine"
