"""Strings in requests, for signatures whose input is TensorFlow's DT_STRING (`dtype` is object).

TensorFlow does not distinguish text from other bytes. A row's values are `bytes`, whichever
protocol sent them.
"""

import binascii
from base64 import b64decode
from typing import Any

import numpy as np

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.scores import Array

BASE64 = "b64"


def decoded(values: object, *, where: str) -> object:
    """Return a nested list with each `{"b64": text}`, which is TF Serving's form, as bytes.

    Raises:
        RequestError: such a text is not base64.
    """
    if type(values) is list:
        return [decoded(value, where=where) for value in values]
    if type(values) is dict and values.keys() == {BASE64}:
        return from_base64(values[BASE64], where=where)
    return values


def from_base64(text: object, *, where: str) -> bytes:
    """Return the bytes of a text in base64.

    Raises:
        RequestError: it is not base64.
    """
    try:
        return b64decode(text if type(text) is str else b"\xff", validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError("WRONG_TYPE", f"{where} has a value that is not base64") from error


def single(row_shape: tuple[int, ...] | None, content: str | bytes) -> Array:
    """Return one row of a single string, for a protocol's message of one string.

    Raises:
        RequestError: a row of the model has several values.
    """
    if row_shape is None or any(size not in (1, -1) for size in row_shape):
        raise RequestError("WRONG_SHAPE", "a row of the model is more than one string")
    rows = np.empty(1, dtype=object)
    rows[0] = content
    return rows.reshape((1, *(1 for _ in row_shape)))


def read(values: object, *, where: str) -> Array:
    """Return a nested list of strings as an array of objects of that shape.

    Raises:
        RequestError: it is not a list, ragged, nested too deep, or contains other values.
    """
    shape: list[int] = []
    level: list[Any] = [values]
    while {type(value) for value in level} == {list}:
        sizes = set(map(len, level))
        if len(sizes) > 1 or len(shape) == 32:
            raise RequestError("RAGGED", f"{where} has rows of different lengths, or is too deep")
        shape += sizes
        level = [item for value in level for item in value]
    array = np.empty(len(level), dtype=object)
    array[:] = level
    if not shape or not _are_texts(array):
        raise _wrong(where)
    return array.reshape(shape)


def conform(values: Array) -> Array:
    """Return rows of strings as rows of bytes.

    Raises:
        RequestError: another value is among them.
    """
    if values.dtype.kind != "O" or not _are_texts(values):
        raise _wrong("the input")
    flat = np.empty(values.size, dtype=object)
    flat[:] = [v.encode(errors="replace") if type(v) is str else v for v in values.ravel()]
    return flat.reshape(values.shape)


def _are_texts(values: Array) -> bool:
    return set(map(type, values.ravel().tolist())) <= {str, bytes}


def _wrong(where: str) -> RequestError:
    return RequestError("WRONG_TYPE", f"{where} may contain strings only: the model expects text")
