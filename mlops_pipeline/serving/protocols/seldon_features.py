"""The rows in a SeldonMessage for a custom component, of the artifact's schema if it has one."""

from typing import Any

import numpy as np

from mlops_pipeline.serving import tensor_proto, texts
from mlops_pipeline.serving.columns import ordered, ordered_lists
from mlops_pipeline.serving.custom.calls import PAYLOADS
from mlops_pipeline.serving.custom.rows import named
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Signature, conform
from mlops_pipeline.serving.payloads import find_one, listed, numbers_for
from mlops_pipeline.serving.protocols.row_formats import read_payload
from mlops_pipeline.serving.protocols.seldon import Unit, read_tensor
from mlops_pipeline.serving.scores import Array, as_lists
from mlops_pipeline.serving.tensorflow_pb2 import DT_STRING


def checked(
    unit: Unit, message: dict[str, Any], kind: str | None, body: bytes | None
) -> dict[str, Any]:
    """Return a message for `predict_raw`, with the rows in `data` as the artifact's schema says.

    Rows in `jsonData` are only checked. Another document, text and bytes have no rows.

    Raises:
        RequestError: the rows are not of the schema, or binData is not base64.
    """
    schema = unit.model.default.schema
    if kind == "binData":
        texts.from_base64(message[kind], where=kind)
    if schema is None or kind not in ("data", "jsonData"):
        return message
    if kind == "jsonData":
        has_rows(unit, message[kind], body)
        return message
    encoding = encoding_of(message[kind])
    rows, names = features(unit, message[kind], body)
    return {**message, kind: as_lists({"names": list(names), **encoded(rows, encoding)})}


def has_rows(unit: Unit, document: Any, body: bytes | None) -> bool:
    """Say whether `jsonData` has rows, which must be of the schema: a list, or a known payload.

    Raises:
        RequestError: the rows are not of the schema.
    """
    signature = unit.model.default
    if type(document) is list:
        rows = numbers_for(signature, document, where="jsonData", body=body)
    elif type(document) is dict and find_one(document, PAYLOADS, where="jsonData"):
        rows = read_payload(signature, {**document}, body, parent="jsonData")
    else:
        return False
    conform(signature, rows)
    return True


def features(unit: Unit, data: Any, body: bytes | None) -> tuple[Any, tuple[str, ...]]:
    """Return the rows in `data`, and the names of their columns.

    If the artifact says what a row is, only such rows are accepted. Otherwise the class gets any
    list, as by Seldon's wrapper.

    Raises:
        RequestError: there are no rows, or not the model's.
    """
    signature, encoding = unit.model.default, encoding_of(data)
    names = data.get("names") or []
    if encoding is None:
        raise RequestError("NO_DATA", "data must have ndarray, tensor or tftensor")
    rows: Any = data.pop(encoding)
    if encoding == "tensor":
        rows = read_tensor(rows, body, wanted=signature.dtype, booleans=signature.takes_booleans)
    elif encoding == "tftensor":
        rows = _of_tftensor(signature, rows)
    else:
        try:
            rows = numbers_for(signature, rows, where="data.ndarray")
        except RequestError:
            if signature.row_shape is not None or type(rows) is not list:
                raise
    if isinstance(rows, np.ndarray):
        rows = ordered(signature, names, rows) if names else rows
        if signature.row_shape is not None:
            rows = conform(signature, rows)
    elif names:
        rows = ordered_lists(signature, names, rows)
    return rows, named(signature, names).columns


def _of_tftensor(signature: Signature, document: object) -> Any:
    """Return the numbers of a TensorProto; its strings as lists, unless a row is of numbers.

    Raises:
        RequestError: it is no TensorProto, or not of numbers.
    """
    where = "data.tftensor"
    tensor = tensor_proto.from_json(document, where=where)
    if signature.row_shape is None and tensor.dtype == DT_STRING:
        return tensor_proto.read(tensor, where=where, text=True).tolist()
    return tensor_proto.read(tensor, where=where)


def encoding_of(data: object) -> str | None:
    """Return the encoding of the rows in `data`; None: it has none, which is an error.

    Raises:
        RequestError: `data` is no object, or has several encodings.
    """
    if type(data) is not dict:
        raise RequestError("WRONG_TYPE", "data must be an object with ndarray or tensor")
    return find_one(data, ("ndarray", "tensor", "tftensor"), where="data")


def encoded(rows: Array, encoding: str | None) -> dict[str, Any]:
    """Return rows in an encoding of `data`; `ndarray` by default."""
    if encoding == "tensor":
        return {"tensor": {"shape": list(rows.shape), "values": rows.ravel()}}
    if encoding == "tftensor":
        return {"tftensor": tensor_proto.to_json(rows)}
    return {"ndarray": listed(rows)}
