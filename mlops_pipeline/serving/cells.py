"""Rows of cells: arrays of Python objects, [n, columns] of a table, [n] of a text.

They are what a request, a dataset and a hold-out set have in common. In a file of NumPy, each
column is an array of its own, so that nothing is pickled.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import (
    BOOL,
    CATEGORY,
    FLOAT,
    INPUTS,
    INT,
    TABLE,
    TEXT,
    CellError,
    Column,
    Limits,
    Schema,
    kind_of,
    limits_of,
)
from mlops_pipeline.serving.scores import Array

_ROWS = "rows"
_TYPES: Mapping[type, type] = {bool: np.bool_, int: np.int64, float: np.float64}


def read_cells(values: object, *, where: str) -> Array:
    """Return a list of rows, or of single values, as an array of objects [n, columns] or [n].

    Raises:
        RequestError: it is not a list, or a row of it has another length or lists in it.
    """
    if type(values) is not list:
        raise RequestError(
            "WRONG_TYPE", f"expected a list of rows in {where}, got {kind_of(values)}"
        )
    kinds = set(map(type, values))
    if list not in kinds:
        return as_objects(values)
    width = len(next(row for row in values if type(row) is list))
    cells = np.empty((len(values), width), dtype=object)
    for number, row in enumerate(values, 1):
        if type(row) is not list:
            raise RequestError("RAGGED", f"{where}, row {number} is {kind_of(row)}, not a list")
        if len(row) != width:
            raise RequestError(
                "RAGGED", f"{where}, row {number} has {len(row)} values, but row 1 has {width}"
            )
        if list in set(map(type, row)):
            raise RequestError("WRONG_TYPE", f"{where}, row {number} contains a list")
        cells[number - 1] = row
    return cells


def describe_loss(column: Column, dtype: np.dtype[Any]) -> str | None:
    """Say why a model's input of this type cannot represent a column's values, None if it can."""
    is_text = dtype.kind == "O"
    if column.is_text != is_text:
        return f"but the column is a {column.type} in the schema"
    if is_text:
        return None
    if column.nullable and dtype.kind != "f":
        return "which has no missing value, but the column is nullable"
    if column.type == FLOAT and dtype.kind != "f":
        return "which has no fractions, but the column is a float in the schema"
    if column.type != BOOL and dtype.kind == "b":
        return f"which is true or false, but the column is a {column.type} in the schema"
    return None


def typed(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Return cells of a column as a model's input of that type, [n].

    A missing string (None, or NaN as in pandas) is empty, a missing number NaN.

    Raises:
        TypeError: a number is missing, and the type has no NaN.
    """
    if dtype.kind != "O":
        return np.array(values, dtype=dtype)
    # NaN differs from itself.
    return as_objects(["" if cell is None or cell != cell else str(cell) for cell in values])


def as_objects(values: Sequence[object]) -> Array:
    """Return values as an array of objects [n]; the values may be lists themselves."""
    array = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        array[number] = value
    return array


def conform_cells(schema: Schema, values: Array) -> Array:
    """Return rows as cells of the schema, [n, columns]; [n] of a text.

    Raises:
        RequestError: the batch is empty or has another shape, or a value is not allowed; has the
            row, from 1, and the column.
    """
    if values.dtype.kind != "O":
        values = values.astype(object)
    if schema.form == TEXT and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if not values.shape[:1] or not values.shape[0]:
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    if values.shape[1:] != schema.row_shape:
        raise RequestError("WRONG_SHAPE", _describe_shape(schema, values.shape))
    if schema.form == TEXT:
        return as_objects(_read_column(schema.columns[0], values.tolist()))
    cells = np.empty(values.shape, dtype=object)
    for number, column in enumerate(schema.columns):
        cells[:, number] = _read_column(column, values[:, number].tolist())
    return cells


