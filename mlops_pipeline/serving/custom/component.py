"""Calls a class as Seldon's Python wrapper does: what it gets, and what it may answer.

It gets rows as an array, text, bytes or JSON, and answers with one of them. Every answer is made
writable here, in the component's process, so that an answer that cannot be written is its error.

python/seldon_core/user_model.py and seldon_methods.py of seldon-core 1.17.1
"""

import inspect
import math
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
_NOT_IMPLEMENTED = "SeldonNotImplementedError"


class ComponentError(Exception):
    """What the class did wrong, or what it said about a request."""

    def __init__(self, reason: str, sentence: str, *, status: int = 500) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status


@dataclass
class Reply:
    """The answer of the class to one request."""

    value: Any
    """An array of numbers, a list, text, bytes or a JSON object."""
    names: list[str] | None = None
    """`class_names`; None: the class has none."""
    tags: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


class Component:
    """An object of the class, loaded."""

    def __init__(self, user: object, folder: Path) -> None:
        """`folder` is where its code is, for the place of an error.

        Raises:
            ComponentError: it cannot be called.
        """
        self.user = user
        self.title = type(user).__name__
        self._folder = str(folder.resolve())
        self.has_raw = self._has("predict_raw")
        self.has_health = self._has("health_status") or self._has("health_status_raw")
        self.is_rowwise = getattr(user, "is_rowwise", False) is True and not self.has_raw
        if not self.has_raw:
            self._predict = self._bound_predict()

    def _has(self, name: str) -> bool:
        return callable(getattr(self.user, name, None))

    def _bound_predict(self) -> Callable[[Any, list[str], dict[str, Any]], Any]:
        """Return `predict` with the arguments that it takes.

        Raises:
            ComponentError: it has no such method, or it takes other arguments.
        """
        predict = getattr(self.user, "predict", None)
        if not callable(predict):
            raise ComponentError("NO_PREDICT", f"{self.title} has no method predict or predict_raw")
        try:
            signature = inspect.signature(predict)
        except ValueError:  # Written in C.
            return lambda value, names, meta: predict(value, names, meta=meta)
        for arguments, options in (((0, 0), {"meta": 0}), ((0, 0), {}), ((0,), {})):
            try:
                signature.bind(*arguments, **options)
            except TypeError:
                continue
            if options:
                return lambda value, names, meta: predict(value, names, meta=meta)
            if len(arguments) == 2:
                return lambda value, names, meta: predict(value, names)
            return lambda value, names, meta: predict(value)
        raise ComponentError(
            "NO_PREDICT",
            f"{self.title}.predict takes {signature}; it must take (X, names, meta) or (X, names)",
        )

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method that the class has.

        Raises:
            ComponentError: it raised something.
        """
        return self.guarded(method, lambda: getattr(self.user, method)(*arguments))

    def guarded(self, method: str, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, which calls `method`.

        Raises:
            ComponentError: it raised something, also SystemExit and the panics of Rust.
        """
        try:
            return function()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._error(method, error) from error

    def optional(self, method: str) -> Any:
        """Return what a method returns; None if the class does not implement it."""
        if not self._has(method):
            return None
        try:
            return self.call(method)
        except ComponentError as error:
            if type(error.__cause__).__name__ == _NOT_IMPLEMENTED:
                return None
            raise

    def _error(self, method: str, error: BaseException) -> ComponentError:
        """Translate what a method raised."""
        where = f"{self.title}.{method}"
        if isinstance(error, MemoryError):
            return ComponentError(
                "OUT_OF_MEMORY",
                f"{where} needs more memory than it may have; send fewer rows, or raise the "
                "parameter max_memory",
            )
        status = getattr(error, "status_code", None)
        text = str(getattr(error, "message", "") or error).strip()
        line = (text.splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        if type(status) is int and 400 <= status < 600:
            reason = str(getattr(error, "reason", "") or type(error).__name__)[:80]
            return ComponentError(reason, line, status=status)
        return ComponentError(
            "RAISED", f"{where} raised {type(error).__name__}: {line}{self._place(error)}"
        )

    def _place(self, error: BaseException) -> str:
        """Return the line of the class's code where an error was raised."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(self._folder)]
        return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""

    def predict(self, value: Any, names: list[str], meta: dict[str, Any]) -> Reply:
        """Answer features: an array, text, bytes or JSON.

        Raises:
            ComponentError: the class raised something, or its answer cannot be written.
        """
        answer = self.guarded("predict", lambda: self._predict(value, names, meta))
        tags, metrics = {}, []
        if all(hasattr(answer, name) for name in ("data", "tags", "metrics")) and not isinstance(
            answer, np.ndarray
        ):
            tags, metrics, answer = dict(answer.tags), list(answer.metrics), answer.data
        found = self.writable(answer, method="predict")
        own = self.optional("metrics")
        metrics = self._metrics([*([] if own is None else _listed(own)), *metrics])
        tags = self._tags({**(self.optional("tags") or {}), **tags})
        return Reply(found, self._class_names(found), tags, metrics)

    def predict_raw(self, message: dict[str, Any]) -> Reply:
        """Answer a SeldonMessage as JSON with another one; `value` is the message.

        Raises:
            ComponentError: the class raised something, or its answer is no such message.
        """
        answer = self.call("predict_raw", message)
        if not isinstance(answer, Mapping):
            raise self._unwritable("predict_raw", f"returned {_kind(answer)}, expected a dict")
        meta = answer.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise self._unwritable("predict_raw", "returned a meta that is not a dict")
        tags = self._tags(meta.get("tags") or {})
        metrics = self._metrics(_listed(meta.get("metrics") or []))
        return Reply(self._json(dict(answer), "predict_raw"), None, tags, metrics)

    def writable(self, answer: Any, *, method: str) -> Any:
        """Return an answer as an array of numbers, a list, text, bytes or a JSON object.

        Raises:
            ComponentError: it is nothing, or something else.
        """
        if answer is None:
            raise ComponentError(
                "NO_ANSWER",
                f"{self.title}.{method} returned nothing; it must return an array or a list with "
                "one item per row, text, bytes or a dict",
            )
        if isinstance(answer, str):
            return answer
        if isinstance(answer, bytes | bytearray):
            return bytes(answer)
        if isinstance(answer, Mapping):
            return self._json(dict(answer), method)
        if hasattr(answer, "toarray"):  # A sparse matrix.
            answer = answer.toarray()
        if not isinstance(answer, list | tuple) and not hasattr(answer, "__array__"):
            raise self._unwritable(method, f"returned {_kind(answer)}; {_CAN_BE}")
        return self._array(answer, method)

    def _array(self, answer: Any, method: str) -> Any:
        """Return rows as an array of numbers, or as lists if they hold text."""
        try:
            array = np.asarray(answer)
        except ValueError as error:
            raise self._unwritable(method, "returned rows of different lengths") from error
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ComponentError(
                    "NOT_FINITE",
                    f"the answer of {self.title}.{method} has NaN or Infinity",
                    status=400,
                )
            return array
        # numpy turns the numbers beside text into text.
        rows = list(answer) if isinstance(answer, list | tuple) else array.tolist()
        return self._json(rows, method)

    def _json(self, value: Any, method: str) -> Any:
        try:
            options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
            return orjson.loads(orjson.dumps(value, default=_plain, option=options))
        except (TypeError, ValueError) as error:
            raise self._unwritable(
                method, f"returned {_kind(value)} that JSON cannot hold: {error}"
            ) from error

    def _class_names(self, value: Any) -> list[str] | None:
        """Return `class_names`, a method or an attribute; None if the answer has no columns."""
        columns = getattr(value, "ndim", 0) > 1 or (
            isinstance(value, list) and bool(value) and isinstance(value[0], list)
        )
        if not columns:
            return None
        given = getattr(self.user, "class_names", None)
        if callable(given):
            given = self.optional("class_names")
        return None if given is None else [str(name) for name in given]

    def feature_names(self) -> list[str]:
        """Return `feature_names`; empty if the class has none."""
        given = getattr(self.user, "feature_names", None)
        if callable(given):
            given = self.optional("feature_names")
        return [] if given is None else [str(name) for name in given]

    def metadata(self) -> dict[str, Any]:
        """Return `init_metadata`.

        Raises:
            ComponentError: it is no dict, or has an unknown field.
        """
        given = self.optional("init_metadata")
        if given is None:
            return {}
        if not isinstance(given, Mapping) or set(given) - set(METADATA):
            raise self._unwritable(
                "init_metadata", f"must return a dict with only {', '.join(METADATA)}"
            )
        found: dict[str, Any] = self._json(dict(given), "init_metadata")
        custom = found.get("custom", {})
        tensors = [*_items(found.get("inputs", [])), *_items(found.get("outputs", []))]
        if (
            not all(isinstance(one, dict) and not set(one) - set(TENSOR) for one in tensors)
            or not all(isinstance(found.get(name, ""), str) for name in ("name", "platform"))
            or not all(isinstance(name, str) for name in _items(found.get("versions", [])))
            or not isinstance(custom, dict)
            or not all(isinstance(text, str) for text in custom.values())
        ):
            raise self._unwritable(
                "init_metadata",
                "must return name and platform as strings, versions as a list of strings, inputs "
                f"and outputs as lists of dicts with {', '.join(TENSOR)}, custom as a dict of "
                "strings",
            )
        return found

    def health(self) -> Any:
        """Return what `health_status` says.

        Raises:
            ComponentError: it raised something.
        """
        method = "health_status_raw" if self._has("health_status_raw") else "health_status"
        return self.writable(self.call(method), method=method)

    def _tags(self, tags: Any) -> dict[str, Any]:
        if not isinstance(tags, Mapping):
            raise self._unwritable("tags", f"returned {_kind(tags)}, expected a dict")
        found: dict[str, Any] = self._json(dict(tags), "tags")
        return found

    def _metrics(self, metrics: list[Any]) -> list[dict[str, Any]]:
        """Return the metrics if all of them are valid.

        Raises:
            ComponentError: one is not.
        """
        if len(metrics) > _MOST_METRICS:
            raise _bad_metric(f"{len(metrics)} metrics; at most {_MOST_METRICS} are allowed")
        return [_metric(metric) for metric in metrics]

    def _unwritable(self, method: str, problem: str) -> ComponentError:
        return ComponentError("UNWRITABLE", f"{self.title}.{method} {problem}")


_CAN_BE = "it must return an array or a list with one item per row, text, bytes or a dict"


def _items(value: Any) -> list[Any]:
    """Return a list; something else becomes an item that every check refuses."""
    return value if isinstance(value, list) else [value]


def _listed(metrics: Any) -> list[Any]:
    if not isinstance(metrics, list | tuple):
        raise _bad_metric(f"expected a list, got {_kind(metrics)}")
    return list(metrics)


def _metric(metric: Any) -> dict[str, Any]:
    """Return a metric with only its key, type, value and tags.

    Raises:
        ComponentError: it is invalid, or has one of our names.
    """
    if not isinstance(metric, Mapping):
        raise _bad_metric(f"expected a dict, got {_kind(metric)}")
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


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Return a value that orjson does not know as one that it does."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"it contains {_kind(value)}")
