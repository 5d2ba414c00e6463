"""Seldon's protocol over REST, like its executor and its Python microservice (1.17).

`data.ndarray` is answered with `data.ndarray`, `data.tensor` with `data.tensor`, `data.tftensor` (a
TensorProto in protobuf's JSON) with `data.tftensor`. `jsonData` that is `{"instances": rows}` is
answered with `{"predictions": scores}`, `{"inputs": rows}` with `{"outputs": scores}` (see
`row_formats`), and a bare list of rows with a bare list; an MLflow model also takes MLflow's data
frames there. `strData` and `binData` are one string for
a model that takes text, and answered with `data`.

https://docs.seldon.io/projects/seldon-core/en/v1/reference/apis/external-prediction.html
"""

import os
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import orjson

from mlops_pipeline.serving import failures, tensor_proto, texts
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.columns import ordered
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.forms import unwrap_form
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.payloads import (
    find_one,
    is_possible,
    is_shape,
    listed,
    numbers,
    numbers_for,
    parse_object,
)
from mlops_pipeline.serving.protocols import mlflow
from mlops_pipeline.serving.protocols.row_formats import read_rows, written
from mlops_pipeline.serving.recording.exchange import keep_identifier
from mlops_pipeline.serving.schema import INPUTS
from mlops_pipeline.serving.scores import Array, of_bytes
from mlops_pipeline.serving.several import of_rows

error = failures.seldon
NO_DATA = "the message must have `data` (with `ndarray`, `tensor` or `tftensor`) or `jsonData`"


@dataclass(frozen=True)
class Unit:
    """The place of the model in its SeldonDeployment."""

    model: Model
    image: str
    """The image in `meta.requestPath`."""
    predictor: str = ""

    @cached_property
    def tags(self) -> dict[str, str]:
        """The `meta.tags` of every answer: the name and, of an artifact, the digest."""
        digest = {"model_digest": self.model.digest} if self.model.digest else {}
        return {**digest, "model_name": self.model.name}


async def predictions(unit: Unit, request: Request) -> Answer:
    """Answer `POST /api/v1.0/predictions`, and `/predict`, which the executor calls.

    Raises:
        RequestError: the body is not a SeldonMessage with numbers that the model can answer.
    """
    request = unwrap_form(request)
    message = parse_object(request)
    meta = answer_meta(unit, message.get("meta"), puid=request.puid)
    find_one(message, _KINDS, where="the body")
    data = message.get("data")
    if data is None and (given := find_one(message, _TEXTS, where="the body")):
        rows = _text_row(unit.model.default, given, message[given])
        scores = await scores_of(unit.model, unit.model.default, rows)
        return answer({"data": _written(unit, "tensor", scores), "meta": meta})
    if data is None and "jsonData" in message:
        return answer(
            {
                "jsonData": await json_data(unit, message.pop("jsonData"), request.body),
                "meta": meta,
            }
        )
    if type(data) is not dict:
        given = next((kind for kind in _KINDS if message.get(kind) is not None), None)
        raise no_rows(unit.model.default, given)
    return answer({"data": await _data(unit, data, request.body), "meta": meta})


def read_feedback(request: Request) -> dict[str, Any]:
    """Return the document of `POST /api/v1.0/feedback`.

    Raises:
        RequestError: the body is not a JSON object, or not of the types of Seldon's Feedback.
    """
    message = parse_object(unwrap_form(request))
    if type(message.get("reward", 0.0)) not in (int, float, type(None)):
        raise RequestError("WRONG_TYPE", "reward must be a number")
    for key in ("request", "response", "truth"):
        if message.get(key) is not None:
            _check_message(message[key], where=key)
    return message


def feedback_answer(unit: Unit) -> Answer:
    """Return the answer to a feedback that was accepted."""
    return answer({"meta": answer_meta(unit, None)})


def _check_message(message: object, *, where: str) -> None:
    """Raise an error unless `message` is a SeldonMessage, with values of any type."""
    if type(message) is not dict:
        raise RequestError("WRONG_TYPE", f"{where} must be a SeldonMessage object")
    given = find_one(message, _KINDS, where=where)
    if given == "strData" and type(message[given]) is not str:
        raise RequestError("WRONG_TYPE", f"{where}.{given} must be a string")
    if given == "binData":
        texts.from_base64(message[given], where=f"{where}.{given}")
    if given == "data":
        _check_data(message["data"], where=f"{where}.data")


def _check_data(data: object, *, where: str) -> None:
    """Raise an error unless `data` has at most one encoding, and of its type."""
    if type(data) is not dict:
        raise RequestError("WRONG_TYPE", f"{where} must be an object with ndarray or tensor")
    given = find_one(data, _ENCODINGS, where=where)
    if given == "ndarray" and type(data["ndarray"]) is not list:
        raise RequestError("WRONG_TYPE", f"{where}.ndarray must be a list")
    if given == "tensor":
        tensor = copy(data["tensor"])  # Reading takes the values away; the document is kept.
        read_tensor(tensor, None, wanted=np.dtype(np.float64), where=f"{where}.tensor")
    if given == "tftensor":
        tensor_proto.from_json(copy(data["tftensor"]), where=f"{where}.tftensor")


