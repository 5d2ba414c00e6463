"""The Open Inference Protocol (V2) over gRPC: ModelInfer, messages to messages."""

from typing import Any

import numpy as np
from mlserver.grpc import dataplane_pb2 as pb

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Array, Model, datatype_of, predict
from mlops_pipeline.serving.protocols import v2
from mlops_pipeline.serving.protocols.seldon import new_puid, reshaped

_CONTENTS = {
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
_TYPES = {
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}


def infer(model: Model, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer `ModelInfer`; raw contents are answered with raw contents.

    Raises:
        RequestError: another model or version, or not rows the model can answer.
    """
    check_name(model, request.model_name, request.model_version)
    rows = _rows(model, request)
    scores = predict(model.default, rows, [output.name for output in request.outputs])
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version_name, id=request.id or new_puid()
    )
    for name, values in scores:
        _add_output(response, name, values, raw=bool(request.raw_input_contents))
    return response


def check_name(model: Model, name: str, version: str) -> None:
    """Check that a request asks for this model; an empty version is the one there is.

    Raises:
        RequestError: it does not; the status is 404.
    """
    if name != model.name or version not in ("", model.version_name):
        asked = f"{name[:80]} {version[:80]}".strip()
        raise RequestError("NOT_FOUND", f"there is no model {asked!r} here", status=404)


def _rows(model: Model, request: pb.ModelInferRequest) -> Array:
    """Return the rows of the one input of a request."""
    if len(request.inputs) != 1:
        raise RequestError("WRONG_INPUT", "a request has to have exactly one input")
    tensor = request.inputs[0]
    v2.check_input(model, tensor.name, tensor.datatype)
    shape = list(tensor.shape)
    if any(size < 0 for size in shape):
        raise RequestError("WRONG_SHAPE", "an input's shape has to hold whole numbers ≥ 0")
    return reshaped(_values(tensor, request.raw_input_contents), shape, where="the input")


def _values(tensor: Any, raw: Any) -> Array:
    """Return the values of an input as a flat array, from raw bytes or from its typed field."""
    dtype = _TYPES[tensor.datatype]
    if not len(raw):
        field = _CONTENTS.get(tensor.datatype)
        if field is None:
            raise RequestError("WRONG_TYPE", f"{tensor.datatype} has to come as raw_input_contents")
        return np.array(getattr(tensor.contents, field), dtype=np.float64)
    if len(raw) != 1 or len(raw[0]) % np.dtype(dtype).itemsize:
        raise RequestError(
            "WRONG_SHAPE", f"raw_input_contents is not one tensor of {tensor.datatype}"
        )
    return np.frombuffer(raw[0], dtype=dtype)


def _add_output(response: Any, name: str, values: Array, *, raw: bool) -> None:
    """Add an output tensor to a response."""
    datatype = datatype_of(values.dtype)
    output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
    if datatype == "BYTES":
        strings = [str(value).encode() for value in values.ravel().tolist()]
        output.contents.bytes_contents.extend(strings)
    elif raw:
        response.raw_output_contents.append(values.tobytes())
    elif datatype == "BOOL":
        output.contents.bool_contents.extend(values.ravel().tolist())
    else:
        getattr(output.contents, _CONTENTS[datatype]).extend(values.ravel().tolist())


def ready(model: Model, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    """Answer `ModelReady`.

    Raises:
        RequestError: another model or version.
    """
    check_name(model, request.name, request.version)
    return pb.ModelReadyResponse(ready=True)


def metadata(model: Model, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    """Answer `ModelMetadata`.

    Raises:
        RequestError: another model or version.
    """
    check_name(model, request.name, request.version)
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
