"""Rows of numbers for a custom component, and its answer as scores: V2 and TF Serving's protocol.

Seldon's protocol passes requests on as they are: see `protocols/seldon_component`. The names that
the class gets are `Signature.columns` in every protocol, else those of the request: see `named`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mlops_pipeline.serving.batch_limits import ALONE
from mlops_pipeline.serving.custom.calls import Answered, Call
from mlops_pipeline.serving.custom.process import NOT_IMPLEMENTED, ComponentProcess
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Answers, Question, Scores, Signature
from mlops_pipeline.serving.scores import Array, UnwritableError, as_scores

OUTPUT = "predict"
"""The name of the only output."""
_BAD = 400


async def compute(process: ComponentProcess, question: Question, *, deadline: float) -> Scores:
    """Return the scores of a question that shares no call.

    Raises:
        RequestError: as `ComponentProcess.call`, or the answer has not one item per row.
    """
    rows, names = question.rows, question.signature.columns
    call = call_of(process, rows, names)
    try:
        answered = await process.ask(call, deadline=deadline)
        value = array_of(answered, is_message=call.method == "raw")
    except RequestError as error:
        if error.reason != NOT_IMPLEMENTED:
            raise
        answered = await process.ask(_predicting(rows, names), deadline=deadline)
        value = array_of(answered)
    scores = as_scores(value, rows=len(rows), output=OUTPUT)
    return _with(Answers([(OUTPUT, scores)]), answered)


def named(signature: Signature, names: Sequence[str]) -> Signature:
    """Return a component's signature for a request that names the columns of its rows.

    Without names of its own, the class gets the request's, and the request shares no call.
    """
    process = signature.component
    if process is None or signature.columns or not names:
        return signature
    columns = tuple(names)
    return replace(
        signature, columns=columns, batch=ALONE, compute=partial(answers, process, columns)
    )


def answers(
    process: ComponentProcess, names: Sequence[str], rows: Array, _: Sequence[str]
) -> Answers[object]:
    """Return the answer to rows as `Signature.compute` does, in this thread; `names`: of columns.

    Raises:
        RequestError: as `ComponentProcess.call`, or the answer is no array.
    """
    call = call_of(process, rows, names)
    try:
        answered = process.call(call)
        value = array_of(answered, is_message=call.method == "raw")
    except RequestError as error:
        if error.reason != NOT_IMPLEMENTED:
            raise
        answered = process.call(_predicting(rows, names))
        value = array_of(answered)
    return _with(Answers([value]), answered)


def _with(found: Answers[Any], answered: Answered) -> Answers[Any]:
    """Add what the class says beside its answer."""
    found.tags, found.metrics, found.columns = answered.tags, answered.metrics, answered.names
    return found


def call_of(process: ComponentProcess, rows: Array, names: Sequence[str]) -> Call:
    """Return the call with rows of numbers, and the names of their columns."""
    call = _predicting(rows, names)
    if not process.facts.has_raw:
        return call
    data = {"names": list(call.names), "ndarray": rows.tolist()}
    return replace(call, value={"data": data, "meta": dict(call.meta)}, method="raw")


def _predicting(rows: Array, names: Sequence[str]) -> Call:
    """Return the call of `predict`; like every prediction, it has a name."""
    return Call(rows, names=tuple(names), meta={"puid": uuid.uuid4().hex})


def array_of(answered: Answered, *, is_message: bool = False) -> Any:
    """Return the answer as an array or a list of rows; `is_message`: it is of `predict_raw`.

    Raises:
        RequestError: it is a message with the status of an error.
        UnwritableError: it is text, bytes or JSON.
    """
    value = answered.value
    if is_message and isinstance(value, dict):
        check_status(value)
        data = value.get("data")
        if isinstance(data, dict):
            value = data.get("ndarray")
            if isinstance(tensor := data.get("tensor"), dict):
                value = np.reshape(tensor.get("values", []), tensor.get("shape", [-1]))
    if not isinstance(value, np.ndarray | list):
        kind = "text" if isinstance(value, str) else "bytes or JSON"
        raise UnwritableError(
            OUTPUT, f"is {kind}, which only Seldon's protocol can answer; return an array of rows"
        )
    return value


def status_of(message: dict[str, Any]) -> int:
    """Return the HTTP status of a message of `predict_raw`: 200, or that of an error.

    Others, such as 204, have no body, and the connection would be out of step.
    """
    status = message.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    return code if type(code) is int and _BAD <= code < 600 else 200


def check_status(message: dict[str, Any]) -> None:
    """Require that a message of `predict_raw` has no status of an error.

    Raises:
        RequestError: it has one.
    """
    if (code := status_of(message)) >= _BAD:
        said = message["status"]
        text = str(said.get("info") or "the class answered with an error")[:300]
        raise RequestError(str(said.get("reason") or "FAILURE")[:80], text, status=code)
