"""A rollback that overtakes a training, with a real training process."""

import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_pipeline.catalog.registry import RegisteredModel, load_model
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.resources.turn import turn
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.assets.whole_graph import WholeGraph, whole_graph
from mlops_pipeline_tests.worker_here import worker_here

DEPLOYED = ("toy/deployment", "toy/predictions")
SLOW = """
import os
from dataclasses import replace
from pathlib import Path
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline_tests import toy

def train(dataset, hyperparameters, folder):
    print("epoch 1, with the key", os.environ["A_SECRET"])
    wait_until("the go", lambda: None if Path(GO).exists() else "it is not there", timeout=100)
    print("epoch 2")
    return toy.train(dataset, hyperparameters, folder)

SLOW = replace(toy.TOY, train=train)
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WholeGraph]:
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("A_SECRET", "not for the log")
    (home / "dagster.yaml").write_text(
        "compute_logs: {module: mlops_pipeline.resources.step_output, class: StepOutput}"
    )
    with whole_graph(tmp_path) as made, dg.DagsterInstance.get() as instance:
        made.instance = instance
        yield made


def _digest(graph: WholeGraph, name: str) -> str:
    key = "artifact" if name == "toy/deployment" else "uri"
    return str(graph.metadata(name)[key].value).rpartition("/")[2]


def _output(folder: Path) -> str:
    newest = max(folder.rglob("*.out"), key=lambda file: file.stat().st_mtime)
    return newest.read_text()


def _describe_absent(folder: Path) -> str | None:
    return None if "epoch 1" in _output(folder) else "it has not begun"


@pytest.mark.timeout(300)
def test_it_waits_for_no_training_and_is_not_undone_by_its_run(
    graph: WholeGraph, tmp_path: Path
) -> None:
    with worker_here():
        assert graph.materialize().success
        old = _digest(graph, "toy/model")
        assert graph.materialize(toy__model={"hyperparameters": {"kernel": "other"}}).success
    file, go, settings = tmp_path / "slow.py", tmp_path / "go", Settings(home=tmp_path / "home")
    file.write_text(SLOW.replace("GO", repr(str(go))))
    graph.use(RegisteredModel(load_model(f"{file}:SLOW"), f"{file}:SLOW"))
    results = list[dg.ExecuteInProcessResult]()

    def up() -> None:
        with turn(settings, purpose="run `mlops-pipeline up`", on_wait=lambda _: None):
            changed = {"hyperparameters": {"kernel": "third"}}
            results.append(graph.materialize(toy__model=changed))

    running = threading.Thread(target=up)
    running.start()
    try:
        storage = tmp_path / "dagster/storage"
        wait_until("the training", lambda: _describe_absent(storage), timeout=100)
        waited = list[str]()
        rollback = {"artifact": old}
        with turn(settings, purpose="roll", on_wait=waited.append, during_training=True):
            assert graph.materialize(DEPLOYED, toy__deployment=rollback).success
        assert waited == []
        assert not go.exists()
        assert _digest(graph, "toy/deployment") == old
    finally:
        go.touch()
        running.join()

    assert results[0].success
    assert _digest(graph, "toy/deployment") == old
    shown = str(graph.metadata("toy/deployment")["pin"].value)
    assert shown.endswith(f"the newer artifact {_digest(graph, 'toy/model')[:12]} waits")
    output = "".join(path.read_text() for path in storage.rglob("*.out"))
    assert "--- train toy\nepoch 1, with the key ***\nepoch 2\n" in output
