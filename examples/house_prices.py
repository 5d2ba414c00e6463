"""House prices: a regression with scikit-learn, on data that are generated with a seed.

Register it with `models = ["examples/house_prices.py"]` in mlops.toml, and run
`mlops-pipeline up house_prices`.
"""

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
from mlops_pipeline.catalog.tasks import Regression
from mlops_pipeline.serving.artifact import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 7
_HOUSES = 2_000
_COLUMNS = ("area", "rooms", "age", "distance", "garden")


def load(file: Path | None) -> Dataset:
    """Load houses and their prices in euros.

    `file` is a CSV with the columns area (m²), rooms, age (years), distance (km to the centre),
    garden (m²) and price; None: 2,000 generated houses.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    if file is None:
        x, price = generate()
    else:
        table = np.genfromtxt(file, delimiter=",", names=True)
        x, price = np.stack([table[name] for name in _COLUMNS], axis=1), table["price"]
    x_train, x_test, y_train, y_test = train_test_split(
        x, price, test_size=0.25, random_state=_SEED
    )
    return Dataset(x_train, y_train, x_test, y_test)


def generate() -> "tuple[NDArray[Any], NDArray[Any]]":
    """Return houses [n, 5] and prices [n]; 8 % of a price is chance."""
    import numpy as np

    random = np.random.default_rng(_SEED)
    area = random.uniform(40, 250, _HOUSES).round()
    rooms = np.clip((area / 28 + random.normal(0, 0.8, _HOUSES)).round(), 1, 9)
    age = random.integers(0, 120, _HOUSES).astype(float)
    distance = random.gamma(2.0, 5.0, _HOUSES).round(1)
    garden = np.where(random.random(_HOUSES) < 0.4, 0.0, random.gamma(2.0, 150.0, _HOUSES)).round()
    price = 2_600 * area * np.exp(-distance / 40) * (1 - age / 300) + 9_000 * rooms + 110 * garden
    price *= random.normal(1, 0.08, _HOUSES)
    return np.stack([area, rooms, age, distance, garden], axis=1), price.round()


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit boosted trees."""
    import joblib
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        n_estimators=int(hyperparameters["trees"]),
        max_depth=int(hyperparameters["depth"]),
        random_state=_SEED,
    )
    model.fit(dataset.x_train, dataset.y_train)
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.predict,
        inputs=(Tensor("house", (-1, 5), "FP64"),),
        outputs=(Tensor("predict", (-1,), "FP64"),),
    )


HOUSE_PRICES = ModelSpec(
    name="house_prices",
    description="Price of a house in euros",
    framework="sklearn",
    task=Regression(),
    dataset=DatasetSpec(
        load=load,
        features=5,
        feature_names=_COLUMNS,
        value_range=(0.0, 10_000.0),
        target_range=(1_000.0, 10_000_000.0),
    ),
    train=train,
    hyperparameters={"trees": 200, "depth": 3},
    server=ServerSpec("SKLEARN_SERVER", deployment="house-prices", graph="house-prices"),
    thresholds=Thresholds(limits={"rmse": 40_000.0, "r2": 0.9}, max_loss=1_000.0, tolerance=1e-9),
    example=(120.0, 4.0, 30.0, 5.5, 200.0),
)
