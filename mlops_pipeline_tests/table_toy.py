"""Models of a table and of strings, small enough to train in no time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    ModelSpec,
    ServerSpec,
    Thresholds,
    trained_elsewhere,
)
from mlops_pipeline.serving.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("size", range=(0, 100), nullable=True),
        Column("city", "category", categories=("Basel", "Bern")),
    )
)
CITIES = ["Basel", "Bern"] * 5
SIZES = [float(number) for number in range(9)] + [None]
Y = [0, 1] * 5
CSV = "city,target,size\n" + "".join(
    f"{city},{('no', 'yes')[y]},{'' if size is None else size}\n"
    for size, city, y in zip(SIZES, CITIES, Y, strict=True)
)
TEXTS = ["good", "bad"] * 5


def _load_table(_: Path | None) -> Dataset:
    import pandas as pd

    frame: Any = pd.DataFrame({"size": SIZES, "city": CITIES})
    return Dataset(frame, np.array(Y), frame, np.array(Y))


def _load_texts(_: Path | None) -> Dataset:
    texts, y = np.array(TEXTS), np.array(Y)
    return Dataset(texts, y, texts, y)


def _spec(name: str, dataset: DatasetSpec) -> ModelSpec:
    return ModelSpec(
        name=name,
        description="Whether a row is of Bern",
        framework="sklearn",
        dataset=dataset,
        train=trained_elsewhere,
        server=ServerSpec("SKLEARN_SERVER", deployment=name, graph=name),
        thresholds=Thresholds(min_accuracy=0.9),
    )


TABLE = _spec("table", DatasetSpec(load=_load_table, classes=("no", "yes"), schema=SCHEMA))
TEXT = _spec("texts", DatasetSpec(load=_load_texts, classes=("no", "yes"), schema=Schema.text()))
REGISTERED: Mapping[str, RegisteredModel] = {
    "table": RegisteredModel(TABLE, f"{__file__}:TABLE"),
    "texts": RegisteredModel(TEXT, f"{__file__}:TEXT"),
}


def write_model(name: str, folder: Path) -> None:
    """Train the model with scikit-learn, and write it to the folder."""
    import joblib
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from mlops_pipeline.catalog import loaded

    spec = REGISTERED[name].spec
    rows: Any = spec.dataset.load(None).x_train
    schema = spec.dataset.schema
    assert schema is not None
    encoder: Any = CountVectorizer()
    if name == "table":
        categories = [list(column.categories) for column in schema.columns if column.categories]
        encoder = make_column_transformer((OneHotEncoder(categories=categories), ["city"]))
    model = make_pipeline(encoder, LogisticRegression(C=100))
    cells = loaded.checked(schema, rows, where="x")
    joblib.dump(model.fit(loaded.given(schema, cells), Y), folder / "model.joblib")
