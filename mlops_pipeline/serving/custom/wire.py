"""Messages between the server and the process of a custom component.

A message is the lengths of its JSON and of the bytes that follow it, then both. The bytes are an
array of numbers or raw bytes, which the JSON describes in `value`. No pickle: the component's own
packages may have another version of numpy, and its process cannot run code in the server.
"""

import socket
import struct
import time
from typing import Any

import numpy as np
import orjson

_LENGTHS = struct.Struct("<QQ")
MOST_BYTES = 1 << 30
"""Of a message. A longer one is an error of its sender."""
_CHUNK = 1 << 20


class WireError(Exception):
    """The other side is gone (its message is empty), or what it sent is no message."""


def send(channel: socket.socket, header: dict[str, Any], value: object = None) -> None:
    """Send a message. `value` is an array of numbers, bytes, or JSON.

    Raises:
        WireError: the other side is gone.
        TimeoutError: it does not read, for as long as the channel's timeout.
        TypeError: the header or the value is neither JSON nor an array of numbers.
    """
    content: bytes | bytearray | memoryview = b""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = np.ascontiguousarray(value)
        # The bytes themselves: a copy would take the memory of the array once more.
        content = value.reshape(-1).view(np.uint8).data if value.size else b""
        described: dict[str, Any] = {"dtype": value.dtype.str, "shape": value.shape}
    elif isinstance(value, bytes | bytearray | memoryview):
        content = value
        described = {"bytes": True}
    else:
        described = {"json": value}
    text = orjson.dumps({**header, "value": described}, option=orjson.OPT_NON_STR_KEYS)
    try:
        channel.sendall(_LENGTHS.pack(len(text), len(content)) + text)
        if content:
            channel.sendall(content)
    except TimeoutError:
        raise
    except OSError as error:
        raise WireError from error


def receive(
    channel: socket.socket, *, deadline: float | None = None, most: int = MOST_BYTES
) -> dict[str, Any]:
    """Return the next message; its `value` is an array, bytes or JSON again.

    `deadline` is a time of `time.monotonic`, `most` the limit of its bytes.

    Raises:
        WireError: the other side is gone, or sent something else.
        TimeoutError: the deadline has passed.
    """
    lengths = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size, deadline))
    if sum(lengths) > most:
        raise WireError(f"its message has {sum(lengths)} bytes; at most {most} are allowed")
    text, content = (_exactly(channel, length, deadline) for length in lengths)
    try:
        message: dict[str, Any] = orjson.loads(text)
        message["value"] = _value(message["value"], content)
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"its message cannot be read: {error!r}") from error
    return message


def _value(described: dict[str, Any], content: bytearray) -> object:
    if "json" in described:
        return described["json"]
    if "dtype" in described:
        return np.frombuffer(content, np.dtype(described["dtype"])).reshape(described["shape"])
    return bytes(content)


def _exactly(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    """Return the next `length` bytes."""
    content = bytearray()
    while len(content) < length:
        if deadline is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            channel.settimeout(remaining)
        try:
            chunk = channel.recv(min(length - len(content), _CHUNK))
        except TimeoutError:
            raise
        except OSError as error:
            raise WireError from error
        if not chunk:
            raise WireError
        content += chunk
    return content