def numbers_of(schema: Schema, values: Array) -> Array:
    """Return rows of numbers and booleans as an array of numbers; a missing value is NaN.

    Raises:
        RequestError: as `conform_cells`.
    """
    return conform_cells(schema, values).astype(np.float64)  # numpy makes None NaN.


def _describe_shape(schema: Schema, shape: tuple[int, ...]) -> str:
    if schema.form == TEXT:
        return f"expected strings of shape [n] or [n, 1], got {list(shape)}"
    names = ", ".join(map(repr, schema.names))
    return (
        f"expected rows with {len(schema.columns)} values, one for each column ({names}), got the "
        f"shape {list(shape)}"
    )


def _read_column(column: Column, values: Sequence[object]) -> list[object]:
    read = column.read
    found: list[object] = []
    try:
        for value in values:
            found.append(read(value))
    except CellError as error:
        raise RequestError(
            error.reason, f"row {len(found) + 1}, column {column.name!r}: {error}"
        ) from error
    return found


def check_array(schema: Schema, rows: Array) -> None:
    """Check an array of numbers [n, columns]; NaN is a missing value.

    Raises:
        RequestError: a value is missing, out of range or not whole; has the row and the column.
    """
    if rows.shape[1:] != schema.row_shape:
        raise RequestError("WRONG_SHAPE", _describe_shape(schema, rows.shape))
    if _fits(schema.limits, rows):
        return
    for number, column in enumerate(schema.columns):
        if not is_clean(column, rows[:, number]):
            _read_column(column, rows[:, number].tolist())


def is_clean(column: Column, values: Array) -> bool:
    """Say quickly whether numbers certainly fit their column; False: they must be read one by one.

    A False may be wrong, a True is not.
    """
    return column.is_number and _fits(limits_of((column,)), values.reshape(-1, 1))


def _fits(limits: Limits, values: Array) -> bool:
    """Say whether numbers [n, columns] certainly fit their columns; see `is_clean`."""
    kind = values.dtype.kind
    if kind not in "fiub" or not values.size:
        return False
    if kind == "b":
        return bool(limits.is_boolean.all())
    least, most = limits.least, limits.most
    if kind == "f":
        # In the type of the values: a limit of 0.1 is a little more in 32 bits.
        ends = np.finfo(values.dtype)
        least, most = (np.clip(x, ends.min, ends.max).astype(values.dtype) for x in (least, most))
    inside = (least <= values) & (values <= most)
    if not inside.all() and not (inside | (np.isnan(values) & limits.is_nullable)).all():
        return False
    if kind != "f" or not limits.is_whole.any():
        return True
    whole = values[:, limits.is_whole]
    return bool(((whole == np.floor(whole)) | np.isnan(whole)).all())


def guess(schema: Schema) -> Array:
    """Return a row that the schema allows: [1, columns], [1] of a text."""
    return another_row(schema, np.zeros((1, *schema.row_shape), dtype=object))


def another_row(schema: Schema, cells: Array) -> Array:
    """Return a row that differs from the first one in every column, if its type has two values."""
    row = cells[:1].copy()
    if schema.form == TEXT:
        row[0] = schema.columns[0].other(row[0])
    else:
        row[0] = [c.other(v) for c, v in zip(schema.columns, row[0].tolist(), strict=True)]
    return row


def tensors_of(schema: Schema) -> tuple[Tensor, ...]:
    """Return the tensors of V2's metadata: one for each column; of an array, one for all."""
    if schema.form == TEXT:
        return (Tensor(schema.columns[0].name, (-1,), "BYTES"),)
    if schema.form == INPUTS:
        return tuple(Tensor(one.name, (-1, *one.shape), datatype(one)) for one in schema.inputs)
    if schema.form == TABLE:
        return tuple(Tensor(column.name, (-1, 1), datatype(column)) for column in schema.columns)
    return (Tensor("predict", (-1, len(schema.columns)), "FP64"),)


