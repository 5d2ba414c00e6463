"""Rows of numbers as people have them: typed, or in a file of CSV, JSON or NumPy."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_pipeline.clients import tables
from mlops_pipeline.clients.errors import ConfigurationError

_NUMPY = b"\x93NUMPY"
_ARCHIVE = b"PK\x03\x04"
_LONGEST_SHOWN = 80
"""Characters of a wrong value that a message repeats."""
_MOST_NAMES = 10
"""Names of columns that a message lists."""
BODIES = "a list of rows, or a Seldon (data), V2 (inputs) or TF Serving (instances) request"


@dataclass(frozen=True)
class Rows:
    """Rows, all of one length, and where each stands."""

    values: tuple[tuple[Any, ...], ...]
    """Numbers; of a model with a schema, cells."""
    places: tuple[str, ...]
    """Of each row, for messages: `flowers.csv, line 3`."""
    names: tuple[str, ...] = ()
    """Of the columns, where a header or a request names them."""


def typed(words: Sequence[str]) -> Rows:
    """Return the rows of the command line, `5.1,3.5,1.4,0.2` each.

    Raises:
        ConfigurationError: a value is no finite number; says which.
    """
    places = tuple(f"--row {number}" for number in range(1, len(words) + 1))
    values = (
        tuple(_number(cell, f"{place}, value {n}") for n, cell in enumerate(word.split(","), 1))
        for word, place in zip(words, places, strict=True)
    )
    return Rows(tuple(values), places)


def read(file: Path) -> Rows:
    """Return the rows of a file, whose kind is found in its content.

    Raises:
        ConfigurationError: it cannot be read or holds no rows of numbers; says where.
    """
    content = tables.read_bytes(file)
    try:
        rows = _rows(content, file)
    except RecursionError as error:
        raise ConfigurationError(f"{file} is nested too deeply; expected {BODIES}") from error
    if not rows.values:
        raise ConfigurationError(f"{file} contains no rows")
    return rows


def _rows(content: bytes, file: Path) -> Rows:
    if is_numpy(content, file):
        return _nested(read_array(file), str(file))
    text = tables.decode(content, file, expected="CSV, JSON or .npy")
    if text.lstrip().startswith(("{", "[")):
        return _body(parsed(text, file), str(file))
    return _table(text, file)


def is_numpy(content: bytes, file: Path) -> bool:
    """Say whether a file is a .npy.

    Raises:
        ConfigurationError: it is an archive of several.
    """
    if content.startswith(_ARCHIVE):
        raise ConfigurationError(f"{file} is an archive (.npz); save its array as .npy")
    return content.startswith(_NUMPY)


def read_array(file: Path) -> Any:
    """Return the values of a .npy file as nested lists; booleans as 1 and 0.

    Raises:
        ConfigurationError: it is an archive, damaged, or has objects.
    """
    import numpy as np

    try:
        values = np.load(file, allow_pickle=False)
        return (values.astype(np.uint8) if values.dtype == np.bool_ else values).tolist()
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ConfigurationError(
            f"{file} is not a complete .npy file of numbers: {error}"
        ) from error


def parsed(text: str, file: Path) -> Any:
    """Return the JSON in the text of a file.

    Raises:
        ConfigurationError: it is not JSON; says where.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{file}, line {error.lineno}, column {error.colno}: invalid JSON ({error.msg}); "
            "check whether the file is complete"
        ) from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits.
        raise ConfigurationError(
            f"{file} contains a number with too many digits: {error}"
        ) from error


def _body(content: Any, where: str) -> Rows:
    """Return the rows of a request, or of a plain list."""
    if not isinstance(content, Mapping):
        return _listed(content, where)
    given = only_one(content, ("data", "jsonData", "instances", "inputs"), where)
    inner = content.get(given)
    if given == "jsonData":
        return _body(inner, f"{where}, jsonData")
    if given == "instances":
        return _listed(inner, f"{where}, instances")
    if given == "inputs":
        return _inputs(inner, f"{where}, inputs")
    if isinstance(inner, Mapping) and (
        kind := only_one(inner, ("ndarray", "tensor", "tftensor"), f"{where}, data")
    ) in ("ndarray", "tensor"):
        values = inner["ndarray"] if kind == "ndarray" else shaped(inner[kind], where, "values")
        found = _nested(values, f"{where}, data")
        return replace(found, names=_names(inner.get("names"), where))
    keys = ", ".join(map(str, content)) or "nothing"
    raise ConfigurationError(f"{where} has {keys}; expected {BODIES}")


