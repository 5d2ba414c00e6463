"""A model's answer in types that every protocol can write: numbers, booleans or text per row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import EXACT

Array = NDArray[Any]

DATATYPES = {
    **{np.dtype(f"f{size}"): f"FP{8 * size}" for size in (2, 4, 8)},
    **{np.dtype(f"i{size}"): f"INT{8 * size}" for size in (1, 2, 4, 8)},
    **{np.dtype(f"u{size}"): f"UINT{8 * size}" for size in (1, 2, 4, 8)},
    np.dtype(np.bool_): "BOOL",
}
"""V2's names of the types that every protocol can write, except text."""
DTYPES = {name: dtype for dtype, name in DATATYPES.items()}
"""V2's name → the type."""


class UnwritableError(RequestError):
    """A model's answer that no protocol can write. The request is not at fault."""

    def __init__(self, output: str, problem: str) -> None:
        super().__init__("UNWRITABLE", f"the output {output!r} {problem}", status=500)


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return V2's name for an array's type; everything that is not a number is BYTES (strings)."""
    return DATATYPES.get(dtype, "BYTES")


def as_scores(answer: object, *, rows: int, output: str) -> Array:
    """Return the answer to `rows` rows as an array [rows, …] that every protocol can write.

    Its type is one in `DATATYPES`, or object with only `str`, and `bytes` that are not UTF-8 text.

    Raises:
        UnwritableError: its first axis is not that of the rows, or it has other values.
        RequestError: a number in it is not finite.
    """
    array = answer if type(answer) is np.ndarray else _array(answer, output)
    if array.shape[:1] != (rows,):
        raise UnwritableError(
            output, f"has shape {list(array.shape)} for {rows} rows; its first axis must be rows"
        )
    if array.dtype not in DATATYPES:
        array = _plain(array, output)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(
            "NOT_FINITE",
            "the model's answer to these rows is not finite; check whether values are too large",
        )
    return array


def _array(answer: object, output: str) -> Array:
    try:
        return np.asarray(answer)
    except ValueError as error:
        raise UnwritableError(output, "has rows of different lengths") from error


def _plain(array: Array, output: str) -> Array:
    """Convert an array of another type to numbers or to text."""
    kind = array.dtype.kind
    if kind in "iu":  # The byte order of another machine.
        return array.astype(array.dtype.newbyteorder("="))
    if kind == "f":
        return array.astype(np.float64)
    if kind in "Mm":
        return array.astype(str).astype(object)
    if kind not in "OSU":
        raise UnwritableError(output, f"is of type {array.dtype.name}; {_CAN_BE}")
    values = [_plain_value(value) for value in array.ravel().tolist()]
    return _plain_values(values, output).reshape(array.shape)


def _plain_value(value: object) -> object:
    """Convert a numpy scalar, which an array of objects may contain, to Python's type."""
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


_CAN_BE = "numbers, booleans and text can be answered"


def _plain_values(values: list[object], output: str) -> Array:
    """Return Python objects as numbers if all of them are, otherwise as text."""
    kinds = set(map(type, values))
    if kinds <= {int, float, bool} and (array := _array(values, output)).dtype in DATATYPES:
        return array
    if not kinds <= {int, float, bool, str, bytes}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UnwritableError(output, f"contains values of type {names}; {_CAN_BE}")
    text = np.empty(len(values), dtype=object)
    text[:] = [_text(value, output) for value in values]
    return text


def of_bytes(content: bytes) -> str | bytes:
    """Return UTF-8 as text, other bytes unchanged."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _text(value: object, output: str) -> str | bytes:
    """Return a value as text; TensorFlow's strings, which are bytes, need not be text."""
    if isinstance(value, bytes):
        return of_bytes(value)
    try:
        text = str(value)
        text.encode()
    except UnicodeError as error:
        raise UnwritableError(output, "contains strings that are not UTF-8 text") from error
    return text


def check_digits(document: object, *, cure: str) -> None:
    """Require that the doubles of Seldon's gRPC messages can represent every whole number.

    `document` is an array, or a message as JSON has it, with arrays in it. `cure` ends the message.

    Raises:
        RequestError: one of them is beyond 2^53.
    """
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, np.ndarray) and one.dtype.kind in "iu" and one.size:
            waiting += [one.max().item(), one.min().item()]
        elif type(one) is int and abs(one) > EXACT:
            raise RequestError(
                "TOO_LONG",
                "the model returns whole numbers beyond 2^53, which Seldon's gRPC messages cannot "
                f"represent; {cure}",
            )


def as_lists(document: Any) -> Any:
    """Return a document with its arrays and tuples as lists."""
    if isinstance(document, dict):
        return {key: as_lists(value) for key, value in document.items()}
    if isinstance(document, np.ndarray):
        return document.tolist()
    return list(document) if isinstance(document, tuple) else document
