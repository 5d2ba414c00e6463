"""Parsing and writing JSON: bodies of requests, arrays of numbers in them, scores."""

import codecs
import contextlib
from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np
import orjson

from mlops_pipeline.serving import texts
from mlops_pipeline.serving.cells import as_objects, read_cells
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import FORM, JSON, Request
from mlops_pipeline.serving.schema import kind_of
from mlops_pipeline.serving.scores import Array

if TYPE_CHECKING:
    from mlops_pipeline.serving.models import Signature

SMALL = 2048
"""Bytes of a body below which its strings can do no harm (see `numbers`)."""


def parse_object(request: Request) -> dict[str, Any]:
    """Parse a JSON object from the body.

    A body without a content type, or with the default one of `curl -d`, is JSON too.

    Raises:
        RequestError: it has another content type, is not JSON (NaN and Infinity are not), or not an
            object.
    """
    kind = request.content_type
    if kind != JSON and kind:
        _check_content_type(kind)
    try:
        # Editors on Windows write a byte order mark.
        document = orjson.loads(request.body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise RequestError("BAD_JSON", _explain(request.body, error)) from error
    if type(document) is not dict:
        raise RequestError(
            "BAD_JSON", f"expected a JSON object as the body, got {kind_of(document)}"
        )
    return document


def _check_content_type(kind: bytes) -> None:
    """Raise an error unless the content type is JSON's, or the default one of `curl -d`."""
    essence = kind.split(b";", 1)[0].strip().lower()
    if essence not in (JSON, FORM):
        name = essence.decode("latin-1")[:80]
        raise RequestError(
            "WRONG_CONTENT_TYPE", f"expected the content type application/json, got {name!r}"
        )


def _explain(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Say why a body is not JSON."""
    if not body:
        return "expected a JSON object as the body, got an empty body"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "the body is text in UTF-16; send it in UTF-8"
    if b"NaN" in body or b"Infinity" in body:
        return f"the body is not JSON, which has no NaN or Infinity: {error}"
    return f"the body is not JSON: {error}"


def find_one(message: Mapping[str, Any], keys: Sequence[str], *, where: str) -> str | None:
    """Return the one of `keys` that has a value, None if none has. null is not a value.

    Raises:
        RequestError: several have a value, and only one of them would be answered.
    """
    given = [key for key in keys if message.get(key) is not None]
    if len(given) > 1:
        raise RequestError("AMBIGUOUS", f"{where} has {' and '.join(given)}; send one of them")
    return given[0] if given else None


def numbers_for(
    signature: "Signature", values: object, *, where: str, body: bytes | None = None
) -> Array:
    """Return a nested list as an array of the type that a model expects; see `numbers`."""
    return numbers(
        values,
        where=where,
        body=body,
        wanted=signature.dtype,
        booleans=signature.takes_booleans,
    )


def numbers(
    values: object,
    *,
    where: str,
    body: bytes | None,
    wanted: np.dtype[Any],
    booleans: bool = False,
) -> Array:
    """Return a nested list of numbers as an array of that shape; of booleans, if they are `wanted`.

    If objects are wanted, values may be of any type: see `cells.read_cells`.

    null, a missing value, becomes NaN, which `models.conform` accepts or refuses. With `booleans`
    some columns have true and false: a list with these becomes an array of objects, whose columns
    `models.conform` checks.
    `where` names the list in errors, `body` is the JSON that it came from, if any. Callers pass
    their only reference, so that a large list is freed before the prediction: it takes ten times
    the memory of the array, and longer-lived objects would be allocated between its items.

    Raises:
        RequestError: not a list, ragged, nested too deep, or an item is not a number.
    """
    if wanted.kind == "O":
        return read_cells(values, where=where)
    if type(values) is not list:
        raise RequestError(
            "WRONG_TYPE", f"expected a list of rows in {where}, got {kind_of(values)}"
        )
    # numpy accepts true as 1.0 in a row of numbers, and gives every number the memory of the
    # longest string among them: gigabytes, from a few kilobytes. The search takes time, so it is
    # done only if necessary.
    types = _WITH_BOOLEANS if wanted.kind == "b" else _CELLS if booleans else _NUMBERS
    may_harm = body is None or len(body) > SMALL or b"true" in body or b"false" in body
    regular = _flattened(values) if may_harm else None
    if may_harm and not (regular.kinds <= types if regular else _holds_only(types, values)):
        raise _wrong(types, where)
    if booleans and regular and bool in regular.kinds:
        return as_objects(regular.items).reshape(regular.shape)
    try:
        array = regular.array() if regular else np.array(values)
        if array.dtype.kind == "O" and _holds_only(_NUMBERS, values):
            array = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RequestError(
            "RAGGED", f"{where} has rows of different lengths, or is nested too deep"
        ) from error
    if array.dtype.kind not in ("fiub" if bool in types else "fiu"):
        raise _wrong(types, where)
    if wanted == np.uint64 and array.dtype.kind == "f" and _holds_only(_INTEGERS, values):
        with contextlib.suppress(OverflowError):  # numpy turns integers beyond 2^63 into floats.
            return np.array(values, dtype=wanted)
    return array


_DEEPEST = 32


class _Flat(NamedTuple):
    """The items of nested lists of equal lengths, which numpy reads twice as fast as the lists."""

    shape: list[int]
    items: list[Any]
    kinds: set[type]
    """The types of the items."""

    def array(self) -> Array:
        """Return the items as an array of the shape, with the type that numpy would choose."""
        if float in self.kinds and self.kinds <= _FLOATS:
            return np.fromiter(self.items, np.float64, len(self.items)).reshape(self.shape)
        return np.array(self.items).reshape(self.shape)


def _flattened(values: list[Any]) -> _Flat | None:
    """Return the items of nested lists; None if they are ragged or nested deep."""
    shape, level = [len(values)], values
    while (kinds := set(map(type, level))) == {list}:
        sizes = set(map(len, level))
        if len(sizes) > 1 or len(shape) == _DEEPEST:
            return None
        shape += sizes
        level = list(chain.from_iterable(level))
    return None if list in kinds else _Flat(shape, level, kinds)


_FLOATS = frozenset({float, int})
_INTEGERS = frozenset({int})
_NUMBERS: frozenset[type] = frozenset({float, int, type(None)})
_WITH_BOOLEANS = frozenset({float, int, bool})
_CELLS = _NUMBERS | _WITH_BOOLEANS


def _holds_only(wanted: frozenset[type], values: list[Any]) -> bool:
    """Say whether a nested list of any depth contains only values of these types."""
    level, allowed = values, wanted | {list}
    while list in (kinds := set(map(type, level))) and kinds <= allowed:
        level = list(chain.from_iterable(v for v in level if type(v) is list))
    return kinds <= wanted


def _wrong(wanted: frozenset[type], where: str) -> RequestError:
    only = "numbers only, no strings, booleans"
    if bool in wanted:
        nulls = "" if type(None) in wanted else ", nulls"
        only = f"numbers or booleans only, no strings{nulls}"
    return RequestError("WRONG_TYPE", f"{where} may contain {only} or objects")


def is_shape(shape: object) -> TypeGuard[list[int]]:
    """Say whether `shape` is a list of whole numbers ≥ 0."""
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


_MOST_EMPTY = 65536
"""Maximum of rows without values: they cost a few bytes to send, but the model's memory."""


def is_possible(shape: Sequence[int]) -> bool:
    """Say whether an array of a request may have this shape of whole numbers ≥ 0.

    A size of 0 makes any others free to send: only an empty batch, which is refused later, may have
    large ones.
    """
    if len(shape) > _DEEPEST or max(shape, default=0) >= 1 << 31:
        return False
    if 0 not in shape:
        return True
    others = prod(size for size in shape if size)
    return others <= _MOST_EMPTY or (shape[0] == 0 and others < 1 << 31)


def listed(scores: Array) -> object:
    """Return scores as `answer` can write them: strings as a list, numbers unchanged.

    Bytes that are not text become `{"b64": …}`, as in a request.
    """
    if scores.dtype.kind in "fiub":
        return np.ascontiguousarray(scores)
    return texts.to_json(scores)
