"""Data frames of pandas, from cells and to cells. Imported only where a model has a table.

A column of a frame has one type, in training and in serving: float64, int64, bool, object with
`str`, or a Categorical with the categories of the schema. A missing value is NaN, of strings None.
NumPy has no missing integer or boolean: a column of these that is nullable is float64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas

from mlops_pipeline.serving.cells import as_objects, is_clean
from mlops_pipeline.serving.columns import check_names
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import BOOL, CATEGORY, INT, STRING, CellError, Column, Schema
from mlops_pipeline.serving.scores import Array


def frame_maker(schema: Schema) -> Callable[[Array], Any]:
    """Return the function that converts cells [n, columns] to a data frame."""
    makers = [(column.name, _series_maker(column)) for column in schema.columns]

    def make(cells: Array) -> Any:
        columns = {name: of(cells[:, n].tolist()) for n, (name, of) in enumerate(makers)}
        return pandas.DataFrame(columns, copy=False)

    return make


def _series_maker(column: Column) -> Callable[[list[Any]], Any]:
    if column.type == CATEGORY:
        codes = {value: code for code, value in enumerate(column.categories)}
        kind = pandas.CategoricalDtype(list(column.categories))
        codes_of = codes.get
        return lambda values: pandas.Categorical.from_codes(
            [codes_of(value, -1) for value in values], dtype=kind
        )
    if column.type == STRING:
        return lambda values: pandas.Series(as_objects(values), dtype=object)
    if column.type in (INT, BOOL) and not column.nullable:
        dtype: Any = np.int64 if column.type == INT else np.bool_
        return lambda values: np.array(values, dtype=dtype)
    return lambda values: np.array(values, dtype=np.float64)


def cells_of(schema: Schema, frame: Any, *, where: str) -> Array:
    """Return a data frame as cells, with the schema's columns in its order.

    Raises:
        ValueError: it is not a data frame, a column is missing or unexpected, or a value is not
            allowed; has the row and the column.
    """
    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"{where} is {type(frame).__name__}; expected a pandas DataFrame")
    # A column 0 is not the column "0".
    names = [
        one if isinstance(one, str) else f"{type(one).__name__} {one}" for one in frame.columns
    ]
    try:
        check_names(schema.names, names, f"the columns of {where} are not those of the schema")
    except RequestError as error:
        raise ValueError(error.sentence) from error
    cells = np.empty((len(frame), len(schema.columns)), dtype=object)
    for number, column in enumerate(schema.columns):
        cells[:, number] = _read(column, frame[column.name], where)
    return cells


def _read(column: Column, series: Any, where: str) -> Array:
    values = series.to_numpy() if isinstance(series.dtype, np.dtype) else None
    if values is not None and is_clean(column, values):
        return _numbers(column, values)
    found = series.astype(object).to_numpy(dtype=object, copy=True)
    found[series.isna().to_numpy()] = None
    cells: list[object] = []
    try:
        for value in found.tolist():
            cells.append(column.read(_plain(value)))
    except CellError as error:
        label = _plain(series.index[len(cells)])
        row = len(cells) + 1
        place = f"row {row}" + (f" (index {label!r})" if label != row - 1 else "")
        raise ValueError(f"{where}, {place}, column {column.name!r}: {error}") from error
    return as_objects(cells)


def _numbers(column: Column, values: Array) -> Array:
    """Return numbers that fit their column as cells, in its type."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    kind: Any = {INT: np.int64, BOOL: np.bool_}.get(column.type, np.float64)
    found = as_objects(np.where(missing, 0, values).astype(kind).tolist())
    found[missing] = None
    return found


def _plain(value: object) -> object:
    """Return a numpy scalar, which a column of objects may contain, as Python's type."""
    return value.item() if isinstance(value, np.generic) else value
