"""Repeated floats of protobuf messages as arrays, without a Python object for each number.

Packed numbers are on the wire as they are in memory: the field's tag, the length in bytes, the
values in little-endian (https://protobuf.dev/programming-guides/encoding/#packed). Writing a
message with only this field, or merging such bytes into one, copies them once.
"""

from typing import Any

import numpy as np
from google.protobuf.message import Message

from mlops_pipeline.serving.scores import Array

_LENGTH_DELIMITED = 2


def read(message: Message, field: str, dtype: "np.dtype[Any]") -> Array:
    """Return a field of floats or doubles (`dtype`); every other field of `message` is empty."""
    content = message.SerializeToString()
    if not content or content[0] != _tag(message, field):
        return np.array(getattr(message, field), dtype=dtype)
    length, begin = _varint(content)
    values: Array = np.frombuffer(content, dtype.newbyteorder("<"), length // dtype.itemsize, begin)
    return values.astype(dtype)  # A copy in aligned memory that can be written to.


def from_brain_floats(bits: Array) -> Array:
    """Return the bits of bfloat16 as float32, whose first half it is."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def extend(message: Message, field: str, values: Array) -> None:
    """Append an array to a field of floats or doubles, which must be the array's type."""
    content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    length = bytearray()
    rest = len(content)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    message.MergeFromString(bytes((_tag(message, field),)) + length + content)


def _tag(message: Message, field: str) -> int:
    """Return the first byte of a packed field; the fields' numbers are less than 16."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return number << 3 | _LENGTH_DELIMITED


def _varint(content: bytes) -> tuple[int, int]:
    """Return the number after the tag, and the position after it."""
    number = shift = 0
    position = 1
    while True:
        byte = content[position]
        number |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return number, position
