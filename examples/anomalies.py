"""Anomalies: a custom task, whose metric is in this file, with a model without probabilities.

Register it with `models = ["examples/anomalies.py"]` in mlops.toml, and run
`mlops-pipeline up anomalies`.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.catalog.tasks import Custom, Metric
from mlops_pipeline.serving.artifact import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 7


def load(_file: Path | None) -> Dataset:
    """Load scikit-learn's breast tumours: 30 measurements; 1 is a malignant one, 0 another."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    x, is_benign = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x, 1 - is_benign, stratify=is_benign, random_state=_SEED
    )
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit an isolation forest on what is not malignant."""
    import joblib
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(n_estimators=int(hyperparameters["trees"]), random_state=_SEED)
    model.fit(dataset.x_train[dataset.y_train == 0])
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.score_samples,
        inputs=(Tensor("tumour", (-1, 30), "FP64"),),
        outputs=(Tensor("score_samples", (-1,), "FP64"),),
    )


def roc_auc(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    """Return how often a malignant tumour has a lower score than another one, 0 to 1.

    NaN if all of them are alike.
    """
    from scipy.stats import rankdata

    is_malignant = targets == 1
    count, others = int(is_malignant.sum()), int((~is_malignant).sum())
    if not count or not others:
        return math.nan
    ranks = rankdata(-predictions[:, 0])[is_malignant]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * others))


ANOMALIES = ModelSpec(
    name="anomalies",
    description="How usual a tumour is: the lower the score, the more it is an anomaly",
    framework="sklearn",
    task=Custom(
        metrics=(
            Metric("roc_auc", roc_auc, higher_is_better=True, title="ROC AUC", bounds=(0.0, 1.0)),
        )
    ),
    dataset=DatasetSpec(load=load, features=30, target_range=(0.0, 1.0)),
    train=train,
    hyperparameters={"trees": 100},
    server=ServerSpec("SKLEARN_SERVER", deployment="anomalies", graph="anomalies"),
    thresholds=Thresholds(limits={"roc_auc": 0.9}, max_loss=0.02, tolerance=1e-9),
)
