"""The Open Inference Protocol (V2) over gRPC: from message to message."""

from typing import Any

import numpy as np

from mlops_pipeline.serving import inference_pb2 as pb
from mlops_pipeline.serving import packed, texts, versions
from mlops_pipeline.serving.cells import as_objects
from mlops_pipeline.serving.columns import of_inputs
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model, check_numbers
from mlops_pipeline.serving.protocols import v2, v2_raw
from mlops_pipeline.serving.protocols.seldon import new_puid, reshaped
from mlops_pipeline.serving.recording.exchange import keep_identifier
from mlops_pipeline.serving.scores import Array, datatype_of, of_bytes
from mlops_pipeline.serving.several import of_arrays

_CONTENTS = {
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
}
"""Field of each datatype; FP16 has none, and is sent raw."""
_RAW = "raw_input_contents"
_FLOATS = ("fp32_contents", "fp64_contents")
_FIELD_TYPES = {
    "uint_contents": np.uint32,
    "int_contents": np.int32,
    "uint64_contents": np.uint64,
    "int64_contents": np.int64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
    "bool_contents": np.bool_,
}


async def infer(model: Model, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer `ModelInfer`; raw contents are answered with raw contents.

    Raises:
        RequestError: another model or version, or not rows the model can answer.
    """
    versions.check(model, request.model_name, request.model_version)
    rows = _rows(model, request)
    wanted = [output.name for output in request.outputs]
    signature = v2.of_columns(model, [tensor.name for tensor in request.inputs])
    scores = await model.predict(signature, rows, wanted)
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version_name, id=request.id or new_puid()
    )
    keep_identifier(response.id)
    raw = bool(request.raw_input_contents) or any(v.dtype == np.float16 for _, v in scores)
    for name, values in scores:
        _add_output(response, name, values, raw=raw)
    return response


def _rows(model: Model, request: pb.ModelInferRequest) -> Array:
    """Return the rows in the one input of a request, or in one input per column."""
    names = [tensor.name for tensor in request.inputs]
    v2.check_names(model, names)
    raw = request.raw_input_contents
    if len(raw) not in (0, len(names)):
        raise RequestError(
            "WRONG_SHAPE", f"raw_input_contents has {len(raw)} tensors for {len(names)} inputs"
        )
    text = model.default.dtype.kind == "O"
    columns = [
        _column(tensor, raw[number] if raw else None, text=text)
        for number, tensor in enumerate(request.inputs)
    ]
    if model.default.inputs:
        return of_arrays(model.default, dict(zip(names, columns, strict=True)))
    return of_inputs(model.default, names, columns)


def _column(tensor: Any, raw: bytes | None, *, text: bool) -> Array:
    """Return the values of an input in its shape."""
    shape = list(tensor.shape)
    if any(size < 0 for size in shape):
        raise RequestError("WRONG_SHAPE", "an input's shape must contain whole numbers ≥ 0")
    return reshaped(_values(tensor, raw, text=text), shape, where="the input")


def _values(tensor: Any, raw: bytes | None, *, text: bool) -> Array:
    """Return the values of an input as a flat array, from raw bytes or from its typed field."""
    datatype, dtype = tensor.datatype, v2_raw.type_of(tensor.datatype, text=text)
    field = _CONTENTS.get(datatype, _RAW) if raw is None else _RAW
    if others := [given.name for given, _ in tensor.contents.ListFields() if given.name != field]:
        raise RequestError(
            "WRONG_INPUT", f"expected the values of {datatype} only in {field}, got {others[0]}"
        )
    if raw is None:
        if field == _RAW:
            raise RequestError("WRONG_TYPE", f"{datatype} must be sent as {_RAW}")
        values = _field(tensor.contents, field)
        check_numbers(values, dtype, said=f"the datatype is {datatype}")
        return values
    return v2_raw.read(raw, datatype, where=_RAW, text=text)


def _field(contents: Any, field: str) -> Array:
    """Return the values in the only field of an input that is not empty."""
    if field == _CONTENTS[v2_raw.TEXT]:
        return as_objects([*map(of_bytes, contents.bytes_contents)])
    dtype = np.dtype(_FIELD_TYPES[field])
    if field in _FLOATS:
        return packed.read(contents, field, dtype)
    return np.array(getattr(contents, field), dtype=dtype)


def _add_output(response: Any, name: str, values: Array, *, raw: bool) -> None:
    """Add an output tensor to a response."""
    datatype = datatype_of(values.dtype)
    output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
    if raw:
        response.raw_output_contents.append(v2_raw.write(values))
    elif (field := _CONTENTS[datatype]) in _FLOATS:
        packed.extend(output.contents, field, values)
    else:
        is_text = datatype == v2_raw.TEXT
        flat = texts.to_bytes(values) if is_text else values.ravel().tolist()
        getattr(output.contents, field).extend(flat)


async def ready(model: Model, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    """Answer `ModelReady`.

    Raises:
        RequestError: another model or version.
    """
    versions.check(model, request.name, request.version)
    return pb.ModelReadyResponse(ready=not await model.describe_unready())


async def index(model: Model, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
    """Answer `RepositoryIndex`: the only model.

    Raises:
        RequestError: it names a repository.
    """
    v2.check_repository(request.repository_name)
    response = pb.RepositoryIndexResponse()
    for entry in await v2.index(model):
        response.models.add(**entry)
    return response


def metadata(model: Model, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    """Answer `ModelMetadata`.

    Raises:
        RequestError: another model or version.
    """
    versions.check(model, request.name, request.version)
    manifest = model.manifest
    response = pb.ModelMetadataResponse(
        name=model.name, versions=[model.version_name], platform=manifest.framework
    )
    for field, tensors in (
        (response.inputs, manifest.inputs),
        (response.outputs, manifest.outputs),
    ):
        for tensor in tensors:
            field.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response
