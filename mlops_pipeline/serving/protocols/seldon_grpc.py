"""Seldon's protocol over gRPC: from message to message, with the meaning of its REST protocol.

`tensor`, `tftensor`, `ndarray` and `jsonData` are answered in kind; see `seldon` for the forms of
jsonData.
"""

from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from mlops_pipeline.serving import packed, tensor_proto, texts
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.columns import ordered
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.payloads import numbers_for
from mlops_pipeline.serving.protocols import seldon
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording.exchange import keep_identifier
from mlops_pipeline.serving.scores import Array, as_lists, check_digits, of_bytes
from mlops_pipeline.serving.several import of_rows

_CURE = "send data.tftensor, or use REST or V2's gRPC"


async def predict(unit: Unit, request: pb.SeldonMessage) -> pb.SeldonMessage:
    """Answer `Model/Predict` and `Seldon/Predict`.

    Raises:
        RequestError: the message has no numbers that the model can answer.
    """
    kind, signature = request.WhichOneof("data_oneof"), unit.model.default
    response = pb.SeldonMessage(meta=_meta(unit, request.meta))
    if kind == "data":
        await _answer_data(unit, request.data, response.data)
    elif kind == "jsonData":
        asked = _plain(request.jsonData)
        answered = await seldon.json_data(unit, asked, None)
        check_digits(answered, cure=_CURE)
        ParseDict(as_lists(answered), response.jsonData)
    elif kind in ("strData", "binData") and signature.dtype.kind == "O":
        content = request.strData or of_bytes(request.binData)
        rows = texts.single(signature.row_shape, content)
        scores = await seldon.scores_of(unit.model, signature, rows)
        _write(unit, "tensor", scores, response.data)
    else:
        raise seldon.no_rows(signature, kind)
    return response


def feedback(unit: Unit, request: pb.Feedback) -> pb.SeldonMessage:
    """Answer `SendFeedback`: feedback is accepted.

    Raises:
        RequestError: the values of a tensor in it do not match its shape.
    """
    for where in ("request", "response", "truth"):
        data = getattr(request, where).data
        if data.WhichOneof("data_oneof") == "tensor":
            _tensor(data.tensor, where=f"{where}.data.tensor")
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
    """Return the answer's meta: the request's puid, tags and path, and the model's."""
    meta = pb.Meta(
        puid=given.puid or seldon.new_puid(), tags=given.tags, requestPath=given.requestPath
    )
    keep_identifier(meta.puid)
    for name, value in unit.tags.items():
        meta.tags[name].string_value = value
    meta.requestPath[unit.model.name] = unit.image
    return meta


async def _answer_data(unit: Unit, data: pb.DefaultData, answer: pb.DefaultData) -> None:
    """Write the scores of `data` to `answer`, in its encoding."""
    kind, signature = data.WhichOneof("data_oneof"), unit.model.default
    if kind == "tensor":
        rows = _tensor(data.tensor, where="data.tensor")
    elif kind == "tftensor":
        text = signature.dtype.kind == "O"
        rows = tensor_proto.read(data.tftensor, where="data.tftensor", text=text)
    elif kind == "ndarray" and signature.inputs:
        given, names = _rows(data.ndarray), list(data.names)
        rows = of_rows(signature, given, names, where="data.ndarray", body=None)
    elif kind == "ndarray":
        rows = numbers_for(signature, _rows(data.ndarray), where="data.ndarray")
    else:
        raise seldon.no_rows(signature, None)
    if data.names and not signature.inputs:
        rows = ordered(signature, list(data.names), rows)
    _write(unit, kind, await seldon.scores_of(unit.model, signature, rows), answer)


def _write(unit: Unit, kind: str, scores: Array, answer: pb.DefaultData) -> None:
    """Write scores in an encoding; as ndarray if a tensor cannot represent them."""
    answer.names.extend(seldon.column_names(unit, scores))
    if kind == "tftensor" and scores.dtype.kind in "fiu":
        tensor_proto.write(answer.tftensor, scores, by_content=True)
        return
    check_digits(scores, cure=_CURE)
    if kind == "tensor" and scores.dtype.kind in "fiu":
        answer.tensor.shape.extend(scores.shape)
        packed.extend(answer.tensor, "values", scores.astype(np.float64, copy=False))
    else:
        is_text = scores.dtype.kind == "O"
        answer.ndarray.CopyFrom(_list_value(texts.to_json(scores) if is_text else scores.tolist()))


def _tensor(tensor: pb.Tensor, *, where: str) -> Array:
    """Return the values of a tensor in its shape."""
    shape = list(tensor.shape)
    only_values = pb.Tensor()
    only_values.CopyFrom(tensor)
    only_values.ClearField("shape")
    values = packed.read(only_values, "values", np.dtype(np.float64))
    if any(size < 0 for size in shape):
        raise RequestError("WRONG_SHAPE", f"{where}.shape must contain numbers ≥ 0")
    return seldon.reshaped(values, shape, where=where)


def _rows(values: ListValue) -> list[Any]:
    """Return a ListValue as nested lists."""
    return [_plain(value) for value in values.values]


def _plain(value: Value) -> Any:
    """Return the Python object that a Value represents."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return value.number_value
    if kind == "list_value":
        return _rows(value.list_value)
    if kind == "struct_value":
        return {key: _plain(field) for key, field in value.struct_value.fields.items()}
    return {"string_value": value.string_value, "bool_value": value.bool_value}.get(kind)


def _list_value(values: list[Any]) -> ListValue:
    """Return nested lists of numbers, strings, or strings in base64 as a ListValue."""
    return ListValue(values=[_value(value) for value in values])


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return Value(list_value=_list_value(value))
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, dict):
        return Value(struct_value=Struct(fields={key: _value(value[key]) for key in value}))
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(number_value=value)
