"""Seldon's protocol over REST, as its executor and its Python microservice speak it (1.17).

`data.ndarray` is answered with `data.ndarray`, `data.tensor` with `data.tensor`. `jsonData` that is
`{"instances": rows}` is answered with `{"predictions": scores}`, `{"inputs": rows}` (or
`{"inputs": {name: rows}}`) with `{"outputs": scores}`, and a bare list of rows with a bare list.

https://docs.seldon.io/projects/seldon-core/en/v1/reference/apis/external-prediction.html
"""

import os
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any
from urllib.parse import parse_qs

import orjson

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import FORM, Answer, Request, answer
from mlops_pipeline.serving.models import Array, Model, predict
from mlops_pipeline.serving.payloads import is_shape, listed, numbers, parse_object

error = failures.seldon
NO_DATA = "the body has to have `data` (with `ndarray` or `tensor`) or `jsonData`"


@dataclass(frozen=True)
class Unit:
    """The place of the model in its SeldonDeployment."""

    model: Model
    image: str
    """What `meta.requestPath` says answered."""
    predictor: str = ""

    @cached_property
    def tags(self) -> dict[str, str]:
        """What `meta.tags` of every answer say: name and, of an artifact, digest."""
        digest = {"model_digest": self.model.digest} if self.model.digest else {}
        return {**digest, "model_name": self.model.name}


def predictions(unit: Unit, request: Request) -> Answer:
    """Answer `POST /api/v1.0/predictions`.

    Raises:
        RequestError: the body is not a SeldonMessage of numbers the model can answer.
    """
    message = parse_object(request)
    meta = answer_meta(unit, message.get("meta"), puid=request.puid)
    data = message.get("data")
    if data is None and "jsonData" in message:
        return answer(
            {"jsonData": json_data(unit, message["jsonData"], request.body), "meta": meta}
        )
    if type(data) is not dict:
        raise RequestError("NO_DATA", _missing(message))
    return answer({"data": _data(unit, data, request.body), "meta": meta})


def microservice(unit: Unit, request: Request) -> Answer:
    """Answer `POST /predict`, which the executor calls: JSON, or a form with the field `json`.

    Raises:
        RequestError: as `predictions`.
    """
    return predictions(unit, unwrap_form(request))


def unwrap_form(request: Request) -> Request:
    """Return the request whose body is the form's field `json`, if it is a form with one."""
    if not request.content_type.lower().startswith(FORM) or not request.body.startswith(b"json="):
        return request
    try:
        fields = parse_qs(request.body.decode("ascii"), max_num_fields=10)
    except ValueError as problem:
        raise RequestError("BAD_FORM", "the form cannot be read") from problem
    return request._replace(body=fields.get("json", [""])[0].encode(errors="replace"))


def feedback(unit: Unit, request: Request) -> Answer:
    """Answer `POST /api/v1.0/feedback`: feedback is taken, and counted by its route only.

    Raises:
        RequestError: the body is not a JSON object.
    """
    parse_object(unwrap_form(request))
    return answer({"meta": answer_meta(unit, None)})


def answer_meta(unit: Unit, given: object, *, puid: str = "") -> dict[str, Any]:
    """Return an answer's `meta`: the request's puid and tags kept, the model's added.

    Raises:
        RequestError: the request's meta, its puid or its tags are of a wrong type.
    """
    model = unit.model
    tags = unit.tags
    meta = {"puid": puid, "tags": tags, "requestPath": {model.name: unit.image}}
    if given is not None:
        if type(given) is not dict:
            raise RequestError("WRONG_TYPE", "meta has to be an object")
        puid = meta["puid"] = given.get("puid") or puid
        kept = given.get("tags") or {}
        if type(puid) is not str or type(kept) is not dict:
            raise RequestError("WRONG_TYPE", "meta.puid has to be a string, meta.tags an object")
        if kept:
            _check_writable(kept)
            meta["tags"] = {**kept, **tags}
    if not puid:
        meta["puid"] = new_puid()
    return meta


def _check_writable(tags: dict[str, Any]) -> None:
    """Raise if tags are nested so deep that orjson, which read them, cannot write them."""
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


