"""Rows of numbers for a custom component, and its answer as scores: V2 and TF Serving's protocol.

Seldon's protocol passes requests on as they are: see `protocols/seldon_component`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.custom.process import Answered, Call, ComponentProcess
from mlops_pipeline.serving.models import Answers, Question, Scores
from mlops_pipeline.serving.scores import Array, UnwritableError, as_scores

OUTPUT = "predict"
"""The name of the only output."""


async def compute(process: ComponentProcess, question: Question, *, deadline: float) -> Scores:
    """Return the scores of a question that shares no call.

    Raises:
        RequestError: as `ComponentProcess.call`, or the answer has not one item per row.
    """
    rows = question.rows
    answered = await process.ask(call_of(process, rows), deadline=deadline)
    scores = as_scores(array_of(answered), rows=len(rows), output=OUTPUT)
    return Answers([(OUTPUT, scores)], tags=answered.tags, metrics=answered.metrics)


def answers(process: ComponentProcess, rows: Array, _: Sequence[str]) -> Answers[object]:
    """Return the answer to rows as `Signature.compute` does, in this thread.

    Raises:
        RequestError: as `ComponentProcess.call`, or the answer is no array.
    """
    answered = process.call(call_of(process, rows))
    return Answers([array_of(answered)], tags=answered.tags, metrics=answered.metrics)


def call_of(process: ComponentProcess, rows: Array) -> Call:
    """Return the call with rows of numbers."""
    names = process.facts.feature_names
    if not process.facts.has_raw:
        return Call(rows, names=names)
    data = {"names": list(names), "ndarray": rows.tolist()}
    return Call({"data": data, "meta": {}}, method="raw")


def array_of(answered: Answered) -> Any:
    """Return the answer as an array or a list of rows.

    Raises:
        UnwritableError: it is text, bytes or JSON.
    """
    value = answered.value
    if isinstance(value, dict) and isinstance(data := value.get("data"), dict):
        value = data.get("ndarray")
        if isinstance(tensor := data.get("tensor"), dict):
            value = np.reshape(tensor.get("values", []), tensor.get("shape", [-1]))
    if not isinstance(value, np.ndarray | list):
        kind = "text" if isinstance(value, str) else "bytes or JSON"
        raise UnwritableError(
            OUTPUT, f"is {kind}, which only Seldon's protocol can answer; return an array of rows"
        )
    return value
