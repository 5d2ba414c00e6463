"""Named columns: put into the model's order, or refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.recording.exchange import keep_names
from mlops_pipeline.serving.schema import kind_of
from mlops_pipeline.serving.scores import Array

_SHOWN = 10
"""Maximum of names in a message."""


def ordered(
    signature: Signature, names: object, rows: Array, *, where: str = "data.names"
) -> Array:
    """Return `rows` with their columns in the model's order.

    `names` are the request's column names. Seldon's own names, `t:0`, `t:1` …, do not determine an
    order, nor do any names if the model has none. Rows without columns are returned unchanged.
    `where` begins an error's message.

    Raises:
        RequestError: these are not the names of the model's columns, or not one for each column.
    """
    if type(names) is not list or not all(type(name) is str for name in names):
        raise RequestError("WRONG_NAMES", f"{where}: it must be a list of strings")
    if rows.ndim != 2:
        return rows
    order = _order(signature, names, rows.shape[1], where)
    return rows if order is None else rows[:, order]


def ordered_lists(
    signature: Signature, names: object, rows: list[Any], *, where: str = "data.names"
) -> list[Any]:
    """Do the same with rows that are not only numbers, each a list.

    Raises:
        RequestError: as `ordered`; or the rows have different lengths.
    """
    if type(names) is not list or not all(type(name) is str for name in names):
        raise RequestError("WRONG_NAMES", f"{where}: it must be a list of strings")
    if not rows or not all(type(row) is list for row in rows):
        return rows
    if len(set(map(len, rows))) > 1:
        raise RequestError("RAGGED", f"the rows have different lengths, but {where} has one order")
    order = _order(signature, names, len(rows[0]), where)
    return rows if order is None else [[row[index] for index in order] for row in rows]


def _order(signature: Signature, names: list[str], width: int, where: str) -> list[int] | None:
    """Return the index of each of the model's columns; None if rows are in its order.

    Raises:
        RequestError: these are not the names of the model's columns, or not one for each column.
    """
    known = signature.columns
    if len(names) != width:
        model = f"; the model's columns are {listed_names(known)}" if known else ""
        raise RequestError(
            "WRONG_NAMES",
            f"{where}: expected {width} names, one for each column, got {len(names)}{model}",
        )
    if names == list(known) or names == [f"t:{i}" for i in range(len(names))]:
        return None
    if not known:
        keep_names(names)
        return None
    check_names(known, names, where)
    return [names.index(name) for name in known]


def check_names(
    known: Sequence[str], names: Sequence[str], where: str, *, reason: str = "WRONG_NAMES"
) -> None:
    """Require that `names` are `known` in any order.

    Raises:
        RequestError: names are missing or unexpected; has `reason`.
    """
    missing, unexpected = Counter(known) - Counter(names), Counter(names) - Counter(known)
    if missing or unexpected:
        problems = [
            f"{what} {listed_names(list(found))}"
            for what, found in (("missing", missing), ("unexpected", unexpected))
            if found
        ]
        raise RequestError(reason, f"{where}: {'; '.join(problems)}")


def listed_names(names: Sequence[str]) -> str:
    """Return quoted names, shortened, the first ten of them, for messages."""
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def of_inputs(signature: Signature, names: Sequence[object], tensors: Sequence[Array]) -> Array:
    """Return the rows in V2's one tensor of all columns, or in a tensor for each column.

    Raises:
        RequestError: see `of_tensors`.
    """
    is_column = signature.dtype.kind == "O" and names[0] in signature.columns
    if len(tensors) == 1 and not is_column:
        return tensors[0]
    return of_tensors(signature, list(map(str, names)), tensors)


def of_objects(signature: Signature, rows: Sequence[object], where: str) -> list[list[Any]]:
    """Return rows that are objects, `{column: value}`, as lists in the model's order.

    A model whose columns have no names takes them in the order of the first row.

    Raises:
        RequestError: a row is not an object with exactly the model's, or the first row's, columns.
    """
    found: list[list[Any]] = []
    known = signature.columns or tuple(rows[0] if rows and type(rows[0]) is dict else ())
    for number, row in enumerate(rows, 1):
        place = f"{where}, row {number}"
        if type(row) is not dict:
            raise RequestError("WRONG_TYPE", f"{place}: expected an object, got {kind_of(row)}")
        if row.keys() != set(known):
            check_names(known, list(row), place)
        found.append([row[name] for name in known])
    return found


def of_columns(signature: Signature, columns: Mapping[str, object], where: str) -> list[list[Any]]:
    """Return columns, `{column: [values]}` or `{column: [[value], …]}`, as rows.

    Raises:
        RequestError: they are not the model's columns, or of different lengths.
    """
    check_names(signature.columns, list(columns), where)
    lists = [_values(columns[name], f"{where}.{name[:80]}") for name in signature.columns]
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(
            f"{len(values)} in {name!r}"
            for name, values in zip(signature.columns, lists, strict=True)
        )
        raise RequestError("WRONG_INPUT", f"{where}: the columns differ in length: {lengths[:300]}")
    return [list(row) for row in zip(*lists, strict=True)]


def _values(column: object, where: str) -> list[Any]:
    """Return the values of a column: a list of them, or of rows with one value each."""
    if type(column) is not list:
        raise RequestError("WRONG_TYPE", f"{where}: expected a list, got {kind_of(column)}")
    return [v[0] if type(v) is list and len(v) == 1 else v for v in column]


def of_tensors(signature: Signature, names: Sequence[str], columns: Sequence[Array]) -> Array:
    """Return columns [n] or [n, 1], as V2 sends data frames, as rows in the model's order.

    Raises:
        RequestError: their lengths differ, or they are not the model's columns.
    """
    lengths = {len(column) if column.ndim else 0 for column in columns}
    if len(lengths) != 1 or any(
        not column.ndim or column.size != len(column) for column in columns
    ):
        raise RequestError(
            "WRONG_INPUT",
            f"several inputs must be columns of one length, [n] or [n, 1]; or send one input of "
            f"shape {signature.expected_shape()}",
        )
    flat = [column.reshape(-1) for column in columns]
    if signature.dtype.kind == "O":
        flat = [column.astype(object) for column in flat]
    rows = np.stack(flat, axis=1)
    return ordered(signature, list(names), rows, where="the inputs' names")
