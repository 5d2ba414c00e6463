"""Models with several named inputs: one array for each, joined to rows that may share a call.

A row has an array for each input, in the model's order: rows are an array of objects [n, inputs].
An input whose rows are single values has arrays of length 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.columns import check_names, listed_names
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.joined import join
from mlops_pipeline.serving.models import Input, Signature, conform, not_by_name
from mlops_pipeline.serving.payloads import numbers
from mlops_pipeline.serving.schema import kind_of
from mlops_pipeline.serving.scores import Array


def of_arrays(signature: Signature, arrays: Mapping[str, Array]) -> Array:
    """Return rows from an array [n, …] for each input.

    Raises:
        RequestError: an input is missing or unknown, they have different numbers of rows, or the
            values of one do not fit; has its name.
    """
    _check_names(signature, arrays)
    parts = []
    for one in signature.inputs:
        try:
            given = _in_rank(arrays[one.name], one)
            parts.append(conform(signature.of_input(one), given))
        except RequestError as error:
            raise RequestError(error.reason, f"input {one.name!r}: {error}") from error
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(
            f"{len(part)} in {one.name!r}"
            for one, part in zip(signature.inputs, parts, strict=True)
        )
        raise RequestError("WRONG_INPUT", f"the inputs have different numbers of rows: {counts}")
    return join(parts)


def _in_rank(array: Array, one: Input) -> Array:
    """Return single values [n] as [n, 1] if the input expects these, and the other way round."""
    if one.row_shape == (1,) and array.ndim == 1:
        return array.reshape(-1, 1)
    is_column = one.row_shape == () and array.ndim == 2 and array.shape[1] == 1
    return array.reshape(-1) if is_column else array


def of_instances(
    signature: Signature, instances: object, *, where: str, body: bytes | None
) -> Array:
    """Return rows from TF Serving's row format: a list of `{input: values of the row}`.

    Raises:
        RequestError: see `of_arrays`; or a row is not such an object.
    """
    if type(instances) is not list or not instances:
        raise RequestError("WRONG_INPUT", f"{where}: {_expected(signature)}, in each row")
    for number, row in enumerate(instances, 1):
        if type(row) is not dict:
            raise RequestError(
                "WRONG_INPUT",
                f"{where}, row {number}: {_expected(signature)}, got {kind_of(row)}",
            )
        _check_names(signature, row, where=f"{where}, row {number}")
    columns = {one.name: [row[one.name] for row in instances] for one in signature.inputs}
    return of_lists(signature, columns, where=where, body=body)


def of_lists(signature: Signature, inputs: object, *, where: str, body: bytes | None) -> Array:
    """Return rows from TF Serving's column format: `{input: values of all rows}`.

    Raises:
        RequestError: see `of_arrays`; or it is not such an object.
    """
    if type(inputs) is not dict:
        raise RequestError("WRONG_INPUT", f"{where}: {_expected(signature)}, got {kind_of(inputs)}")
    _check_names(signature, inputs, where=where)
    arrays = {
        one.name: numbers(
            inputs[one.name], where=f"{where}.{one.name}", body=body, wanted=one.dtype
        )
        for one in signature.inputs
    }
    return of_arrays(signature, arrays)


def of_rows(
    signature: Signature, values: object, names: object, *, where: str, body: bytes | None
) -> Array:
    """Return rows from Seldon's `ndarray`: a list of rows, each a list with a value for each input.

    `names` are the inputs in the order of a row; none: the model's order.

    Raises:
        RequestError: see `of_arrays`; or they are not such rows.
    """
    count = len(signature.inputs)
    if type(values) is not list or not all(type(r) is list and len(r) == count for r in values):
        raise not_by_name(signature)
    if not values:
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    order = names or [one.name for one in signature.inputs]
    if type(order) is not list or not all(type(name) is str for name in order):
        raise RequestError("WRONG_NAMES", "data.names: it must be a list of strings")
    check_names([one.name for one in signature.inputs], order, "data.names")
    columns = {name: [row[number] for row in values] for number, name in enumerate(order)}
    return of_lists(signature, columns, where=where, body=body)


def stacked(rows: Array, inputs: Sequence[Input]) -> list[Array]:
    """Return the array [n, …] of each input.

    Raises:
        ValueError: rows of an input of variable length have different lengths.
    """
    arrays = [np.stack(rows[:, number].tolist()) for number in range(len(inputs))]
    return [
        array if one.row_shape else array.reshape(len(rows))
        for array, one in zip(arrays, inputs, strict=True)
    ]


def _check_names(
    signature: Signature, given: Mapping[str, Any], *, where: str = "the inputs"
) -> None:
    check_names([one.name for one in signature.inputs], list(given), where, reason="WRONG_INPUT")


def _expected(signature: Signature) -> str:
    return f"expected an object with the inputs {listed_names([i.name for i in signature.inputs])}"
