"""Strings in requests, for signatures whose input is TensorFlow's DT_STRING (`dtype` is object).

TensorFlow does not distinguish text from other bytes. A row's values are `bytes`, whichever
protocol sent them.
"""

from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.scores import Array, of_bytes

BASE64 = "b64"


def decoded(values: object, *, where: str) -> object:
    """Return nested lists and objects with the content of each `{"b64": text}`, TF Serving's form.

    The lists and objects themselves are changed.

    Raises:
        RequestError: such a text is not base64.
    """
    whole = [values]
    level: list[Any] = [whole]
    while level:
        inner: list[Any] = []
        for owner in level:
            for key, value in list(owner.items() if type(owner) is dict else enumerate(owner)):
                if type(value) is dict and value.keys() == {BASE64}:
                    owner[key] = of_bytes(from_base64(value[BASE64], where=where))
                elif type(value) in (dict, list):
                    inner.append(value)
        level = inner
    return whole[0]


def from_base64(text: object, *, where: str) -> bytes:
    """Return the content of a text in base64, for every protocol.

    It is strict: the standard alphabet, with padding, and nothing else.
    https://www.rfc-editor.org/rfc/rfc4648#section-4

    Raises:
        RequestError: it is not base64.
    """
    if type(text) is not str:
        raise RequestError("WRONG_TYPE", f"{where} has a value in base64 that is not a string")
    try:
        return b64decode(text, validate=True)
    except ValueError as error:  # binascii's Error is one.
        raise RequestError(
            "WRONG_TYPE",
            f"{where} has a value that is not base64: it may contain only A-Z, a-z, 0-9, + and /, "
            "padded with = to a multiple of four characters, without spaces or line breaks",
        ) from error


def to_bytes(values: Array) -> list[bytes]:
    """Return strings of any shape as a flat list of bytes."""
    return [v if isinstance(v, bytes) else v.encode() for v in values.ravel().tolist()]


def to_json(values: Array, *, every: bool = False) -> list[Any]:
    """Return strings as nested lists; bytes that are not text, or every value, as `{"b64": …}`."""
    if not (every or has_bytes(values)):
        written: list[Any] = values.tolist()
        return written
    encoded = np.empty(values.size, dtype=object)
    encoded[:] = [
        {BASE64: b64encode(content).decode()} if every or isinstance(value, bytes) else value
        for value, content in zip(values.ravel().tolist(), to_bytes(values), strict=True)
    ]
    written = encoded.reshape(values.shape).tolist()
    return written


def has_bytes(values: Array) -> bool:
    """Say whether a value is bytes that are not text."""
    return bytes in set(map(type, values.ravel().tolist()))


def single(row_shape: tuple[int, ...] | None, content: str | bytes) -> Array:
    """Return one row of a single string, for a protocol's message of one string.

    Raises:
        RequestError: a row of the model has several values.
    """
    if row_shape is None or not is_single(row_shape):
        raise RequestError("WRONG_SHAPE", "a row of the model is more than one string")
    rows = np.empty(1, dtype=object)
    rows[0] = content
    return rows.reshape((1, *(1 for _ in row_shape)))


def is_single(row_shape: tuple[int, ...] | None) -> bool:
    """Say whether a row may be a single string."""
    return row_shape is not None and all(size in (1, -1) for size in row_shape)


def conform(values: Array) -> Array:
    """Return rows of strings as rows of bytes.

    Raises:
        RequestError: another value is among them, or a text that UTF-8 cannot represent.
    """
    if values.dtype.kind != "O" or not set(map(type, values.ravel().tolist())) <= {str, bytes}:
        raise RequestError(
            "WRONG_TYPE", "the input may contain strings only: the model expects text"
        )
    flat = np.empty(values.size, dtype=object)
    try:
        flat[:] = [v.encode() if type(v) is str else v for v in values.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise RequestError(
            "WRONG_TYPE", "a string has half of a surrogate pair, which UTF-8 cannot represent"
        ) from error
    return flat.reshape(values.shape)
