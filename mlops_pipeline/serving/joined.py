"""Rows of several named inputs: what a dataset, a hold-out set and a request have in common.

A row has an array for each input, in the schema's order: rows are an array of objects [n, inputs].
An input whose rows are single values has arrays of length 1; strings are arrays of objects.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.cells import is_clean
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import BOOL, INT, STRING, CellError, InputColumn, Schema, kind_of
from mlops_pipeline.serving.scores import Array


def join(parts: Sequence[Array]) -> Array:
    """Return rows [n, inputs] from an array [n, …] for each input."""
    rows = np.empty((len(parts[0]), len(parts)), dtype=object)
    for column, part in enumerate(parts):
        for row, values in enumerate(part.reshape(len(part), 1) if part.ndim == 1 else part):
            rows[row, column] = values
    return rows


def separated(schema: Schema, rows: Array) -> dict[str, Array]:
    """Return the array [n, *shape] of each input, by its name."""
    found = {}
    for number, column in enumerate(schema.inputs):
        shape = (len(rows), *column.shape)
        cells = rows[:, number].tolist()
        found[column.name] = np.stack(cells).reshape(shape) if cells else np.empty(shape)
    return found


def of_arrays(schema: Schema, arrays: object, *, where: str) -> Array:
    """Return rows from a mapping of the inputs' names to arrays [n, *shape].

    Raises:
        TypeError: it is not such a mapping, or an array is of another type than its input.
        ValueError: an input is missing or unexpected, an array has another shape, they have
            different numbers of rows, or a value is not allowed; has the row and the input.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{where} is {type(arrays).__name__}; expected a dict of arrays by name")
    if set(arrays) != set(schema.names):
        raise ValueError(
            f"{where} has the inputs {', '.join(map(repr, arrays)) or 'none'}; expected "
            f"{', '.join(map(repr, schema.names))}"
        )
    parts = [_part(column, arrays[column.name], where) for column in schema.inputs]
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(
            f"{len(part)} in {name!r}" for name, part in zip(schema.names, parts, strict=True)
        )
        raise ValueError(f"{where} has different numbers of rows: {counts}")
    try:
        for column, part in zip(schema.inputs, parts, strict=True):
            _check(column, part)
    except RequestError as error:
        raise ValueError(f"{where}, {error.sentence}") from error
    return join(parts)


def _part(column: InputColumn, values: Any, where: str) -> Array:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1 and not column.shape:
        array = array[:, 0]
    if array.shape[1:] != column.shape or not array.ndim:
        shown = ", ".join(["n", *map(str, column.shape)])
        raise ValueError(
            f"{where}, input {column.name!r}: expected shape [{shown}], got {list(array.shape)}"
        )
    kinds = {STRING: "UO", INT: "iu", BOOL: "b"}.get(column.type, "fiu")
    if array.dtype.kind not in kinds:
        raise TypeError(
            f"{where}, input {column.name!r}: expected {column.expected()}, got an array of "
            f"{array.dtype}"
        )
    if column.type == STRING:
        return array.astype(object)
    return array if column.type in (INT, BOOL) or array.dtype.kind == "f" else array.astype(float)


def check(schema: Schema, rows: Array) -> None:
    """Check rows of a request, which have the right shapes.

    Raises:
        RequestError: a value is not allowed; has the row, from 1, and the input.
    """
    for number, column in enumerate(schema.inputs):
        _check(column, np.stack(rows[:, number].tolist()))


def _check(column: InputColumn, values: Array) -> None:
    if column.is_number and is_clean(column, values.reshape(-1)):
        return
    for number, value in enumerate(values.reshape(-1).tolist()):
        try:
            column.read(value)
        except CellError as error:
            row = number // (values.size // len(values)) + 1
            raise RequestError(
                error.reason, f"row {row}, input {column.name!r}: {error}"
            ) from error


def listed(schema: Schema, rows: Array) -> list[dict[str, Any]]:
    """Return rows as JSON has them: `{input: values of the row}` for each."""
    columns = {name: array.tolist() for name, array in separated(schema, rows).items()}
    return [{name: values[n] for name, values in columns.items()} for n in range(len(rows))]


def of_list(schema: Schema, values: object, *, where: str) -> Array:
    """Return the rows that `listed` has written.

    Raises:
        TypeError, ValueError: they are not such rows; see `of_arrays`.
    """
    if type(values) is not list or not values or not all(type(row) is dict for row in values):
        raise ValueError(f"expected a list of objects in {where}, got {kind_of(values)}")
    if any(row.keys() != set(schema.names) for row in values):
        raise ValueError(f"{where}: each row must have {', '.join(map(repr, schema.names))}")
    arrays = {
        column.name: np.array([row[column.name] for row in values]) for column in schema.inputs
    }
    return of_arrays(schema, arrays, where=where)


def guess(schema: Schema) -> Array:
    """Return a row with allowed values, for a model without an example."""
    arrays = {}
    for column in schema.inputs:
        value: Any = "" if column.type == STRING else column.read(column.other(None))
        arrays[column.name] = np.full((1, *column.shape), value)
    return of_arrays(schema, arrays, where="a guessed row")
