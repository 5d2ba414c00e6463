"""Seldon's protocol for a custom component, as by Seldon's Python wrapper (1.17).

The class gets `data` as an array, `strData` as text, `binData` as bytes and `jsonData` as it is,
and its answer becomes the field of its type. Its tags and metrics are in `meta`. gRPC answers the
same message as REST.

python/seldon_core/utils.py of seldon-core 1.17.1
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.json_format import (
    MessageToDict,
    ParseDict,
    ParseError,
    SerializeToJsonError,
)

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import texts
from mlops_pipeline.serving.batching import DEADLINE
from mlops_pipeline.serving.custom import rows as calling
from mlops_pipeline.serving.custom.calls import Answered, Call
from mlops_pipeline.serving.custom.process import NOT_IMPLEMENTED, ComponentProcess
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.forms import unwrap_form
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.payloads import find_one, parse_object
from mlops_pipeline.serving.protocols import mlflow, seldon, seldon_grpc
from mlops_pipeline.serving.protocols.seldon import (
    Unit,
    answer_meta,
    column_names,
    no_rows,
)
from mlops_pipeline.serving.protocols.seldon_features import (
    checked,
    encoded,
    encoding_of,
    features,
    has_rows,
)
from mlops_pipeline.serving.recording.exchange import keep_call
from mlops_pipeline.serving.scores import as_lists, check_digits

_KINDS = ("data", "jsonData", "strData", "binData")


@dataclass(frozen=True)
class Methods:
    """How Seldon's protocol is answered."""

    predictions: Callable[[Unit, Request], Awaitable[Answer]]
    """By REST."""
    predict: Callable[[Unit, pb.SeldonMessage], Awaitable[pb.SeldonMessage]]
    """By gRPC."""


def methods_of(unit: Unit) -> Methods:
    """Return how a unit answers: a custom component gets messages as they are."""
    if unit.model.default.component is not None:
        return Methods(predictions, predict)
    return Methods(seldon.predictions, seldon_grpc.predict)


async def predictions(unit: Unit, request: Request) -> Answer:
    """Answer `POST /api/v1.0/predictions`.

    Raises:
        RequestError: the body is no SeldonMessage, or the class refuses it or gives no answer.
    """
    request = unwrap_form(request)
    message = parse_object(request)
    status, document = await _answered(unit, message, request.body, puid=request.puid)
    return answer(document, status=status)


async def predict(unit: Unit, request: pb.SeldonMessage) -> pb.SeldonMessage:
    """Answer `Model/Predict` and `Seldon/Predict`.

    Raises:
        RequestError: as `predictions`; or the answer of `predict_raw` is no SeldonMessage.
    """
    message = _dict_of(request)
    _, document = await _answered(unit, message, None)
    calling.check_status(document)
    check_digits(document, cure="use REST")
    response = pb.SeldonMessage()
    try:
        ParseDict(as_lists(document), response, ignore_unknown_fields=True)
    except ParseError as error:
        raise RequestError(
            "UNWRITABLE", f"the answer is not a SeldonMessage: {error}", status=500
        ) from error
    return response


def _dict_of(request: pb.SeldonMessage) -> dict[str, Any]:
    """Return a message as JSON has it; a missing value in a tensor is NaN.

    Raises:
        RequestError: a list has NaN or Infinity, for which JSON has no number.
    """
    try:
        message: dict[str, Any] = MessageToDict(request)
    except SerializeToJsonError as error:
        raise RequestError(
            "WRONG_TYPE", f"data.ndarray has a value that is not finite: {error}; send a tensor"
        ) from error
    if request.data.HasField("tensor"):
        message["data"]["tensor"]["values"] = list(request.data.tensor.values)
    return message


