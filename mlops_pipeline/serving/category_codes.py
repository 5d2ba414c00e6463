"""Tables for boosted trees: cells as the numbers that XGBoost and LightGBM make of a frame.

Both convert a data frame in the same way: a category becomes its place among the categories that
the model was trained with, a missing value NaN. The server does that without pandas.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.schema import CATEGORY, STRING, Column, Schema, shown_some
from mlops_pipeline.serving.scores import Array

Categories = Sequence[str | int]


def model_order(schema: Schema, names: Sequence[str], *, file: Path) -> tuple[Column, ...]:
    """Return the columns of a schema in the order of the model, whose columns have these `names`.

    A model without names was trained on the columns in the schema's order.

    Raises:
        StartError: the model has other columns, or the schema has columns of strings, which no
            such model takes.
    """
    texts = [repr(column.name) for column in schema.columns if column.type == STRING]
    if texts:
        raise _unfit(file, f"the schema's column {texts[0]} is a string; make it a category")
    if not names:
        return schema.columns
    known = {column.name: column for column in schema.columns}
    if known.keys() != set(names):  # LightGBM's file has no spaces.
        known = {name.replace(" ", "_"): column for name, column in known.items()}
        names = [name.replace(" ", "_") for name in names]
    if known.keys() != set(names) or not len(known) == len(names) == len(schema.columns):
        raise _unfit(
            file,
            f"it knows its columns as {shown_some(names)}, but the schema is for "
            f"{shown_some(schema.names)}",
        )
    return tuple(known[name] for name in names)


def encoder(
    schema: Schema,
    order: Sequence[Column],
    categories: Sequence[Categories | None],
    *,
    dtype: type[np.floating[Any]],
    file: Path,
) -> Callable[[Array], Array]:
    """Return the function that converts cells [n, columns] of the schema to numbers of `dtype`.

    `order` are the columns in the model's order; `categories` are for each of them those that the
    model was trained with, None if it is a number there.

    Raises:
        StartError: a column is a category only here or only in the model, or the schema allows a
            value that the model has not seen.
    """
    parts = []
    for column, seen in zip(order, categories, strict=True):
        _check(column, seen, file)
        codes = None if seen is None else {value: code for code, value in enumerate(seen)}
        parts.append((schema.names.index(column.name), codes))

    def encode(cells: Array) -> Array:
        rows = np.empty((len(cells), len(parts)), dtype=dtype)
        for number, (place, codes) in enumerate(parts):
            values = cells[:, place].tolist()
            # None, a missing value, becomes NaN.
            given = values if codes is None else [codes.get(value) for value in values]
            rows[:, number] = np.array(given, dtype=dtype)
        return rows

    return encode


def _check(column: Column, seen: Categories | None, file: Path) -> None:
    if (column.type == CATEGORY) != (seen is not None):
        here, there = ("a category", "a number") if seen is None else ("a number", "a category")
        raise _unfit(
            file, f"the column {column.name!r} is {here} in the schema, but {there} in the model"
        )
    known = frozenset(seen or ())
    if new := [repr(value) for value in column.categories if value not in known]:
        raise _unfit(
            file,
            f"the schema allows {shown_some(new)} in the column {column.name!r}, but the model was "
            f"trained with {shown_some([repr(value) for value in seen or ()])}",
        )


def _unfit(file: Path, problem: str) -> StartError:
    return StartError(
        f"{file} does not fit its schema: {problem}. Train it on the data frame that the training "
        "function gets, or correct the schema.",
        code=ExitCode.MODEL,
    )