def only_one(content: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
    """Return the one of these keys that has a value, empty if none has. A server refuses several.

    Raises:
        ConfigurationError: several have a value.
    """
    given = [key for key in keys if content.get(key) is not None]
    if len(given) > 1:
        raise ConfigurationError(f"{where} has {' and '.join(given)}; keep one of them")
    return given[0] if given else ""


def _inputs(inputs: Any, where: str) -> Rows:
    """Return the rows of V2's tensors, or of TF Serving's columns."""
    if isinstance(inputs, list) and _is_v2(inputs):
        return _columns(inputs, where)
    only = isinstance(inputs, Mapping) and len(inputs) == 1
    return _nested(next(iter(inputs.values())) if only else inputs, where)


def _names(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list | None):
        raise ConfigurationError(f"{where}, data: names is {shown(given)}; expected a list")
    return tuple(str(name) for name in given or ())


def _is_v2(inputs: Sequence[object]) -> bool:
    return bool(inputs) and all(isinstance(t, Mapping) and "data" in t for t in inputs)


def _columns(inputs: Sequence[Mapping[str, Any]], where: str) -> Rows:
    """Return the rows of V2's one tensor, or of a tensor for each column."""
    tensors = [shaped(t, f"{where}, {t.get('name', n)}", "data") for n, t in enumerate(inputs)]
    if len(tensors) == 1:
        return _nested(tensors[0], where)
    columns = [[value for row in _nested(t, where).values for value in row] for t in tensors]
    if len({len(column) for column in columns}) > 1:
        raise ConfigurationError(f"{where}: the columns have different lengths")
    found = _nested([list(row) for row in zip(*columns, strict=True)], where)
    names = tuple(str(tensor.get("name", "")) for tensor in inputs)
    return Rows(found.values, found.places, names if all(names) else ())


def shaped(tensor: Any, where: str, field: str) -> Any:
    """Return flat values as rows of the tensor's shape; nested ones as they are.

    Raises:
        ConfigurationError: it lacks one of both, or they do not match.
    """
    values, shape = (
        (tensor.get(field), tensor.get("shape")) if isinstance(tensor, Mapping) else 2 * (None,)
    )
    if not isinstance(values, list) or not isinstance(shape, list) or not shape:
        raise ConfigurationError(f"{where}: a tensor requires `shape` and `{field}`")
    if values and isinstance(values[0], list):
        return values
    if not all(isinstance(n, int) and n > 0 for n in shape) or len(values) != math.prod(shape):
        raise ConfigurationError(
            f"{where}: {len(values)} values do not match the shape {shown(shape)}"
        )
    width = len(values) // shape[0]
    return [values[start : start + width] for start in range(0, len(values), width)]


def _listed(values: Any, where: str) -> Rows:
    """Return the rows of a list, which may be objects: named rows, or a number for each column.

    TF Serving has rows with the name of their input, `{"images": [...]}`, and pandas writes
    `{"sepal_length": 5.1, ...}` with `orient="records"`.
    """
    if not isinstance(values, list) or not any(isinstance(row, Mapping) for row in values):
        return _nested(values, where)
    names = tuple(map(str, values[0])) if isinstance(values[0], Mapping) else ()
    for number, row in enumerate(values, 1):
        if not (isinstance(row, Mapping) and names and set(row) == set(names)):
            raise ConfigurationError(
                f"{where}, row {number} is {shown(row)}; expected an object with "
                f"{some(names) or 'names'}, like all rows of the list"
            )
    rows = [[row[name] for name in names] for row in values]
    lists = {isinstance(value, list) for row in rows for value in row}
    if lists == {False}:
        return replace(_nested(rows, where), names=names)
    if lists == {True} and len(names) == 1:
        return _nested([row for (row,) in rows], where)
    raise ConfigurationError(
        f"{where} has objects with {some(names)}, where lists and numbers are "
        "mixed; expected one list in each object, or only numbers"
    )


def _nested(values: Any, where: str) -> Rows:
    """Return rows of nested lists; a flat list is one row, what is deeper is laid flat."""
    if not isinstance(values, list):
        raise ConfigurationError(f"{where} is {type(values).__name__}; expected {BODIES}")
    rows = values if not values or isinstance(values[0], list) else [values]
    places = tuple(f"{where}, row {number}" for number in range(1, len(rows) + 1))
    return Rows(
        tuple(tuple(_flat(row, place)) for row, place in zip(rows, places, strict=True)), places
    )


def _flat(row: Any, place: str) -> Iterator[float]:
    if not isinstance(row, list):
        raise ConfigurationError(f"{place} is {shown(row)}; expected a list of numbers")
    for number, value in enumerate(row, 1):
        if isinstance(value, list):
            yield from _flat(value, place)
        else:
            yield _number(value, f"{place}, value {number}")


def _table(text: str, file: Path) -> Rows:
    table = tables.parse(text, file)
    _refuse_numbers_as_names(table.rows, file)
    places = tuple(f"{file}, line {line}" for line, _ in table.rows)
    values = tuple(
        tuple(_number(cell, f"{place}, column {n}") for n, cell in enumerate(cells, 1))
        for place, (_, cells) in zip(places, table.rows, strict=True)
    )
    names = table.names
    for place, row in zip(places, values, strict=True):
        if names and len(row) != len(names):
            raise ConfigurationError(f"{place} has {len(row)} values for {len(names)} column names")
    return Rows(values, places, names)


def _refuse_numbers_as_names(found: Sequence[tuple[int, Sequence[str]]], file: Path) -> None:
    """Refuse a first line `0,1,2`, which pandas writes above columns without names."""
    line, cells = found[0] if len(found) > 1 else (0, [])
    if len(cells) > 1 and list(cells) == [str(number) for number in range(len(cells))]:
        raise ConfigurationError(
            f"{file}, line {line}: {','.join(cells)} may be a row or the column numbers; "
            "remove the line, or write a row as 0.0,1.0 …"
        )


def _number(value: Any, place: str) -> float:
    """Return a finite number; a text only where it is one."""
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{place}: {shown(value)} is not a finite number; correct it")
    return number


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def some(names: Sequence[str]) -> str:
    """Return the first of these names of columns, for a message."""
    left = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {left} more" if left > 0 else "")
