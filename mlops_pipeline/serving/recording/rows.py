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

from mlops_pipeline.serving.models import Question
from mlops_pipeline.serving.recording.exchange import Exchange, Source
from mlops_pipeline.serving.recording.format import ANSWER, FEEDBACK, Recording
from mlops_pipeline.serving.scores import Array

MOST_BODY_BYTES = 256 << 10
"""Bytes of a request's body, or of the scores, above which only the other fields are recorded."""
MASKED, LARGE = "masked", "too large"
"""Why a row has no input or output, in the field `omitted`."""
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
    """A SeldonMessage as JSON has it, or None."""


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
        row = {
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
        """Return the line of a feedback."""
        truth, omitted = self._truth(feedback.truth)
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
            found = self._rows(exchange.question)
            scores = exchange.scores
            output = {name: _plain(v) for name, v in scores if name not in self._mask}
            return {**found, "output": output}
        if exchange.call is not None and exchange.answered is not None:
            found = self._values(exchange.call.value, exchange.call.names)
            answered = exchange.answered.value
            if self._mask and not isinstance(answered, np.ndarray):
                return {**found, "omitted": MASKED}  # The class may repeat what it was asked.
            return {**found, "output": _plain(answered)}
        return {}

    def _rows(self, question: Question) -> dict[str, Any]:
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
        own = signature.schema.names if signature.schema is not None else ()
        return self._values(rows, signature.columns or own)

    def _values(self, values: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the fields of rows with these names of columns; none if they are not known.

        The settings may have other names for the same columns than the model: both are masked.
        """
        names = tuple(names or self._columns)
        others = self._columns if len(self._columns) == len(names) else names
        if not self._mask:
            return {"columns": names or None, "input": _plain(values)}
        if not isinstance(values, np.ndarray) or not _are_columns(names, values):
            return {"omitted": MASKED}
        both = enumerate(zip(names, others, strict=True))
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
        if not isinstance(data, Mapping):
            others = ("jsonData", "strData", "binData")
            found = next((message[key] for key in others if message.get(key) is not None), None)
            return (None, MASKED) if found is not None and self._mask else (found, None)
        if self._mask & set(map(str, data.get("names") or ())):
            return None, MASKED
        return _of_data(data), None


def size_of(exchange: Exchange) -> int:
    """Return about how many bytes an exchange keeps in memory."""
    scores = sum(values.nbytes for _, values in exchange.scores)
    answered = exchange.answered.value if exchange.answered is not None else None
    if isinstance(answered, np.ndarray):
        scores += answered.nbytes
    elif isinstance(answered, str | bytes):
        scores += len(answered)
    return exchange.size + int(scores)


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
