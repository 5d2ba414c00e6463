"""Iris: three species of flowers told apart by four lengths, with scikit-learn."""

from pathlib import Path

from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.serving.artifact import Tensor

_SEED = 7
_HELD_OUT = 0.3
_COLUMNS = 5


def load(file: Path | None) -> Dataset:
    """Load Iris: sepal and petal length and width in cm.

    `file` is a CSV of these four columns and a class number; None: the set of scikit-learn.
    """
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    if file is None:
        x, y = load_iris(return_X_y=True)
    else:
        rows = np.loadtxt(file, delimiter=",", ndmin=2)
        if rows.shape[1] != _COLUMNS:
            raise ValueError(f"{file} has {rows.shape[1]} columns, not 4 lengths and a class")
        x, y = rows[:, :4], rows[:, 4]
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=_HELD_OUT, stratify=y, random_state=_SEED
    )
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a scaled logistic regression and write it as `model.joblib`."""
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=float(hyperparameters["C"]),
            max_iter=int(hyperparameters["max_iter"]),
            random_state=_SEED,
        ),
    )
    model.fit(dataset.x_train, dataset.y_train)
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.predict_proba,
        inputs=(Tensor("predict", (-1, 4), "FP64"),),
        outputs=(Tensor("predict_proba", (-1, 3), "FP64"),),
    )


IRIS = ModelSpec(
    name="iris",
    description="Species of an iris flower from the lengths of its sepals and petals",
    framework="sklearn",
    dataset=DatasetSpec(
        load=load,
        features=4,
        classes=("setosa", "versicolor", "virginica"),
        value_range=(0.0, 10.0),
    ),
    train=train,
    hyperparameters={"C": 1.0, "max_iter": 200},
    server=ServerSpec(implementation="SKLEARN_SERVER", deployment="iris-model", graph="classifier"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    example=(5.964, 4.006, 2.081, 1.031),
)
