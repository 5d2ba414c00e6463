"""A custom class, as Seldon's Python wrapper calls it: which species is the nearest?

The class is in components/NearestCentre.py. Register the model in mlops.toml:

    models = ["examples/nearest_centre.py"]
"""

from pathlib import Path

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

COMPONENT = Path(__file__).parent / "components" / "NearestCentre.py"


def load(_file: Path | None) -> Dataset:
    """Load the iris dataset of scikit-learn: 150 flowers of three species."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    x, y = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Compute the centre of each species, write it, and save the class that reads it."""
    import numpy as np

    x, y = dataset.x_train, dataset.y_train
    centres = np.array([x[y == species].mean(axis=0) for species in range(3)])
    whitening = np.linalg.cholesky(np.linalg.inv(np.cov((x - centres[y]).T)))
    np.savez(folder / "centres.npz", centres=centres, whitening=whitening)
    sharpness = float(hyperparameters["sharpness"])
    return save_python(
        COMPONENT, folder, rows=dataset.x_test[:1], parameters={"sharpness": sharpness}
    )


NEAREST_CENTRE = ModelSpec(
    name="nearest_centre",
    description="Species of an iris by the nearest centre: a custom class",
    framework="python",
    dataset=DatasetSpec(load=load, features=4, classes=("setosa", "versicolor", "virginica")),
    train=train,
    sources=(COMPONENT,),
    hyperparameters={"sharpness": 2.0},
    server=ServerSpec("PYTHON_SERVER", deployment="nearest-centre", graph="nearest-centre"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
)
