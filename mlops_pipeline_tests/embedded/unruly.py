"""A model whose versions misbehave as a hyper-parameter says."""

from pathlib import Path

import numpy as np

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.catalog.saving import save_python
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)

COMPONENT = Path(__file__).parent / "components" / "Unruly.py"


def load(_file: Path | None) -> Dataset:
    x = np.arange(80, dtype=np.float64).reshape(40, 2) / 2
    y = (x[:, 0] >= 10).astype(int)
    return Dataset(x, y, x, y)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    return save_python(COMPONENT, folder, rows=dataset.x_test[:1], parameters=dict(hyperparameters))


UNRULY = ModelSpec(
    name="unruly",
    description="Group of a number, until it misbehaves",
    framework="python",
    dataset=DatasetSpec(load=load, features=2, classes=("low", "high")),
    train=train,
    sources=(COMPONENT,),
    hyperparameters={
        "behaviour": "good",
        "version": 1,
    },
    server=ServerSpec("PYTHON_SERVER", deployment="unruly", graph="unruly"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    release=ReleaseSpec(
        strategy="canary",
        steps=(
            Step(5, answers=20, seconds=5),
            Step(25, answers=50, seconds=5),
            Step(50, seconds=5),
        ),
        when_silent="replay",
        keep_seconds=0,
    ),
)

REGISTERED = RegisteredModel(UNRULY, f"{__file__}:UNRULY")
