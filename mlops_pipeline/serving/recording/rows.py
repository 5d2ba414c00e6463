"""An exchange or a feedback as a line of JSON, without the columns to mask.

What is recorded is what the model got and returned, after the protocol was parsed: the same for all
protocols. A column that is masked is left out, together with its name. If it cannot be told which
values belong to a masked column, the input is left out.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from mlops_pipeline.serving.models import Question
from mlops_pipeline.serving.recording.exchange import Exchange, Source
from mlops_pipeline.serving.recording.format import ANSWER, FEEDBACK, Recording
from mlops_pipeline.serving.scores import Array

MOST_BODY_BYTES = 256 << 10
"""Bytes of a request's body, or of the scores, above which only the other fields are recorded."""
_PARSED = 20
"""Bytes of parsed JSON for each byte of its text, at most about: `[1],` is a list of 72 bytes."""
MASKED, LARGE = "masked", "too large"
"""Why a row has no input or output, in the field `omitted`."""
_MOST_HEADS = 100
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True)
class Feedback:
    """What a client tells later about an answer."""

    source: Source
    identifier: str
    """Of the answer; empty if the client did not say it."""
    time: float
    """Seconds since 1970."""
    reward: float | None
    truth: object
    """A SeldonMessage, or as JSON has it, or None."""
    size: int = 0
    """Bytes of the whole feedback."""
    is_large: bool = False
    """Whether it was too large for its truth to be recorded."""


