"""Strings in requests, for signatures whose input is TensorFlow's DT_STRING (`dtype` is object).

TensorFlow does not distinguish text from other bytes. A row's values are `bytes`, whichever
protocol sent them.
"""

import binascii
from base64 import b64decode

import numpy as np

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.scores import Array

BASE64 = "b64"


def decoded(values: object, *, where: str) -> object:
    """Return nested lists and objects with the content of each `{"b64": text}`, TF Serving's form.

    Raises:
        RequestError: such a text is not base64.
    """
    if type(values) is list:
        return [decoded(value, where=where) for value in values]
    if type(values) is dict and values.keys() == {BASE64}:
        return from_base64(values[BASE64], where=where)
    if type(values) is dict:
        return {key: decoded(value, where=where) for key, value in values.items()}
    return values


def from_base64(text: object, *, where: str) -> str | bytes:
    """Return the content of a text in base64: text, or bytes that are not.

    Raises:
        RequestError: it is not base64.
    """
    try:
        return of_bytes(b64decode(text if type(text) is str else b"\xff", validate=True))
    except (binascii.Error, ValueError) as error:
        raise RequestError("WRONG_TYPE", f"{where} has a value that is not base64") from error


def of_bytes(content: bytes) -> str | bytes:
    """Return UTF-8 as text, other bytes unchanged."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


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


def conform(values: Array) -> Array:
    """Return rows of strings as rows of bytes.

    Raises:
        RequestError: another value is among them.
    """
    if values.dtype.kind != "O" or not set(map(type, values.ravel().tolist())) <= {str, bytes}:
        raise RequestError(
            "WRONG_TYPE", "the input may contain strings only: the model expects text"
        )
    flat = np.empty(values.size, dtype=object)
    flat[:] = [v.encode(errors="replace") if type(v) is str else v for v in values.ravel()]
    return flat.reshape(values.shape)
