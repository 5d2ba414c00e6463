"""A third model, as somebody outside the package would write it."""

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


def load(_file: Path | None) -> Dataset:
    """Load the wine set of scikit-learn: 13 measurements of 178 wines of three growers."""
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a random forest."""
    import joblib
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(int(hyperparameters["trees"]), random_state=1)
    model.fit(dataset.x_train, dataset.y_train)
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.predict_proba,
        inputs=(Tensor("predict", (-1, 13), "FP64"),),
        outputs=(Tensor("predict_proba", (-1, 3), "FP64"),),
    )


WINE = ModelSpec(
    name="wine",
    description="Grower of a wine from 13 measurements",
    framework="sklearn",
    dataset=DatasetSpec(load=load, features=13, classes=("one", "two", "three")),
    train=train,
    hyperparameters={"trees": 20},
    server=ServerSpec("SKLEARN_SERVER", deployment="wine-model", graph="wine"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    output_names=("one", "two", "three"),
)
