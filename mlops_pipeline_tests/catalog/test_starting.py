"""The file that `new` writes works as written: it is registered, trained and served."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mlops_pipeline_tests
from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.catalog.spec import ModelSpec, trained_elsewhere
from mlops_pipeline.catalog.starting import TASKS, render, write_start
from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.delivery.training import tensors
from mlops_pipeline.serving import loading
from mlops_pipeline.serving.artifact import Manifest, hash_files
from mlops_pipeline.serving.frameworks import frameworks
from mlops_pipeline.serving.models import predict

FRAMEWORKS = [row.name for row in frameworks() if row.training]
ROOT = Path(mlops_pipeline_tests.__file__).parents[1]
FIRST = ("sklearn", "classification")


def written(folder: Path, name: str, **options: str | bool) -> ModelSpec:
    task, framework = str(options.pop("task")), str(options.pop("framework"))
    elsewhere = bool(options.pop("is_trained_elsewhere", False))
    path = write_start(
        name, task=task, framework=framework, folder=folder, is_trained_elsewhere=elsewhere
    )
    catalog = load_catalog([str(path)])
    assert catalog.refused == ()
    return next(model.spec for model in catalog.models if model.name == name)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_file_is_registered(tmp_path: Path, task: str, framework: str) -> None:
    spec = written(tmp_path, f"my_{framework}", task=task, framework=framework)
    assert (spec.framework, spec.task.name) == (framework, task)
    assert spec.server.deployment == f"my-{framework}"
    text = (tmp_path / f"my_{framework}.py").read_text()
    assert max(map(len, text.splitlines())) <= 100


def test_every_file_passes_ruff(tmp_path: Path) -> None:
    for task in TASKS:
        for framework in FRAMEWORKS:
            for elsewhere in (True, False):
                start = f"{task[:3]}_{framework[:5]}_{int(elsewhere)}"
                name = start.ljust(31, "x") if task == "custom" else start
                text = render(name, task=task, framework=framework, is_trained_elsewhere=elsewhere)
                (tmp_path / f"{name}.py").write_text(text)
    ruff, config = [sys.executable, "-m", "ruff"], ["--config", str(ROOT / "pyproject.toml")]
    for job in (["check", "--no-cache"], ["format", "--no-cache", "--check", "--diff"]):
        found = subprocess.run(
            [*ruff, *job, *config, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("framework", "task"),
    [
        pytest.param(framework, task, marks=[] if (framework, task) == FIRST else pytest.mark.long)
        for framework in FRAMEWORKS
        for task in sorted(TASKS)
    ],
)
def test_a_file_is_trained_and_served_as_written(tmp_path: Path, task: str, framework: str) -> None:
    spec = written(tmp_path, f"{task}_{framework}", task=task, framework=framework)
    worker.write_dataset(spec, None, tmp_path / "data")
    worker.write_model(spec, tmp_path / "data" / worker.DATA, spec.hyperparameters, tmp_path)
    report = json.loads((tmp_path / worker.REPORT).read_text())
    for metric in spec.metrics:
        limit = spec.thresholds.limits[metric.name]
        assert metric.meets(report["metrics"][metric.name], limit), report["metrics"]
    model, files = tmp_path / worker.MODEL, hash_files(tmp_path / worker.MODEL)
    inputs, outputs = tensors(report["inputs"]), tensors(report["outputs"])
    manifest = Manifest(spec.name, spec.framework, files, inputs, outputs)
    served = loading.load(model, manifest, {}, graph_name=None).default
    with np.load(tmp_path / worker.EVALUATION / "holdout.npz") as holdout:
        ((_, scores),) = predict(served, holdout["x"])
        offline = holdout["scores"]
    assert np.abs(scores.reshape(offline.shape) - offline).max() <= 1e-4 * np.abs(offline).max()


def test_a_model_that_is_only_published_has_no_training(tmp_path: Path) -> None:
    spec = written(
        tmp_path, "bought", task="regression", framework="onnx", is_trained_elsewhere=True
    )
    assert spec.train is trained_elsewhere
    assert "def train" not in (tmp_path / "bought.py").read_text()


def test_an_existing_file_stays(tmp_path: Path) -> None:
    (tmp_path / "wine.py").write_text("mine")
    with pytest.raises(ConflictError, match=r"wine\.py: it exists"):
        write_start("wine", task="classification", framework="sklearn", folder=tmp_path)
    assert (tmp_path / "wine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "task", "framework", "complaint"),
    [
        ("My Model", "regression", "sklearn", "name is 'My Model'; use at most 31"),
        ("m", "ranking", "sklearn", "unknown task 'ranking'; expected one of: classification"),
        ("m", "regression", "torch", "unknown framework 'torch'; known are sklearn"),
    ],
)
def test_what_is_unknown_is_refused(
    tmp_path: Path, name: str, task: str, framework: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        write_start(name, task=task, framework=framework, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_there_is_an_example_of_each_framework_whose_row_names_one(tmp_path: Path) -> None:
    assert FRAMEWORKS == ["sklearn", "tensorflow", "xgboost", "lightgbm", "onnx"]
    with pytest.raises(ConfigurationError, match=f"choose one of: {', '.join(FRAMEWORKS)}"):
        write_start("m", task="regression", framework="mlflow", folder=tmp_path)
