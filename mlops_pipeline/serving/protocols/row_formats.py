"""Rows in JSON: TF Serving's `instances` and `inputs`, and MLflow's data frames.

Seldon's `jsonData` has them too.

https://www.tensorflow.org/tfx/serving/api_rest
https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from collections.abc import Collection
from typing import Any, cast

from mlops_pipeline.serving import columns, texts
from mlops_pipeline.serving.custom.calls import PAYLOADS
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Signature, not_by_name
from mlops_pipeline.serving.payloads import find_one, listed, numbers_for
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.several import of_instances, of_lists

_FORMATS = ("instances", "inputs")
_BINARY = "_bytes"
"""How the name of an output ends whose strings TF Serving always answers in base64:
https://www.tensorflow.org/tfx/serving/api_rest#encoding_binary_values"""


def read_rows(
    signature: Signature, document: dict[str, Any], body: bytes | None, *, parent: str = ""
) -> tuple[bool, Array]:
    """Return whether `document` has the row format, and its rows, which are removed from it.

    `instances` is a list of rows, or of `{input name: row}`; `inputs` is all rows, or `{input name:
    all rows}`. A model with named columns also accepts `{column: value}` for each row, and
    `{column: values}`. `parent` is the field that contains the document (`jsonData`), for errors.

    Raises:
        RequestError: it has neither or both, another input, or no numbers.
    """
    whole = parent or "the body"
    given = find_one(document, _FORMATS, where=whole)
    if given is None:
        raise RequestError("NO_DATA", f"{whole} must have either `instances` or `inputs`")
    where = f"{parent}.{given}" if parent else given
    rows, is_by_row = document.pop(given), given == "instances"
    if signature.inputs:
        rows = texts.decoded(rows, where=where)
        read = of_instances if is_by_row else of_lists
        return is_by_row, read(signature, rows, where=where, body=body)
    if is_by_row and type(rows) is list and rows and _is_named(rows[0]):
        if _has_columns(signature, rows[0]):
            rows = columns.of_objects(signature, rows, where)
        else:
            rows = [_only_input(signature, row, where) for row in rows]
    elif not is_by_row and _is_named(rows):
        if _has_columns(signature, rows):
            rows = columns.of_columns(signature, rows, where)
        else:
            rows = _only_input(signature, rows, where)
    if signature.dtype.kind == "O":
        rows = texts.decoded(rows, where=where)
    elif _is_base64(rows[0] if type(rows) is list and rows else rows):
        raise RequestError(
            "WRONG_TYPE",
            f"{where} has text in base64, but the model expects "
            f"{signature.expected()}; send numbers",
        )
    return is_by_row, numbers_for(signature, rows, where=where, body=body)


def read_payload(
    signature: Signature, document: dict[str, Any], body: bytes | None, *, parent: str = ""
) -> Array:
    """Return the rows in one of MLflow's payloads, in the model's order; see `read_rows`.

    `dataframe_split` is `{"columns": names, "data": rows}`, `dataframe_records` a list of
    `{column: value}`.

    Raises:
        RequestError: it has none or several of them, or no rows of the model's columns.
    """
    kind = find_one(document, PAYLOADS, where=parent or "the body")
    where = f"{parent}.{kind}" if parent else str(kind)
    if signature.inputs and kind not in _FORMATS:
        raise not_by_name(signature)
    if kind == "dataframe_records":
        records = document.pop(kind)
        if type(records) is not list:
            raise RequestError("WRONG_TYPE", f"{where} must be a list of objects")
        records = columns.of_objects(signature, records, where)
        return numbers_for(signature, records, where=where)
    if kind != "dataframe_split":
        return read_rows(signature, document, body, parent=parent)[1]
    frame = document.pop(kind)
    if type(frame) is not dict or type(frame.get("data")) is not list:
        raise RequestError("WRONG_TYPE", f"{where} must have `columns` and `data`")
    rows = numbers_for(signature, frame["data"], where=where)
    if names := frame.get("columns"):
        rows = columns.ordered(signature, names, rows, where=f"{where}.columns")
    return rows


def written(output: str, values: Array) -> object:
    """Return an output's scores as JSON: strings of one whose name ends in `_bytes` in base64."""
    if values.dtype.kind == "O" and output.endswith(_BINARY):
        return texts.to_json(values, every=True)
    return listed(values)


def _is_named(value: object) -> bool:
    """Say whether a value is an object of inputs; `{"b64": …}` is a string."""
    return type(value) is dict and not _is_base64(value)


def _is_base64(value: object) -> bool:
    return type(value) is dict and value.keys() == {texts.BASE64}


def _has_columns(signature: Signature, given: dict[str, Any]) -> bool:
    """Say whether an object names columns, and not the one input."""
    return bool(signature.columns) and given.keys() != {signature.input}


def _only_input(signature: Signature, tensors: object, where: str) -> object:
    """Return the value of the signature's input, the only allowed key."""
    check_input(signature, tensors.keys() if type(tensors) is dict else (), where=where)
    return cast(dict[str, Any], tensors)[signature.input]


def check_input(signature: Signature, names: Collection[str], *, where: str) -> None:
    """Require that a request names the signature's input, and no other.

    Raises:
        RequestError: it does not.
    """
    if set(names) != {signature.input}:
        raise RequestError("WRONG_INPUT", f"{where}: the only input must be {signature.input!r}")
