"""XGBoost: is a breast tumour malignant? 30 measurements of its cells.

Needs `pip install 'mlops-pipeline[xgboost]'`. Register it in mlops.toml:

    models = ["examples/tumours_xgboost.py"]
"""

from pathlib import Path

from mlops_pipeline.catalog.saving import save_xgboost
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)

CLASSES = ("malignant", "benign")


def load(_file: Path | None) -> Dataset:
    """Load the breast cancer dataset of scikit-learn: 569 tumours."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit boosted trees; one thread, so that the same data gives the same trees."""
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=int(hyperparameters["trees"]),
        max_depth=int(hyperparameters["depth"]),
        n_jobs=1,
        random_state=1,
    )
    model.fit(dataset.x_train, dataset.y_train)
    return save_xgboost(model, folder)


TUMOURS = ModelSpec(
    name="tumours",
    description="Whether a breast tumour is malignant, from 30 measurements of its cells",
    framework="xgboost",
    dataset=DatasetSpec(load=load, features=30, classes=CLASSES),
    train=train,
    hyperparameters={"trees": 60, "depth": 4},
    server=ServerSpec("XGBOOST_SERVER", deployment="tumours", graph="tumours"),
    thresholds=Thresholds(min_accuracy=0.92, tolerance=1e-6),
    output_names=CLASSES,
)
