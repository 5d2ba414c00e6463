"""Iris: three species of flowers told apart by four lengths, with scikit-learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.clients import tables
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.serving.artifact import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SEED = 7
_HELD_OUT = 0.3
_COLUMNS = ("sepallength", "sepalwidth", "petallength", "petalwidth", "class")
_CLASSES = ("setosa", "versicolor", "virginica")


def load(file: Path | None) -> Dataset:
    """Load Iris: sepal and petal length and width in cm.

    `file` is a CSV of these four columns and the class, by its number or its name. With a header,
    columns are found by name, in any order. None: scikit-learn's dataset.

    Raises:
        ConfigurationError: the file cannot be read, or is no such table; says where.
    """
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    if file is None:
        x, y = load_iris(return_X_y=True)
    else:
        x, y = _read(file)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=_HELD_OUT, stratify=y, random_state=_SEED
    )
    return Dataset(x_train, y_train, x_test, y_test)


def _read(file: Path) -> "tuple[NDArray[np.float64], NDArray[np.int64]]":
    import numpy as np

    table = tables.parse(tables.decode(tables.read_bytes(file), file), file)
    if not table.rows:
        raise ConfigurationError(f"{file} contains no rows")
    order = _order(table.names, file) if table.names else range(len(_COLUMNS))
    lengths, classes = [], []
    for line, cells in table.rows:
        try:
            *row, name = (cells[place] for place in order)
            lengths.append([float(cell) for cell in row])
            classes.append(_class_number(name))
        except (IndexError, ValueError) as error:
            raise ConfigurationError(
                f"{file}, line {line}: expected 4 lengths and a class, got {','.join(cells)!r}"
            ) from error
    return np.array(lengths), np.array(classes)


def _order(names: Sequence[str], file: Path) -> list[int]:
    """Return the position of each of `_COLUMNS` in a header."""
    plain = ["".join(filter(str.isalpha, name.lower())).removesuffix("cm") for name in names]
    other = dict.fromkeys(("species", "target", "variety"), "class")
    plain = [other.get(name, name) for name in plain]
    if missing := [name for name in _COLUMNS if name not in plain]:
        raise ConfigurationError(
            f"{file} lacks the columns {', '.join(missing)} (it has {', '.join(names)})"
        )
    return [plain.index(name) for name in _COLUMNS]


def _class_number(text: str) -> int:
    name = text.lower().removeprefix("iris-")
    number = _CLASSES.index(name) if name in _CLASSES else float(text)
    if number not in range(len(_CLASSES)):
        raise ValueError(f"{text} is not a class")
    return int(number)


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
        classes=_CLASSES,
        value_range=(0.0, 10.0),
        feature_names=("sepal length cm", "sepal width cm", "petal length cm", "petal width cm"),
    ),
    train=train,
    hyperparameters={"C": 1.0, "max_iter": 200},
    server=ServerSpec(implementation="SKLEARN_SERVER", deployment="iris-model", graph="classifier"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    example=(5.964, 4.006, 2.081, 1.031),
)
