"""A request and an answer for handlers: bytes, and the information of the headers."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import orjson

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data"


class Request(NamedTuple):
    """The part of an HTTP request that a handler needs."""

    body: bytes
    content_type: bytes = b""
    """The header's value in any case, with parameters; empty if missing."""
    puid: str = ""
    """The header `seldon-puid`, with Seldon's executor's name of a prediction."""
    json_bytes: bytes = b""
    """The header `inference-header-content-length` of V2's binary extension: the length of the
    JSON, which the tensors' bytes follow. Empty: the body is only JSON."""


class Answer(NamedTuple):
    """A handler's answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Coroutine[Any, Any, Answer]]
"""Answers a request. The model's scores are all that it may wait for."""

PONG = Answer(200, b"pong", b"text/plain; charset=utf-8")
"""The answer of a running process to a ping."""


def answer(document: object, *, status: int = 200) -> Answer:
    """Return `document` as a JSON answer; it may contain numpy arrays of numbers."""
    return Answer(status, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
