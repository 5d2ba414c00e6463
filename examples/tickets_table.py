"""Tickets: a table with categories and missing values, prepared and classified by scikit-learn.

Register it with `models = ["examples/tickets_table.py"]` in mlops.toml, and run
`mlops-pipeline up tickets`.
"""

from pathlib import Path
from typing import Any

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
from mlops_pipeline.serving.schema import Column, Schema

_SEED = 7
_TICKETS = 2_000
_CHANNELS = ("mail", "phone", "web")
_PLANS = ("free", "team", "enterprise")
SCHEMA = Schema(
    (
        Column("age_hours", range=(0, 2_000)),
        Column("messages", "int", range=(0, 500)),
        Column("channel", "category", categories=_CHANNELS),
        Column("plan", "category", categories=_PLANS, nullable=True),
        Column("rating", range=(1, 5), nullable=True),
        Column("is_weekend", "bool"),
        Column("country", "string"),
    )
)


def load(file: Path | None) -> Dataset:
    """Load support tickets and whether they were escalated.

    `file` is a CSV with the columns of `SCHEMA` and `escalated` (0 or 1), in which an empty field
    is a missing value; None: 2,000 generated tickets.
    """
    import pandas as pd
    from sklearn.model_selection import train_test_split

    tickets = generate() if file is None else pd.read_csv(file)
    escalated = tickets.pop("escalated")
    x_train, x_test, y_train, y_test = train_test_split(
        tickets, escalated, test_size=0.25, random_state=_SEED, stratify=escalated
    )
    return Dataset(x_train, y_train, x_test, y_test)


def generate() -> Any:
    """Return a data frame of tickets; 15 % of the plans and 40 % of the ratings are missing."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(_SEED)
    age = random.gamma(1.5, 30.0, _TICKETS).clip(0, 2_000).round(1)
    messages = random.poisson(1 + age / 25)
    channel = random.choice(_CHANNELS, _TICKETS, p=(0.5, 0.2, 0.3))
    plan = random.choice(_PLANS, _TICKETS, p=(0.5, 0.35, 0.15)).astype(object)
    rating = random.integers(1, 6, _TICKETS).astype(float)
    weekend = random.random(_TICKETS) < 2 / 7
    country = random.choice(("AT", "CH", "DE", "FR", "IT"), _TICKETS)
    odds = 0.05 * age + 0.5 * messages - 1.2 * rating + 2 * (channel == "phone") + weekend - 1
    odds += np.where(plan == "enterprise", 2.5, 0)
    escalated = (random.logistic(odds * 1.5, 1.0) > 0).astype(int)
    plan[random.random(_TICKETS) < 0.15] = None
    rating[random.random(_TICKETS) < 0.4] = np.nan
    return pd.DataFrame(
        {
            "age_hours": age,
            "messages": messages,
            "channel": channel,
            "plan": plan,
            "rating": rating,
            "is_weekend": weekend,
            "country": country,
            "escalated": escalated,
        }
    )


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Encode the columns and fit boosted trees. `dataset.x_train` is a data frame."""
    import joblib
    import numpy as np
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    # All categories of the schema, also those that no training row has. A plan may be missing.
    known = [list(_CHANNELS), [*_PLANS, np.nan]]
    encode = make_column_transformer(
        (OneHotEncoder(categories=known, sparse_output=False), ["channel", "plan"]),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["country"]),
        remainder="passthrough",  # Boosted trees accept missing numbers.
    )
    model = make_pipeline(
        encode,
        HistGradientBoostingClassifier(
            max_iter=int(hyperparameters["trees"]), random_state=_SEED, early_stopping=False
        ),
    )
    model.fit(dataset.x_train, dataset.y_train)
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.predict_proba,
        inputs=(),  # The schema describes them.
        outputs=(Tensor("predict_proba", (-1, 2), "FP64"),),
    )


TICKETS = ModelSpec(
    name="tickets",
    description="Whether a support ticket will be escalated",
    framework="sklearn",
    dataset=DatasetSpec(load=load, classes=("closed", "escalated"), schema=SCHEMA),
    train=train,
    hyperparameters={"trees": 60},
    server=ServerSpec("SKLEARN_SERVER", deployment="tickets", graph="tickets"),
    thresholds=Thresholds(min_accuracy=0.8, max_p99_ms=500.0, tolerance=1e-9),
    output_names=("closed", "escalated"),
    example=(30.5, 3, "phone", None, 2.0, True, "CH"),
)