def answer_meta(unit: Unit, given: object, *, puid: str = "") -> dict[str, Any]:
    """Return an answer's `meta`: the request's puid, tags and path, and the model's.

    Raises:
        RequestError: the request's meta, its puid, tags or path have a wrong type.
    """
    model = unit.model
    tags = unit.tags
    meta = {"puid": puid, "tags": tags, "requestPath": {model.name: unit.image}}
    if given is not None:
        if type(given) is not dict:
            raise RequestError("WRONG_TYPE", "meta must be an object")
        puid = meta["puid"] = given.get("puid") or puid
        kept = given.get("tags") or {}
        if type(puid) is not str or type(kept) is not dict:
            raise RequestError("WRONG_TYPE", "meta.puid must be a string, meta.tags an object")
        if path := given.get("requestPath"):
            meta["requestPath"] = {**_units_before(path), model.name: unit.image}
        if kept:
            _check_writable(kept)
            meta["tags"] = {**kept, **tags}
    if not puid:
        meta["puid"] = new_puid()
    keep_identifier(str(meta["puid"]))
    return meta


def _units_before(path: object) -> dict[str, str]:
    """Return the units of the graph that processed the request before: name → image."""
    if type(path) is not dict or not all(type(image) is str for image in path.values()):
        raise RequestError("WRONG_TYPE", "meta.requestPath must be an object of strings")
    return path


def _check_writable(tags: dict[str, Any]) -> None:
    """Raise an error if tags are nested so deep that orjson cannot write what it has read."""
    try:
        orjson.dumps({"meta": {"tags": tags}})
    except orjson.JSONEncodeError as problem:
        raise RequestError("WRONG_TYPE", "meta.tags are nested too deep") from problem


def new_puid() -> str:
    """Return an identifier for a prediction: 32 random hexadecimal characters."""
    return os.urandom(16).hex()


def column_names(unit: Unit, scores: Array) -> list[str]:
    """Return `data.names`: the model's own, else `t:0`, `t:1` …; none for a single column."""
    if scores.ndim < 2:
        return []
    own = unit.model.manifest.output_names
    return list(own) if len(own) == scores.shape[1] else [f"t:{i}" for i in range(scores.shape[1])]


async def scores_of(model: Model, signature: Signature, values: Array) -> Array:
    """Return the first default output for rows."""
    return (await model.predict(signature, values, signature.default_outputs[:1]))[0][1]


_KINDS = ("data", "jsonData", "strData", "binData", "customData")
_TEXTS = ("strData", "binData")
_ENCODINGS = ("ndarray", "tensor", "tftensor")


