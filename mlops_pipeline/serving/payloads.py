"""Bytes to numbers and back: JSON bodies of requests, arrays of numbers in them, scores."""

import contextlib
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
import orjson

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import FORM, JSON, Request
from mlops_pipeline.serving.scores import Array

SMALL = 2048
"""Bytes of a body up to which the strings in it can do no harm (see `numbers`)."""


def parse_object(request: Request) -> dict[str, Any]:
    """Read a JSON object from the body.

    A body without a content type, or with the one `curl -d` sends by itself, is JSON too.

    Raises:
        RequestError: another content type, not JSON (NaN and Infinity are not), or not an object.
    """
    kind = request.content_type
    if kind != JSON and kind:
        _check_content_type(kind)
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise RequestError("BAD_JSON", _explain(request.body, error)) from error
    if type(document) is not dict:
        raise RequestError("BAD_JSON", f"the body is {_kind(document)}, it has to be a JSON object")
    return document


def _check_content_type(kind: bytes) -> None:
    """Raise unless the content type is JSON's, or the one that `curl -d` sends by itself."""
    essence = kind.split(b";", 1)[0].strip().lower()
    if essence not in (JSON, FORM):
        name = essence.decode("latin-1")[:80]
        raise RequestError(
            "WRONG_CONTENT_TYPE", f"the content type is {name!r}, it has to be application/json"
        )


def _explain(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Say why a body is not JSON."""
    if not body:
        return "the body is empty, it has to be a JSON object"
    if b"NaN" in body or b"Infinity" in body:
        return f"the body is not JSON, which has no NaN or Infinity: {error}"
    return f"the body is not JSON: {error}"


def numbers(values: object, *, where: str, body: bytes | None, wanted: np.dtype[Any]) -> Array:
    """Return a nested list of numbers as an array of that shape; of booleans, if they are `wanted`.

    `where` names the list for the sentence of an error, `body` is the JSON it came from, if any.
    Callers give their only reference away, so that a large list is gone before the prediction: it
    takes ten times the room of the array, and what lives longer settles between its items.

    Raises:
        RequestError: not a list, ragged, nested too deep, or something in it is not a number.
    """
    if type(values) is not list:
        raise RequestError("WRONG_TYPE", f"{where} is {_kind(values)}, it has to be a list of rows")
    # numpy takes true for 1.0 in a row of numbers, and gives every number the room of the longest
    # string among them: gigabytes, from a few kilobytes. Looking costs time, so only if it may be.
    types = _WITH_BOOLEANS if wanted.kind == "b" else _NUMBERS
    may_harm = body is None or len(body) > SMALL or b"true" in body or b"false" in body
    if may_harm and not _holds_only(types, values):
        raise _wrong(types, where)
    try:
        array = np.array(values)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RequestError(
            "RAGGED", f"{where} has rows of different lengths, or is nested too deep"
        ) from error
    if array.dtype.kind not in ("fiub" if bool in types else "fiu"):
        raise _wrong(types, where)
    if wanted == np.uint64 and array.dtype.kind == "f" and _holds_only(_INTEGERS, values):
        with contextlib.suppress(OverflowError):  # numpy makes floats of integers beyond 2^63.
            return np.array(values, dtype=wanted)
    return array


_INTEGERS = frozenset({int})
_NUMBERS = frozenset({float, int})
_WITH_BOOLEANS = frozenset({float, int, bool})


def _holds_only(wanted: frozenset[type], values: list[Any]) -> bool:
    """Say whether a nested list, however deep, holds values of these types alone."""
    level, allowed = values, wanted | {list}
    while list in (kinds := set(map(type, level))) and kinds <= allowed:
        level = list(chain.from_iterable(v for v in level if type(v) is list))
    return kinds <= wanted


def _wrong(wanted: frozenset[type], where: str) -> RequestError:
    only = "numbers or booleans only, no strings, nulls"
    if bool not in wanted:
        only = "numbers only, no strings, nulls, booleans"
    return RequestError("WRONG_TYPE", f"{where} has to hold {only} or objects")


def is_shape(shape: object) -> TypeGuard[list[int]]:
    """Say whether `shape` is a list of whole numbers ≥ 0."""
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


def listed(scores: Array) -> object:
    """Return scores as something `answer` can write: strings as a list, numbers as they are."""
    if scores.dtype.kind in "fiub":
        return np.ascontiguousarray(scores)
    return scores.tolist()


def _kind(value: object) -> str:
    """Return what JSON calls a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")
