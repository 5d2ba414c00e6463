"""Calls a class as Seldon's Python wrapper does: what it gets, and what it may answer.

It gets rows as an array, text, bytes or JSON, and answers with one of them. Every answer is made
writable here, in the component's process, so that an answer that cannot be written is its error.

python/seldon_core/user_model.py and seldon_methods.py of seldon-core 1.17.1
"""

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_pipeline.serving.custom.answers import (
    ComponentError,
    as_json,
    as_metadata,
    as_metrics,
    as_tags,
    kind_of,
    out_of_memory,
    unwritable,
    writable,
)

_NOT_IMPLEMENTED, _RESPONSE = "SeldonNotImplementedError", "SeldonResponse"
_REFUSAL, _SELDON = "SeldonMicroserviceException", "seldon_core"
"""Names, because the class may bring Seldon's own package."""


@dataclass
class Reply:
    """The answer of the class to one request."""

    value: Any
    """An array of numbers, a list, text, bytes or a JSON object."""
    names: list[str] | None = None
    """`class_names`, else the columns of a data frame; None: there are none."""
    tags: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Guard:
    """Runs code of the class; whatever it raises is an error with its place."""

    title: str
    """The name of the class."""
    folder: Path
    """Where its code is."""

    def run(self, method: str, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, which calls `method`.

        Raises:
            ComponentError: it raised something, also SystemExit and the panics of Rust.
        """
        try:
            return function()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._translated(method, error) from error

    def _translated(self, method: str, error: BaseException) -> ComponentError:
        where = f"{self.title}.{method}"
        if isinstance(error, MemoryError):
            return out_of_memory(where)
        status = getattr(error, "status_code", None) if _is_a(error, _REFUSAL) else None
        text = str(getattr(error, "message", "") or error).strip()
        line = (text.splitlines() or ["no message"])[0][:300].rstrip(".")
        if type(status) is int and 400 <= status < 600:
            reason = str(getattr(error, "reason", "") or type(error).__name__)[:80]
            return ComponentError(reason, line, status=status)
        traceback.print_exception(error)  # Into the server's log.
        return ComponentError(
            "RAISED", f"{where} raised {type(error).__name__}: {line}{self._place(error)}"
        )

    def _place(self, error: BaseException) -> str:
        """Return the line of the class's code where an error was raised."""
        folder = str(self.folder.resolve())
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(folder)]
        return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


class Component:
    """An object of the class, loaded."""

    def __init__(self, user: object, guard: Guard) -> None:
        """`user` is the object, whose methods `guard` runs.

        Raises:
            ComponentError: it cannot be called.
        """
        self.user = user
        self.title = guard.title
        self._guard = guard
        self.has_raw = self._has("predict_raw")
        self.has_health = self._has("health_status") or self._has("health_status_raw")
        self.is_rowwise = getattr(user, "is_rowwise", False) is True and not self.has_raw
        if not self.has_raw or self._has("predict"):
            self._predict = self._bound_predict()
        else:
            self._predict = self._no_predict

    def _has(self, name: str) -> bool:
        """Say whether the class has a method, not only Seldon's base class, whose methods raise."""
        if not callable(getattr(self.user, name, None)):
            return False
        owners = [one for one in type(self.user).__mro__ if name in vars(one)]
        return not owners or owners[0].__module__.partition(".")[0] != _SELDON

    def _no_predict(self, *_: object) -> Any:
        raise ComponentError("NO_PREDICT", f"{self.title} has no method predict")

    def _bound_predict(self) -> Callable[[Any, list[str], dict[str, Any]], Any]:
        """Return `predict` with the arguments that it takes.

        Raises:
            ComponentError: it has no such method, or it takes other arguments.
        """
        predict: Any = getattr(self.user, "predict", None)
        if not self._has("predict"):
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

    def load(self) -> None:
        """Call `load`, if the class has it; as in the wrapper, it may not be implemented.

        Raises:
            ComponentError: it raised something else.
        """
        try:
            self.optional("load")
        except ComponentError as error:
            if not isinstance(error.__cause__, NotImplementedError):
                raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method that the class has.

        Raises:
            ComponentError: it raised something.
        """
        return self._guard.run(method, lambda: getattr(self.user, method)(*arguments))

    def optional(self, method: str) -> Any:
        """Return what a method returns; None if the class does not implement it."""
        if not self._has(method):
            return None
        try:
            return self.call(method)
        except ComponentError as error:
            if _is_a(error.__cause__, _NOT_IMPLEMENTED):
                return None
            raise

    def predict(self, value: Any, names: list[str], meta: dict[str, Any]) -> Reply:
        """Answer features: an array, text, bytes or JSON.

        Raises:
            ComponentError: the class raised something, or its answer cannot be written.
        """
        answer = self._guard.run("predict", lambda: self._predict(value, names, meta))
        where = f"{self.title}.predict"
        tags: dict[str, Any] = {}
        metrics: list[dict[str, Any]] = []
        if type(answer).__name__ == _RESPONSE:
            tags, metrics = as_tags(answer.tags, where), as_metrics(answer.metrics)
            answer = answer.data
        columns = getattr(answer, "columns", None)  # Of a data frame.
        found = writable(answer, where=where)
        metrics = [*as_metrics(self.optional("metrics")), *metrics]
        tags = {**as_tags(self.optional("tags"), f"{self.title}.tags"), **tags}
        own = self._class_names(found)
        if own is None and columns is not None and not isinstance(found, str | bytes | dict):
            own = [str(name) for name in columns]
        return Reply(found, own, tags, metrics)

    def predict_raw(self, message: dict[str, Any]) -> Reply:
        """Answer a SeldonMessage as JSON with another one; `value` is the message.

        Raises:
            ComponentError: the class raised something, or its answer is no such message; the reason
                is NOT_IMPLEMENTED if it wants `predict` to be called.
        """
        where = f"{self.title}.predict_raw"
        try:
            answer = self.call("predict_raw", message)
        except ComponentError as error:
            if _is_a(error.__cause__, _NOT_IMPLEMENTED):
                raise ComponentError("NOT_IMPLEMENTED", str(error)) from error
            raise
        if not isinstance(answer, Mapping):
            raise unwritable(where, f"returned {kind_of(answer)}, expected a dict")
        meta = answer.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise unwritable(where, "returned a meta that is not a dict")
        tags, metrics = as_tags(meta.get("tags"), where), as_metrics(meta.get("metrics"))
        return Reply(as_json(dict(answer), where), None, tags, metrics)

    def _class_names(self, value: Any) -> list[str] | None:
        """Return the names of an answer's columns; None if it has none."""
        columns = getattr(value, "ndim", 0) > 1 or (
            isinstance(value, list) and bool(value) and isinstance(value[0], list)
        )
        return self.class_names() if columns else None

    def class_names(self) -> list[str] | None:
        """Return `class_names`, a method or an attribute; None if the class has none."""
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
        return {} if given is None else as_metadata(given, f"{self.title}.init_metadata")

    def health(self) -> Any:
        """Return what `health_status` says; None: it is not implemented, so all is well.

        Raises:
            ComponentError: it raised something.
        """
        for method in ("health_status_raw", "health_status"):
            if not self._has(method):
                continue
            try:
                return writable(self.call(method), where=f"{self.title}.{method}")
            except ComponentError as error:
                if not _is_a(error.__cause__, _NOT_IMPLEMENTED):
                    raise
        return None


def _is_a(error: object, name: str) -> bool:
    """Say whether an error is of the class of that name, or of one derived from it."""
    return any(one.__name__ == name for one in type(error).__mro__)
