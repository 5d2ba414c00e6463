"""Seldon's protocol over gRPC: messages to messages, with the meaning of its REST twin.

`tensor`, `ndarray` and `jsonData` are answered in kind; see `seldon` for the forms of jsonData.
"""

from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Value

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Array
from mlops_pipeline.serving.payloads import numbers
from mlops_pipeline.serving.protocols import seldon
from mlops_pipeline.serving.protocols.seldon import Unit


def predict(unit: Unit, request: pb.SeldonMessage) -> pb.SeldonMessage:
    """Answer `Model/Predict` and `Seldon/Predict`.

    Raises:
        RequestError: the message holds no numbers the model can answer.
    """
    kind = request.WhichOneof("data_oneof")
    response = pb.SeldonMessage(meta=_meta(unit, request.meta))
    if kind == "data":
        _answer_data(unit, request.data, response.data)
    elif kind == "jsonData":
        asked = _plain(request.jsonData)
        answered = seldon.json_data(unit, asked, None)
        ParseDict(_listed(answered), response.jsonData)
    else:
        raise RequestError("NO_DATA", f"{kind or 'an empty message'}: {seldon.NO_DATA}")
    return response


def feedback(unit: Unit, request: pb.Feedback) -> pb.SeldonMessage:
    """Answer `SendFeedback`: feedback is taken."""
    return pb.SeldonMessage(meta=_meta(unit, pb.Meta()))


def model_metadata(unit: Unit, _: object = None) -> pb.SeldonModelMetadata:
    """Answer `Model/Metadata` and `Seldon/ModelMetadata`."""
    metadata = pb.SeldonModelMetadata()
    ParseDict(seldon.model_metadata(unit), metadata)
    return metadata


def graph_metadata(unit: Unit, _: object = None) -> pb.SeldonGraphMetadata:
    """Answer `Seldon/GraphMetadata`."""
    graph = seldon.graph_metadata(unit)
    graph["inputs"], graph["outputs"] = graph.pop("graphinputs"), graph.pop("graphoutputs")
    metadata = pb.SeldonGraphMetadata()
    ParseDict(graph, metadata)
    return metadata


def _meta(unit: Unit, given: pb.Meta) -> pb.Meta:
    """Return the answer's meta: the request's puid and tags kept, the model's added."""
    meta = pb.Meta(puid=given.puid or seldon.new_puid(), tags=given.tags)
    for name, value in unit.tags.items():
        meta.tags[name].string_value = value
    meta.requestPath[unit.model.name] = unit.image
    return meta


def _answer_data(unit: Unit, data: pb.DefaultData, answer: pb.DefaultData) -> None:
    """Fill `answer` with the scores of `data`, in its encoding."""
    kind = data.WhichOneof("data_oneof")
    if kind == "tensor":
        values = np.array(data.tensor.values, dtype=np.float64)
        shape = list(data.tensor.shape)
        if any(size < 0 for size in shape):
            raise RequestError("WRONG_SHAPE", "data.tensor.shape has to hold numbers ≥ 0")
        scores = seldon.scores_of(unit, seldon.reshaped(values, shape, where="data.tensor"))
        answer.tensor.shape.extend(scores.shape)
        answer.tensor.values.extend(_floats(scores))
    elif kind == "ndarray":
        rows = numbers(_rows(data.ndarray), where="data.ndarray", body=None)
        scores = seldon.scores_of(unit, rows)
        answer.ndarray.CopyFrom(_list_value(scores.tolist()))
    else:
        raise RequestError(
            "NO_DATA", f"data.{kind or '(nothing)'}: send data.tensor or data.ndarray"
        )
    answer.names.extend(seldon.column_names(unit, scores))


def _floats(scores: Array) -> list[float]:
    """Return scores as a flat list; a tensor holds no strings."""
    if scores.dtype.kind not in "fiub":
        raise RequestError("NOT_NUMBERS", "the model answers with strings; send data.ndarray")
    flat: list[float] = scores.ravel().tolist()
    return flat


def _rows(values: ListValue) -> list[Any]:
    """Return a ListValue as nested lists."""
    return [_plain(value) for value in values.values]


def _plain(value: Value) -> Any:
    """Return a Value as what it stands for."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return value.number_value
    if kind == "list_value":
        return _rows(value.list_value)
    if kind == "struct_value":
        return {key: _plain(field) for key, field in value.struct_value.fields.items()}
    return {"string_value": value.string_value, "bool_value": value.bool_value}.get(kind)


def _list_value(values: list[Any]) -> ListValue:
    """Return nested lists of numbers or strings as a ListValue."""
    return ListValue(values=[_value(value) for value in values])


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return Value(list_value=_list_value(value))
    if isinstance(value, str):
        return Value(string_value=value)
    return Value(number_value=value)


def _listed(document: Any) -> Any:
    """Return `document` with its arrays as lists."""
    if isinstance(document, dict):
        return {key: _listed(value) for key, value in document.items()}
    return document.tolist() if isinstance(document, np.ndarray) else document