async def _answered(
    unit: Unit, message: dict[str, Any], body: bytes | None, *, puid: str = ""
) -> tuple[int, dict[str, Any]]:
    """Return the status and the message that answer a message."""
    process = unit.model.default.component
    assert process is not None
    meta = answer_meta(unit, message.get("meta"), puid=puid)
    kind = find_one(message, _KINDS, where="the body")
    if process.facts.has_raw:
        message = checked(unit, message, kind, body)
        told = {**message, "meta": {**(message.get("meta") or {}), "puid": meta["puid"]}}
        try:
            call = Call(told, method="raw")
            found = await process.ask(call, deadline=DEADLINE.get())
            keep_call(call, found)
            return _raw(unit, found, meta)
        except RequestError as error:
            if error.reason != NOT_IMPLEMENTED:
                raise
    if kind is None:
        raise RequestError("NO_DATA", f"the body must have one of {', '.join(_KINDS)}")
    given = message.get("meta") or {}
    payload = message.pop(kind)
    if kind == "jsonData" and mlflow.is_payload(unit.model, payload):
        return 200, {kind: await mlflow.json_data(unit.model, payload, body), "meta": meta}
    # As Seldon's wrapper: numbers in an answer to something else than `data` are a tensor.
    encoding = encoding_of(payload) if kind == "data" else "tensor"
    asked = {**given, "puid": meta["puid"]}
    found = await _ask(unit, process, kind, payload, body, asked)
    _add_to(unit, meta, found, before=given.get("metrics"))
    return 200, {**_payload(unit, found, encoding), "meta": meta}


async def _ask(
    unit: Unit,
    process: ComponentProcess,
    kind: str,
    value: Any,
    body: bytes | None,
    meta: dict[str, Any],
) -> Answered:
    """Call `predict` of the class with the payload of a message."""
    model = unit.model
    names: tuple[str, ...] = ()
    if kind == "data":
        value, names = features(unit, value, body)
        shares = model.default.batch.rows > 1 and not (meta.get("tags") or meta.get("metrics"))
        # The class gets the names and the meta of all who share a call: nobody's own.
        if shares and names == model.default.columns and isinstance(value, np.ndarray):
            scores = await model.predict(model.default, value)
            return Answered(scores[0][1], scores.columns, scores.tags, tuple(scores.metrics))
    elif kind == "binData":
        value = texts.from_base64(value, where=kind)
    elif kind == "strData" and type(value) is not str:
        raise RequestError("WRONG_TYPE", "strData must be a string")
    if model.default.schema is not None and kind != "data":
        if kind != "jsonData" or not has_rows(unit, value, body):
            raise no_rows(model.default, kind)
        names = model.default.columns
    call = Call(value, names=names, meta=meta, are_rows=kind == "data")
    found = await process.ask(call, deadline=DEADLINE.get())
    keep_call(call, found)
    return found


def _payload(unit: Unit, found: Answered, encoding: str | None) -> dict[str, Any]:
    """Return the field of a message that holds an answer, numbers in an encoding of `data`."""
    value = found.value
    if isinstance(value, dict):
        return {"jsonData": value}
    if isinstance(value, bytes):
        return {"binData": base64.b64encode(value).decode()}
    if isinstance(value, str):
        return {"strData": value}
    if isinstance(value, np.ndarray):
        written = encoded(value, encoding if value.dtype.kind in "fiu" else None)
    else:
        written = {"ndarray": value}
    return {"data": {"names": _names(unit, found), **written}}


def _names(unit: Unit, found: Answered) -> list[str]:
    """Return `data.names`: the class's own, else the artifact's, else `t:0`, `t:1`."""
    if found.names is not None:
        return list(found.names)
    value = found.value
    return column_names(unit, value if isinstance(value, np.ndarray) else np.array(value, object))


def _add_to(unit: Unit, meta: dict[str, Any], found: Answered, *, before: object = None) -> None:
    """Add the tags and the metrics of the class to an answer's meta.

    Our tags have precedence over the class's, and these over the request's.
    """
    meta["tags"] = {**meta["tags"], **found.tags, **unit.tags}
    metrics = [*(before if type(before) is list else []), *found.metrics]
    if metrics:
        meta["metrics"] = metrics


def _raw(unit: Unit, found: Answered, meta: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and the message of `predict_raw`, with our tags and path added."""
    message = dict(found.value)
    _add_to(unit, meta, found)
    message["meta"] = {**(message.get("meta") or {}), **meta}
    return calling.status_of(message), message