class Lines:
    """Writes rows of one model's server."""

    def __init__(self, recording: Recording, *, model: str, deployment: str) -> None:
        self._mask = frozenset(recording.mask)
        self._columns = recording.columns
        self._place = {
            "model": model,
            "namespace": recording.namespace,
            "deployment": deployment,
        }
        self._heads: dict[tuple[str, Source], bytes] = {}
        self._second, self._moment = -1, ""

    def of_exchange(self, exchange: Exchange) -> bytes:
        """Return the line of an answer; of an error without input and output.

        Raises:
            TypeError: JSON cannot represent what a custom component returned.
        """
        row: dict[str, Any] = {
            "id": exchange.identifier,
            "time": self._time(exchange.time),
            "status": exchange.status,
            "reason": exchange.reason,
            "latency_ms": round(exchange.seconds * 1000, 3),
            "columns": None,
            "input": None,
            "output": None,
            "omitted": None,
        }
        if not exchange.reason:
            row |= self._content(exchange)
        return self._line(ANSWER, exchange.source, row)

    def of_feedback(self, feedback: Feedback) -> bytes:
        """Return the line of a feedback.

        Raises:
            Error: of protobuf's JSON: the truth has a list with NaN.
        """
        told = feedback.truth
        told = MessageToDict(told) if isinstance(told, Message) else told
        truth, omitted = (None, LARGE) if feedback.is_large else self._truth(told)
        row = {
            "id": feedback.identifier,
            "time": self._time(feedback.time),
            "reward": feedback.reward,
            "truth": truth,
            "omitted": omitted,
        }
        return self._line(FEEDBACK, feedback.source, row)

    def _line(self, kind: str, source: Source, row: Mapping[str, Any]) -> bytes:
        """Return the line; what all rows of a source have in common is written only once."""
        head = self._heads.get((kind, source))
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            common = orjson.dumps({"kind": kind, **self._place, **source._asdict()})
            head = self._heads[kind, source] = common[:-1] + b","
        return head + orjson.dumps(row, _other, _OPTIONS)[1:]

    def _time(self, time: float) -> str:
        """Return a time as ISO 8601 with milliseconds, `2026-01-31T12:00:00.123Z`."""
        second = int(time)
        if second != self._second:
            moment = datetime.fromtimestamp(second, UTC)
            self._second, self._moment = second, f"{moment:%Y-%m-%dT%H:%M:%S}"
        return f"{self._moment}.{int((time - second) * 1000):03d}Z"

    def _content(self, exchange: Exchange) -> dict[str, Any]:
        """Return the fields of the input and the output."""
        if exchange.is_large:
            return {"omitted": LARGE}
        if exchange.question is not None:
            found = self._rows(exchange, exchange.question)
            names = getattr(exchange.scores, "columns", None)
            is_of_class = exchange.question.signature.component is not None
            return self._with_output(found, exchange, names, is_of_class=is_of_class)
        if exchange.call is not None and exchange.answered is not None:
            found = self._of_call(exchange, exchange.call.value, exchange.call.names)
            answered = exchange.answered
            if not self._mask:
                return {**found, "output": _plain(answered.value)}
            if not isinstance(answered.value, np.ndarray) or "input" not in found:
                return {**found, "omitted": MASKED}  # The class may repeat what it was asked.
            names = exchange.known.outputs if answered.names is None else answered.names
            shown = self._unmasked(answered.value, names)
            return {**found, "omitted": MASKED} if shown is None else {**found, "output": shown}
        return {}

    def _with_output(
        self,
        found: dict[str, Any],
        exchange: Exchange,
        names: Sequence[str] | None,
        *,
        is_of_class: bool,
    ) -> dict[str, Any]:
        """Add the scores, without masked ones.

        The scores of a class may be what it was asked: they are left out unless their columns have
        names, and names that it did not get from the client.
        """
        kept = {name: values for name, values in exchange.scores if name not in self._mask}
        outputs = exchange.known.outputs
        if self._mask and is_of_class:
            shown = {
                name: self._unmasked(values, outputs if names is None else names)
                for name, values in kept.items()
            }
            is_lost = "input" not in found or any(one is None for one in shown.values())
            return {**found, "omitted": MASKED} if is_lost else {**found, "output": shown}
        if self._mask.isdisjoint(outputs):
            return {**found, "output": {name: _plain(values) for name, values in kept.items()}}
        shown = {name: self._unmasked(values, outputs) for name, values in kept.items()}
        return {**found, "output": {name: one for name, one in shown.items() if one is not None}}

    def _unmasked(self, values: Array, names: Sequence[str]) -> Any:
        """Return the columns that are not masked; None if it is not known which are."""
        if not _are_columns(names, values):
            return None
        kept = [number for number, name in enumerate(names) if name not in self._mask]
        if values.ndim == 1:
            return _plain(values) if kept else None
        return _plain(values if len(kept) == len(names) else values[:, kept])

    def _rows(self, exchange: Exchange, question: Question) -> dict[str, Any]:
        """Return the fields of rows that a signature got."""
        signature, rows = question.signature, question.rows
        if signature.inputs:
            kept = [
                (number, one.name)
                for number, one in enumerate(signature.inputs)
                if one.name not in self._mask
            ]
            arrays = {name: [_plain(cell) for cell in rows[:, number]] for number, name in kept}
            return {"columns": [name for _, name in kept], "input": arrays}
        if signature.component is not None:
            return self._of_call(exchange, rows, signature.columns)
        schema = signature.schema.names if signature.schema is not None else ()
        return self._values(rows, signature.columns or schema, given=exchange.given)

    def _of_call(self, exchange: Exchange, values: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the fields of rows that a class got with these names, perhaps the client's."""
        own, names = exchange.known.columns, tuple(names)
        return self._values(values, own, given=() if names == own else names)

    def _values(
        self, values: Any, own: Sequence[str], *, given: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the fields of rows whose columns the model calls `own`.

        The settings may have other names for the same columns than the model: both are masked.
        `given` are names that only the client knows: with a mask, its values are left out.
        """
        own, others = tuple(own), self._columns
        names = own or others
        if not self._mask:
            return {"columns": given or names or None, "input": _plain(values)}
        is_doubtful = (given and given not in (own, others)) or (
            own and others and len(own) != len(others)
        )
        if is_doubtful or not isinstance(values, np.ndarray) or not _are_columns(names, values):
            return {"omitted": MASKED}
        both = enumerate(zip(names, others or names, strict=True))
        kept = [number for number, known in both if self._mask.isdisjoint(known)]
        if values.ndim == 1:  # A text, which has one column.
            return {"columns": names, "input": _plain(values)} if kept else {"omitted": MASKED}
        shown = values if len(kept) == len(names) else values[:, kept]
        return {"columns": [names[number] for number in kept], "input": _plain(shown)}

    def _truth(self, message: object) -> tuple[object, str | None]:
        """Return the values in a SeldonMessage, and why there are none."""
        if not isinstance(message, Mapping):
            return None, None
        data = message.get("data")
        if self._mask:
            return self._truth_of_columns(data) if message else (None, None)
        if not isinstance(data, Mapping):
            others = ("jsonData", "strData", "binData")
            found = next((message[key] for key in others if message.get(key) is not None), None)
            return found, None
        return _of_data(data), None

    def _truth_of_columns(self, data: object) -> tuple[object, str | None]:
        """Return a truth of which each column has a name that is not masked, else why not."""
        names = data.get("names") if isinstance(data, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(names, list) or data.get("tftensor"):
            return None, MASKED
        rows = _of_data(data)
        are_named = all(isinstance(name, str) and name not in self._mask for name in names)
        if not names or not are_named or not isinstance(rows, list):
            return None, MASKED
        cells = rows if len(names) == 1 and not any(isinstance(row, list) for row in rows) else None
        if cells is None:
            if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
                return None, MASKED
            cells = [cell for row in rows for cell in row]
        are_plain = all(isinstance(cell, str | int | float | None) for cell in cells)
        return (rows, None) if are_plain else (None, MASKED)


def size_of(exchange: Exchange) -> int:
    """Return the bytes of what is recorded: the larger of body and rows, and the answer."""
    question, answered = exchange.question, exchange.answered
    rows = question.rows.nbytes if question is not None else 0
    answer = sum(values.nbytes for _, values in exchange.scores)
    if answered is not None:
        value = answered.value
        answer = value.nbytes if isinstance(value, np.ndarray) else exchange.answer_size
        if isinstance(value, str | bytes):
            answer = max(answer, len(value))
    return max(exchange.size, int(rows)) + int(answer)


def memory_of(item: Exchange | Feedback) -> int:
    """Return at least about how many bytes an exchange or a feedback keeps in memory."""
    if isinstance(item, Feedback):
        return 0 if item.truth is None else _PARSED * item.size
    kept: list[Any] = [values for _, values in item.scores]
    if item.question is not None:
        kept.append(item.question.rows)
    if item.call is not None:
        kept.append(item.call.value)
    if item.answered is not None:
        kept.append(item.answered.value)
    if not kept:  # An error, or too large: only its other fields are kept.
        return 0
    are_plain = all(isinstance(one, np.ndarray) and one.dtype.kind != "O" for one in kept)
    return size_of(item) * (1 if are_plain else _PARSED)


def _are_columns(names: Collection[str], values: Array) -> bool:
    """Say whether each value belongs to the column of a name."""
    if values.ndim == 1:
        return len(names) == 1
    return values.ndim == 2 and len(names) == values.shape[1]


def _of_data(data: Mapping[str, Any]) -> object:
    tensor = data.get("tensor")
    if isinstance(tensor, Mapping):
        values = np.asarray(tensor.get("values") or [], dtype=object)
        shape = [int(size) for size in tensor.get("shape") or [len(values)]]
        return values.reshape(shape).tolist()
    return data.get("ndarray", data.get("tftensor"))


def _plain(value: Any) -> Any:
    """Return a value that orjson can write: arrays of numbers as they are."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.dtype.kind in "fiub" else value.tolist()
    return value


def _other(value: object) -> object:
    """Return what orjson cannot write itself: bytes as text, or in base64 as TF Serving does."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be recorded")
