"""LightGBM: which of three cultivars is a wine made from? 13 measurements.

Needs `pip install 'mlops-pipeline[lightgbm]'`. Register it in mlops.toml:

    models = ["examples/cultivars_lightgbm.py"]
"""

from pathlib import Path

from mlops_pipeline.catalog.saving import save_lightgbm
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)


def load(_file: Path | None) -> Dataset:
    """Load the wine dataset of scikit-learn: 178 wines."""
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit boosted trees; one thread, so that the same data gives the same trees."""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(
        n_estimators=int(hyperparameters["trees"]),
        learning_rate=float(hyperparameters["learning_rate"]),
        min_child_samples=5,
        n_jobs=1,
        random_state=1,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )
    model.fit(dataset.x_train, dataset.y_train)
    return save_lightgbm(model, folder)


CULTIVARS = ModelSpec(
    name="cultivars",
    description="Cultivar of a wine from 13 measurements",
    framework="lightgbm",
    dataset=DatasetSpec(load=load, features=13, classes=("one", "two", "three")),
    train=train,
    hyperparameters={"trees": 40, "learning_rate": 0.1},
    server=ServerSpec("LIGHTGBM_SERVER", deployment="cultivars", graph="cultivars"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    trains_reproducibly=True,
)
