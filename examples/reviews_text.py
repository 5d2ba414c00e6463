"""Reviews: a text classifier on strings, TF-IDF and a linear model of scikit-learn.

Register it with `models = ["examples/reviews_text.py"]` in mlops.toml, and run
`mlops-pipeline up reviews`.
"""

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
from mlops_pipeline.serving.schema import Schema

_SEED = 7
_REVIEWS = 1_200
_THINGS = ("the screen", "the battery", "delivery", "the sound", "the manual", "support", "it")
_WORDS = {
    "bad": ("broke", "is too slow", "was disappointing", "never worked", "is a waste of money"),
    "good": ("works perfectly", "is excellent", "was a pleasure", "is very fast", "is worth it"),
}
_FILLER = ("I bought two.", "Ordered in May.", "My second one.", "For the office.", "As shown.")


def load(file: Path | None) -> Dataset:
    """Load reviews and whether they are good or bad.

    `file` is a CSV with the columns text and class (`bad` or `good`); None: 1,200 generated
    reviews, of which 6 % have the wrong class.
    """
    from sklearn.model_selection import train_test_split

    texts, classes = generate() if file is None else read(file)
    x_train, x_test, y_train, y_test = train_test_split(
        texts, classes, test_size=0.25, random_state=_SEED, stratify=classes
    )
    return Dataset(x_train, y_train, x_test, y_test)


def read(file: Path) -> tuple[list[str], list[str]]:
    """Return the texts and classes of a CSV file."""
    import csv

    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [row["text"] for row in rows], [row["class"] for row in rows]


def generate() -> tuple[list[str], list[str]]:
    """Return reviews and their classes."""
    import random

    chance = random.Random(_SEED)
    texts, classes = [], []
    for _ in range(_REVIEWS):
        said = chance.choice(sorted(_WORDS))
        parts = [
            f"{chance.choice(_THINGS)} {chance.choice(_WORDS[said])}.".capitalize()
            for _ in range(chance.randint(1, 3))
        ]
        parts.insert(chance.randint(0, len(parts)), chance.choice(_FILLER))
        texts.append(" ".join(parts))
        classes.append(said if chance.random() > 0.06 else chance.choice(sorted(_WORDS)))
    return texts, classes


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit TF-IDF and a logistic regression. `dataset.x_train` is an array of strings."""
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=float(hyperparameters["C"])),
    )
    model.fit(dataset.x_train, dataset.y_train)
    joblib.dump(model, folder / "model.joblib")
    return TrainedModel(
        predict=model.predict_proba,
        inputs=(),  # The schema describes them.
        outputs=(Tensor("predict_proba", (-1, 2), "FP64"),),
    )


REVIEWS = ModelSpec(
    name="reviews",
    description="Whether a review is good or bad",
    framework="sklearn",
    dataset=DatasetSpec(load=load, classes=("bad", "good"), schema=Schema.text("review")),
    train=train,
    hyperparameters={"C": 10.0},
    server=ServerSpec("SKLEARN_SERVER", deployment="reviews", graph="reviews"),
    thresholds=Thresholds(min_accuracy=0.9, tolerance=1e-9),
    output_names=("bad", "good"),
    example=("The battery never worked. For the office.",),
)
