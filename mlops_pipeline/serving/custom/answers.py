"""What a class may answer, in types that the server can write; anything else is its error."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

METADATA = ("name", "versions", "platform", "inputs", "outputs", "custom")
"""Fields of `init_metadata`."""
TENSOR = ("name", "datatype", "shape", "messagetype", "schema")
"""Fields of an input or output in `init_metadata`."""
METRICS = ("COUNTER", "GAUGE", "TIMER")
_KEY = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
_OURS = "mlops_"
_MOST_METRICS = 100
_CAN_BE = "it must return an array or a list with one item per row, text, bytes or a dict"


class ComponentError(Exception):
    """What the class did wrong, or what it said about a request."""

    def __init__(self, reason: str, sentence: str, *, status: int = 500) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status


def out_of_memory(where: str) -> ComponentError:
    """Return the error of a method that allocates more than it may."""
    return ComponentError(
        "OUT_OF_MEMORY",
        f"{where} needs more memory than it may have; send fewer rows, or raise the parameter "
        "max_memory",
    )


def writable(answer: Any, *, where: str) -> Any:
    """Return an answer as an array of numbers, a list, text, bytes or a JSON object.

    `where` is the method that returned it.

    Raises:
        ComponentError: it is nothing, or something else.
    """
    if answer is None:
        raise ComponentError(
            "NO_ANSWER",
            f"{where} returned nothing; it must return an array or a list with "
            "one item per row, text, bytes or a dict",
        )
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bytes | bytearray):
        return bytes(answer)
    if isinstance(answer, Mapping):
        return as_json(dict(answer), where)
    if hasattr(answer, "toarray"):  # A sparse matrix.
        answer = answer.toarray()
    if not isinstance(answer, list | tuple) and not hasattr(answer, "__array__"):
        raise unwritable(where, f"returned {kind_of(answer)}; {_CAN_BE}")
    return _array(answer, where)


def _array(answer: Any, where: str) -> Any:
    """Return rows as an array of numbers, or as lists if they hold text."""
    try:
        array = np.asarray(answer)
    except ValueError as error:
        raise unwritable(where, "returned rows of different lengths") from error
    if not array.ndim:
        raise unwritable(where, f"returned a single value of type {array.dtype.name}; {_CAN_BE}")
    if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _not_finite(where)
        # orjson writes only this machine's byte order.
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    # numpy turns the numbers beside text into text.
    rows = list(answer) if isinstance(answer, list | tuple) else array.tolist()
    return as_json(rows, where)


def as_json(value: Any, where: str) -> Any:
    """Return a value as JSON holds it.

    Raises:
        ComponentError: JSON cannot hold it, or a number in it is not finite.
    """
    if not _is_finite(value):
        raise _not_finite(where)
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        return orjson.loads(orjson.dumps(value, default=_plain, option=options))
    except (TypeError, ValueError) as error:
        raise unwritable(
            where, f"returned {kind_of(value)} that JSON cannot hold: {error}"
        ) from error


def _is_finite(value: Any) -> bool:
    """Say whether no number in nested lists and dicts is NaN or infinite: orjson writes null."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float | np.floating):
            if not math.isfinite(one):
                return False
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        elif isinstance(one, np.ndarray):
            if one.dtype.kind == "O":
                waiting += one.tolist()
            elif one.dtype.kind == "f" and not np.isfinite(one).all():
                return False
    return True


def _not_finite(where: str) -> ComponentError:
    return ComponentError("NOT_FINITE", f"the answer of {where} has NaN or Infinity", status=500)


def as_tags(tags: Any, where: str) -> dict[str, Any]:
    """Return tags as a JSON object; None has none.

    Raises:
        ComponentError: they are something else.
    """
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise unwritable(where, f"returned {kind_of(tags)} as tags, expected a dict")
    found: dict[str, Any] = as_json(dict(tags), where)
    return found


def as_metrics(metrics: Any) -> list[dict[str, Any]]:
    """Return the metrics if all of them are valid; None has none.

    Raises:
        ComponentError: one is not.
    """
    if metrics is None:
        return []
    if not isinstance(metrics, list | tuple):
        raise _bad_metric(f"expected a list, got {kind_of(metrics)}")
    if len(metrics) > _MOST_METRICS:
        raise _bad_metric(f"{len(metrics)} metrics; at most {_MOST_METRICS} are allowed")
    return [found for metric in metrics if (found := _metric(metric)) is not None]


def as_metadata(given: Any, where: str) -> dict[str, Any]:
    """Return what `init_metadata` says.

    Raises:
        ComponentError: it has an unknown field, or one of another type.
    """
    if not isinstance(given, Mapping) or set(given) - set(METADATA):
        raise unwritable(where, f"must return a dict with only {', '.join(METADATA)}")
    found: dict[str, Any] = as_json(dict(given), where)
    custom = found.get("custom", {})
    tensors = [*_items(found.get("inputs", [])), *_items(found.get("outputs", []))]
    if (
        not all(isinstance(one, dict) and not set(one) - set(TENSOR) for one in tensors)
        or not all(isinstance(found.get(name, ""), str) for name in ("name", "platform"))
        or not all(isinstance(name, str) for name in _items(found.get("versions", [])))
        or not isinstance(custom, dict)
        or not all(isinstance(text, str) for text in custom.values())
    ):
        raise unwritable(
            where,
            "must return name and platform as strings, versions as a list of strings, inputs and "
            f"outputs as lists of dicts with {', '.join(TENSOR)}, custom as a dict of strings",
        )
    return found


def unwritable(where: str, problem: str) -> ComponentError:
    """Return the error of an answer of the method `where`."""
    return ComponentError("UNWRITABLE", f"{where} {problem}")


def _items(value: Any) -> list[Any]:
    """Return a list; something else becomes an item that every check refuses."""
    return value if isinstance(value, list) else [value]


def _metric(metric: Any) -> dict[str, Any] | None:
    """Return a metric with only its key, type, value and tags; None if it is NaN or infinite.

    Raises:
        ComponentError: it is invalid, or has one of our names.
    """
    if not isinstance(metric, Mapping):
        raise _bad_metric(f"expected a dict, got {kind_of(metric)}")
    key, kind, value = (metric.get(name) for name in ("key", "type", "value"))
    tags = metric.get("tags") or {}
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith(_OURS):
        raise _bad_metric(f"its key is {key!r:.80}; use letters, digits and _")
    if kind not in METRICS:
        raise _bad_metric(f"the type of {key} is {kind!r:.80}; it must be {', '.join(METRICS)}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, float) and not math.isfinite(number):
        return None  # It is no fault of the prediction, and JSON cannot hold it.
    if isinstance(value, str) or not math.isfinite(number):
        raise _bad_metric(f"the value of {key} is {value!r:.80}; it must be a finite number")
    if kind == "COUNTER" and number < 0:
        raise _bad_metric(f"{key} is a COUNTER, which cannot be decreased by {number:g}")
    if not isinstance(tags, Mapping) or not all(_LABEL.fullmatch(str(name)) for name in tags):
        raise _bad_metric(f"the tags of {key} are {tags!r:.80}; they must be a dict of strings")
    written = {"key": key, "type": kind, "value": number}
    labels = {str(name): str(tag) for name, tag in tags.items()}
    return {**written, "tags": labels} if labels else written


def _bad_metric(problem: str) -> ComponentError:
    return ComponentError(
        "MICROSERVICE_BAD_METRIC", f"the class returned an invalid metric: {problem}"
    )


def kind_of(value: Any) -> str:
    """Return the type of a value, for messages."""
    return f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Return a value that orjson does not know as one that it does."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"it contains {kind_of(value)}")