def datatype(column: Column) -> str:
    """Return V2's datatype of a column."""
    is_integer = column.type == CATEGORY and type(column.categories[0]) is int
    if is_integer and not column.nullable:
        return "INT64"
    # An integer or boolean cannot be missing in a binary tensor, but a float can: NaN.
    types = {FLOAT: "FP64", INT: "INT64", BOOL: "BOOL"}
    if column.nullable and (column.is_number or is_integer):
        return "FP64"
    return types.get(column.type, "BYTES")


# Files


def pack(name: str, rows: Array) -> dict[str, Array]:
    """Return the arrays of an .npz file for rows of numbers, or of cells: one for each column."""
    if rows.dtype.kind != "O":
        return {name: rows}
    packed: dict[str, Array] = {f"{name}.shape": np.array(rows.shape, dtype=np.int64)}
    width = int(np.prod(rows.shape[1:], dtype=np.int64))
    for number, column in enumerate(rows.reshape(len(rows), width).T):
        for kind, array in _packed(column.tolist()):
            packed[f"{name}.{number}.{kind}"] = array
    return packed


def unpack(name: str, arrays: Mapping[str, Array]) -> Array:
    """Return the rows that `pack` has packed.

    Raises:
        KeyError: there are none of that name.
    """
    if name in arrays:
        return arrays[name]
    shape = tuple(arrays[f"{name}.shape"].tolist())
    cells = np.empty((shape[0], int(np.prod(shape[1:], dtype=np.int64))), dtype=object)
    for number in range(cells.shape[1]):
        cells[:, number] = _unpacked(f"{name}.{number}", arrays)
    return cells.reshape(shape)


def save(path: Path, rows: Array) -> None:
    """Write rows of numbers as .npy, rows of cells as .npz, whatever the name of the file."""
    with path.open("wb") as file:
        if rows.dtype.kind == "O":
            np.savez(file, **pack(_ROWS, rows))  # type: ignore[arg-type]
        else:
            np.save(file, rows)


def load(path: Path) -> Array:
    """Return the rows that `save` has written.

    Raises:
        OSError, ValueError, EOFError: the file is missing, damaged or something else.
    """
    try:
        with path.open("rb") as file:
            found: Any = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else unpack(_ROWS, found)
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it does not contain rows: {error}") from error


def _packed(values: list[Any]) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of one column: numbers, or UTF-8 text and where each string ends in it."""
    if values and isinstance(values[0], np.ndarray):
        yield from _packed_arrays(values)
        return
    missing = np.array([value is None for value in values], dtype=bool)
    if missing.any():
        yield "missing", missing
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {str} and kinds:
        texts = [(value or "").encode() for value in values]
        yield "text", np.frombuffer(b"".join(texts), dtype=np.uint8)
        yield "ends", np.cumsum([len(text) for text in texts], dtype=np.int64)
        return
    dtype = _TYPES[next(iter(kinds))] if len(kinds) == 1 else np.float64
    yield "numbers", np.array([value or 0 for value in values], dtype=dtype)


def _packed_arrays(values: list[Any]) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of one of several inputs: numbers [n, …], or a string for each row."""
    if values[0].dtype.kind != "O":
        yield "arrays", np.stack(values)
        return
    yield "is_in_arrays", np.array(True)
    yield from _packed([value[0] for value in values])


def _unpacked(name: str, arrays: Mapping[str, Array]) -> Array:
    if f"{name}.arrays" in arrays:
        return as_objects(list(arrays[f"{name}.arrays"]))
    if f"{name}.text" in arrays:
        content, ends = arrays[f"{name}.text"].tobytes(), arrays[f"{name}.ends"].tolist()
        starts = [0, *ends[:-1]]
        cells = as_objects([content[a:b].decode() for a, b in zip(starts, ends, strict=True)])
    else:
        cells = as_objects(arrays[f"{name}.numbers"].tolist())
    if f"{name}.missing" in arrays:
        cells[arrays[f"{name}.missing"]] = None
    if f"{name}.is_in_arrays" in arrays:
        return as_objects([np.array([value], dtype=object) for value in cells.tolist()])
    return cells
