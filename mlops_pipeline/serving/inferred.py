"""The schema of a scikit-learn model that has none: what its own steps tell about its columns.

A model without a manifest may read strings: a text by TF-IDF, or columns of a data frame by an
encoder whose categories are strings. All other columns count as numbers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.schema import FLOAT, STRING, Column, Schema

_TEXT_MODULE = "sklearn.feature_extraction.text"


def schema_of(estimator: object) -> Schema | None:
    """Return the schema of a model that reads strings; None if it reads only numbers."""
    first = _first(estimator)
    if _is_text(first):
        return Schema.text() if getattr(first, "input", None) == "content" else None
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    strings = set(_string_columns(first, names))
    if not strings:
        return None
    kinds = {name: STRING if name in strings else FLOAT for name in names}
    return Schema(tuple(Column(name, kind, nullable=True) for name, kind in kinds.items()))


def _first(estimator: Any) -> Any:
    """Return the first step of a pipeline, which may begin with another one."""
    while steps := getattr(estimator, "steps", None):
        estimator = steps[0][1]
    return estimator


def _is_text(part: object) -> bool:
    return type(part).__module__ == _TEXT_MODULE


def _string_columns(first: Any, names: Sequence[str]) -> Iterator[str]:
    """Yield the columns that an encoder of strings or a text step reads."""
    if not names:
        return
    for _, part, columns in getattr(first, "transformers_", ()):
        of_part = _named(columns, names)
        if _is_text(_first(part)):
            yield from of_part
        for step in _steps(part):
            yield from _encoded(step, of_part)
    yield from _encoded(first, names)


def _steps(part: Any) -> list[Any]:
    """Return the steps of a pipeline, or its only one."""
    return [step for _, step in getattr(part, "steps", [("", part)])]


def _encoded(encoder: Any, names: Sequence[str]) -> list[str]:
    """Return the columns whose categories are strings."""
    categories = getattr(encoder, "categories_", ())
    if len(categories) != len(names):
        return []
    return [
        name
        for name, known in zip(names, categories, strict=True)
        if any(isinstance(value, str) for value in np.asarray(known).tolist())
    ]


def _named(columns: Any, names: Sequence[str]) -> list[str]:
    """Return the names of a transformer's columns: names, numbers, a slice or booleans."""
    if isinstance(columns, str):
        return [columns]
    chosen = list(columns) if not isinstance(columns, slice) else columns
    if isinstance(chosen, list) and all(isinstance(one, str) for one in chosen):
        return chosen
    return list(np.array(names, dtype=object)[chosen])