async def _data(unit: Unit, data: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Answer `data` in its own encoding; as ndarray if a tensor cannot represent the answer."""
    signature, names = unit.model.default, data.get("names")
    given = find_one(data, _ENCODINGS, where="data")
    if given == "ndarray" and signature.inputs:
        rows = of_rows(signature, data.pop("ndarray"), names, where="data.ndarray", body=body)
        return _written(unit, given, await scores_of(unit.model, signature, rows))
    if given == "ndarray":
        rows = numbers_for(signature, data.pop("ndarray"), where="data.ndarray", body=body)
    elif given == "tensor":
        rows = read_tensor(
            data["tensor"], body, wanted=signature.dtype, booleans=signature.takes_booleans
        )
    elif given == "tftensor":
        where = "data.tftensor"
        tensor = tensor_proto.from_json(data.pop("tftensor"), where=where)
        rows = tensor_proto.read(tensor, where=where, text=signature.dtype.kind == "O")
    else:
        raise RequestError("NO_DATA", NO_DATA)
    rows = ordered(signature, names, rows) if names else rows
    return _written(unit, given, await scores_of(unit.model, signature, rows))


def _written(unit: Unit, given: str, scores: Array) -> dict[str, Any]:
    """Return scores in an encoding; as ndarray if a tensor cannot represent them."""
    columns = column_names(unit, scores)
    if given == "tensor" and scores.dtype.kind in "fiu":
        return {"names": columns, "tensor": {"shape": scores.shape, "values": scores.ravel()}}
    if given == "tftensor" and scores.dtype.kind in "fiu":
        return {"names": columns, "tftensor": tensor_proto.to_json(scores)}
    return {"names": columns, "ndarray": listed(scores)}


def _text_row(signature: Signature, given: str, content: object) -> Array:
    """Return the one row in `strData`, or in `binData`, for a model that takes text.

    Raises:
        RequestError: the model takes numbers, or the content is not a string (in base64).
    """
    if signature.dtype.kind != "O":
        raise no_rows(signature, given)
    if given == "binData":
        content = of_bytes(texts.from_base64(content, where=given))
        return texts.single(signature.row_shape, content)
    if type(content) is not str:
        raise RequestError("WRONG_TYPE", f"{given} must be a string")
    return texts.single(signature.row_shape, content)


def read_tensor(
    tensor: object,
    body: bytes | None,
    *,
    wanted: np.dtype[Any],
    booleans: bool = False,
    where: str = "data.tensor",
) -> Array:
    """Return `{"shape": [n, …], "values": […]}` as an array of that shape.

    Raises:
        RequestError: it is not such an object, or the number of values does not match the shape.
    """
    if type(tensor) is not dict:
        raise RequestError("WRONG_TYPE", f"{where} must be an object with shape and values")
    shape = tensor.get("shape")
    if not is_shape(shape):
        raise RequestError("WRONG_SHAPE", f"{where}.shape must be a list of whole numbers ≥ 0")
    values = numbers(
        tensor.pop("values", None),
        where=f"{where}.values",
        body=body,
        wanted=wanted,
        booleans=booleans,
    )
    return reshaped(values, shape, where=where)


def reshaped(values: Array, shape: list[int], *, where: str) -> Array:
    """Return `values` (flat, or already of that shape) in `shape`.

    Raises:
        RequestError: the number of values does not match, the values are nested in another shape,
            or the shape has too many dimensions.
    """
    if not is_possible(shape) or prod(shape) != values.size:
        raise RequestError(
            "WRONG_SHAPE", f"{where} has shape {str(shape)[:80]}, but {values.size} values"
        )
    if values.ndim != 1 and list(values.shape) != shape:
        raise RequestError(
            "WRONG_SHAPE",
            f"{where} has shape {str(shape)[:80]}, but its values are nested in the shape "
            f"{str(list(values.shape))[:80]}; send them flat, or nested in that shape",
        )
    return values.reshape(shape)


async def json_data(unit: Unit, data: object, body: bytes | None) -> object:
    """Answer `jsonData` in its own form (see the top of this file).

    Raises:
        RequestError: it has none of the forms, or no numbers that the model can answer.
    """
    if type(data) is not dict:
        signature = unit.model.default
        rows = numbers_for(signature, data, where="jsonData", body=body)
        del data
        return listed(await scores_of(unit.model, signature, rows))
    if mlflow.is_payload(unit.model, data) and not {"instances", "inputs"} & data.keys():
        return await mlflow.json_data(unit.model, data, body)
    signature = unit.model.signature(data.get("signature_name"))
    is_by_row, rows = read_rows(signature, data, body, parent="jsonData")
    ((name, scores),) = await unit.model.predict(signature, rows, signature.default_outputs[:1])
    return {"predictions" if is_by_row else "outputs": written(name, scores)}


def no_rows(signature: Signature, given: str | None) -> RequestError:
    """Return the error of a message whose payload, `given`, does not contain rows."""
    if given in ("strData", "binData", "customData"):
        of_numbers = "" if signature.dtype.kind == "O" else " of numbers"
        return RequestError(
            "NO_DATA",
            f"{given} does not contain rows{of_numbers}, but the model expects "
            f"{signature.expected()}: send them as data.ndarray, data.tensor, data.tftensor or "
            "jsonData",
        )
    return RequestError("NO_DATA", NO_DATA)


def model_metadata(unit: Unit) -> dict[str, Any]:
    """Return the metadata of the model, in the format of Seldon's microservice."""
    manifest, component = unit.model.manifest, unit.model.default.component
    own = component.facts.metadata if component else {}
    return {
        "name": unit.model.name,
        "versions": [unit.model.version_name],
        "platform": manifest.framework,
        "inputs": _inputs(manifest),
        "outputs": [_tensor(tensor) for tensor in manifest.outputs],
        **own,
        "custom": {**own.get("custom", {}), **unit.tags, "model_name": manifest.name},
    }


def graph_metadata(unit: Unit) -> dict[str, Any]:
    """Return the metadata of this model's graph, in the format of Seldon's executor."""
    model = model_metadata(unit)
    return {
        "name": unit.predictor or unit.model.name,
        "models": {unit.model.name: model},
        "graphinputs": model["inputs"],
        "graphoutputs": model["outputs"],
    }


def _inputs(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the inputs: V2's tensors, or one message with the schema of its columns."""
    schema = manifest.schema
    if schema is None or schema.form == INPUTS:
        return [_tensor(tensor) for tensor in manifest.inputs]
    described = {
        "names": list(schema.names),
        "shape": list(schema.row_shape),
        **schema.as_json(),
    }
    return [{"messagetype": "ndarray", "schema": described}]


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
