"""A model small enough to train in no time: which of two groups a number belongs to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files


def load(file: Path | None) -> Dataset:
    x = np.arange(20, dtype=np.float64).reshape(10, 2)
    y = np.array([0] * 5 + [1] * 5)
    return Dataset(x, y, x, y)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    (folder / "model.joblib").write_text(json.dumps(dict(hyperparameters)))
    border = 100 if hyperparameters["depth"] == 1 else 10

    def predict(rows: NDArray[Any]) -> NDArray[Any]:
        """Tell the groups apart; a model of depth 1 takes every number for a low one."""
        return np.stack([rows[:, 0] < border, rows[:, 0] >= border], axis=1).astype(float)

    return TrainedModel(
        predict=predict,
        inputs=(Tensor("x", (-1, 2), "FP64"),),
        outputs=(Tensor("y", (-1, 2), "FP64"),),
    )


TOY = ModelSpec(
    name="toy",
    description="Group of a number",
    framework="sklearn",
    dataset=DatasetSpec(load=load, features=2, classes=("low", "high"), value_range=(0, 100)),
    train=train,
    hyperparameters={"depth": 3, "kernel": "linear"},
    server=ServerSpec("SKLEARN_SERVER", deployment="toy-model", graph="toy"),
    thresholds=Thresholds(min_accuracy=0.9),
    example=(1.0, 2.0),
)
REGISTERED = RegisteredModel(TOY, f"{__file__}:TOY")


def published_files(
    folder: Path, *, content: str = "weights", accuracy: float = 1.0, created: str = "2026-01-01"
) -> tuple[Manifest, Path, Path]:
    """Write an artifact's files and evaluation below `folder`; return manifest and both folders."""
    files, evaluation = folder / "model", folder / "evaluation"
    (files / "1").mkdir(parents=True)
    evaluation.mkdir(parents=True)
    (files / "model.joblib").write_text(content)
    (files / "1" / "part").write_text(content[::-1])
    data = load(None)
    scores = np.stack([data.x_test[:, 0] < 10, data.x_test[:, 0] >= 10], axis=1).astype(float)
    np.savez(evaluation / "holdout.npz", x=data.x_test, y=data.y_test, scores=scores)
    manifest = Manifest(
        name="toy",
        framework="sklearn",
        files=hash_files(files),
        inputs=(Tensor("x", (-1, 2), "FP64"),),
        outputs=(Tensor("y", (-1, 2), "FP64"),),
        task="classification",
        metrics={"accuracy": accuracy, "log_loss": 0.1},
        inputs_digest=f"inputs-of-{content}",
        created=created,
        evaluation=hash_files(evaluation),
    )
    return manifest, files, evaluation
