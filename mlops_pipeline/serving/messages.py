"""A request and an answer as handlers see them: bytes and what the headers say of them."""

from typing import NamedTuple

import orjson

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data"


class Request(NamedTuple):
    """What a handler sees of an HTTP request."""

    body: bytes
    content_type: bytes = b""
    """As in the header, lower or upper case, with parameters; empty: not said."""
    puid: str = ""
    """The header `seldon-puid`, by which Seldon's executor names a prediction."""
    is_binary: bool = False
    """Whether V2's binary extension was used: JSON, and after it the tensors as bytes."""


class Answer(NamedTuple):
    """What a handler answers."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


PONG = Answer(200, b"pong", b"text/plain; charset=utf-8")
"""What a process that lives answers to a ping."""


def answer(document: object, *, status: int = 200) -> Answer:
    """Return `document` as a JSON answer; it may hold numpy arrays of numbers."""
    return Answer(status, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