def scores_of(unit: Unit, values: Array) -> Array:
    """Return the first default output for rows."""
    return predict(unit.model.default, values, unit.model.default.default_outputs[:1])[0][1]


def _data(unit: Unit, data: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Answer `data` in the encoding it came in."""
    if "ndarray" in data:
        scores = scores_of(unit, numbers(data.pop("ndarray"), where="data.ndarray", body=body))
        return {"names": column_names(unit, scores), "ndarray": listed(scores)}
    if "tensor" in data:
        scores = scores_of(unit, read_tensor(data["tensor"], body))
        tensor = {"shape": scores.shape, "values": listed(scores.ravel())}
        return {"names": column_names(unit, scores), "tensor": tensor}
    if "tftensor" in data:
        raise RequestError("UNSUPPORTED", "data.tftensor is not supported; send ndarray or tensor")
    raise RequestError("NO_DATA", NO_DATA)


def read_tensor(tensor: object, body: bytes) -> Array:
    """Return `{"shape": [n, …], "values": […]}` as an array of that shape.

    Raises:
        RequestError: not such an object, or the shape does not hold as many values.
    """
    if type(tensor) is not dict:
        raise RequestError("WRONG_TYPE", "data.tensor has to be an object with shape and values")
    shape = tensor.get("shape")
    if not is_shape(shape):
        raise RequestError("WRONG_SHAPE", "data.tensor.shape has to be a list of whole numbers ≥ 0")
    values = numbers(tensor.pop("values", None), where="data.tensor.values", body=body)
    return reshaped(values, shape, where="data.tensor")


def reshaped(values: Array, shape: list[int], *, where: str) -> Array:
    """Return `values` (flat, or already of that shape) in `shape`.

    Raises:
        RequestError: the shape holds another number of values, or has too many dimensions.
    """
    fits = len(shape) <= 32 and max(shape, default=0) < 1 << 31 and prod(shape) == values.size
    if not fits or values.ndim not in (1, len(shape)):
        raise RequestError(
            "WRONG_SHAPE", f"{where} has shape {str(shape)[:80]}, but {values.size} values"
        )
    return values.reshape(shape)


def json_data(unit: Unit, data: object, body: bytes | None) -> object:
    """Answer `jsonData` in the form it came in (see the top of this file).

    Raises:
        RequestError: it is in none of the forms, or not numbers the model can answer.
    """
    if type(data) is dict and "instances" in data:
        rows = numbers(data.pop("instances"), where="jsonData.instances", body=body)
        return {"predictions": listed(scores_of(unit, rows))}
    if type(data) is dict and "inputs" in data:
        inputs = data.pop("inputs")
        if type(inputs) is dict:
            inputs = inputs.get(unit.model.default.input)
        rows = numbers(inputs, where="jsonData.inputs", body=body)
        del inputs
        return {"outputs": listed(scores_of(unit, rows))}
    return listed(scores_of(unit, numbers(data, where="jsonData", body=body)))


def _missing(message: dict[str, Any]) -> str:
    """Say what a message without usable data should have had."""
    for key in ("strData", "binData", "customData"):
        if key in message:
            return f"{key} is not supported: {NO_DATA}"
    return NO_DATA


def model_metadata(unit: Unit) -> dict[str, Any]:
    """Return the metadata of the model, as Seldon's microservice gives it."""
    manifest = unit.model.manifest
    return {
        "name": unit.model.name,
        "versions": [unit.model.version_name],
        "platform": manifest.framework,
        "inputs": [_tensor(tensor) for tensor in manifest.inputs],
        "outputs": [_tensor(tensor) for tensor in manifest.outputs],
        "custom": {**unit.tags, "model_name": manifest.name},
    }


def graph_metadata(unit: Unit) -> dict[str, Any]:
    """Return the metadata of the graph of this one model, as Seldon's executor gives it."""
    model = model_metadata(unit)
    return {
        "name": unit.predictor or unit.model.name,
        "models": {unit.model.name: model},
        "graphinputs": model["inputs"],
        "graphoutputs": model["outputs"],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
