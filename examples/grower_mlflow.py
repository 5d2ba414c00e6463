"""An MLflow folder, as MLflow itself writes it: which grower made a wine?

Needs `pip install 'mlops-pipeline[mlflow]'`. Register it in mlops.toml:

    models = ["examples/grower_mlflow.py"]

For a model that was logged elsewhere, `train` is only the last line, with its folder as source.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from mlops_pipeline.catalog.saving import save_mlflow
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
    """Load the wine dataset of scikit-learn: 178 wines of three growers."""
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a regression, let MLflow write it, and save what it wrote."""
    import mlflow.sklearn
    from mlflow.models import Model
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=float(hyperparameters["C"])))
    model.fit(dataset.x_train, dataset.y_train)
    with TemporaryDirectory() as scratch:
        source = Path(scratch) / "model"
        # Without requirements, MLflow starts a process that finds them. The rest gives the same
        # artifact for the same data: skops, MLflow's default format, writes times.
        mlflow.sklearn.save_model(
            model,
            source,
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
            mlflow_model=Model(model_uuid="grower", utc_time_created="2026-01-01 00:00:00"),
        )
        return save_mlflow(source, folder, rows=dataset.x_test[:1], method="predict_proba")


GROWER = ModelSpec(
    name="grower",
    description="Grower of a wine from 13 measurements: an MLflow model",
    framework="mlflow",
    dataset=DatasetSpec(load=load, features=13, classes=("one", "two", "three")),
    train=train,
    hyperparameters={"C": 1.0},
    server=ServerSpec("MLFLOW_SERVER", deployment="grower", graph="grower"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
)
