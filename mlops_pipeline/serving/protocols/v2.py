"""The Open Inference Protocol (V2) over REST: infer, metadata, and its datatypes' names.

A scikit-learn model accepts one input with any name or none, like MLServer's own runtime, or one
input per column. In TensorFlow, an input's name must be the signature's. The binary extension is
not supported.

https://github.com/kserve/open-inference-protocol
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving import SERVER, VERSION, failures
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.columns import joined
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.frameworks import get_framework
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, check_numbers, predict
from mlops_pipeline.serving.payloads import is_shape, listed, numbers, parse_object
from mlops_pipeline.serving.protocols.seldon import reshaped
from mlops_pipeline.serving.scores import DATATYPES as NAMES
from mlops_pipeline.serving.scores import Array, datatype_of

error = failures.v2
DATATYPES: Mapping[str, np.dtype[Any]] = {name: dtype for dtype, name in NAMES.items()}
"""V2's type of an input → numpy's. BYTES is missing: these models accept numbers."""
SERVER_METADATA = {"name": SERVER, "version": VERSION, "extensions": []}
NO_BINARY = (
    "binary tensors are not supported; send the data as JSON (in tritonclient: "
    "InferInput.set_data_from_numpy(array, binary_data=False))"
)


def infer(model: Model, request: Request) -> Answer:
    """Answer `POST /v2/models/<name>/infer`.

    Raises:
        RequestError: the body is not an inference request that the model can answer.
    """
    if request.is_binary:
        raise RequestError("UNSUPPORTED", NO_BINARY)
    document = parse_object(request)
    given = document.get("id")
    if not (given is None or type(given) is str):
        raise RequestError("WRONG_TYPE", "id must be a string")
    rows = read_rows(model, document.get("inputs"), request.body)
    scores = predict(model.default, rows, _wanted(document.get("outputs")))
    response = {
        "model_name": model.name,
        "model_version": model.version_name,
        "id": given or os.urandom(16).hex(),
        "parameters": {},
        "outputs": [_output(name, values) for name, values in scores],
    }
    return answer(response)


def read_rows(model: Model, inputs: object, body: bytes) -> Array:
    """Return the rows in the one input of a request, or in one input per column.

    Raises:
        RequestError: there is none, it is not the model's, or its data does not match its datatype.
    """
    if type(inputs) is not list or not all(type(tensor) is dict for tensor in inputs):
        raise RequestError("WRONG_INPUT", "inputs must be a list of tensors")
    names = [tensor.get("name") for tensor in inputs]
    check_names(model, names)
    columns = [_read(tensor, body) for tensor in inputs]
    return columns[0] if len(columns) == 1 else joined(model.default, names, columns)


def _read(tensor: dict[str, Any], body: bytes) -> Array:
    """Return the values of an input in its shape."""
    datatype = tensor.get("datatype")
    dtype = type_of(datatype)
    shape = tensor.get("shape")
    if not is_shape(shape):
        raise RequestError("WRONG_SHAPE", "an input's shape must be a list of whole numbers ≥ 0")
    values = numbers(tensor.pop("data", None), where="data", body=body, wanted=dtype)
    check_numbers(values, dtype, said=f"the datatype is {datatype}")
    return reshaped(values, shape, where="the input")


def check_names(model: Model, names: Sequence[object]) -> None:
    """Check the names of a request's inputs; a single one may have none (None, or empty).

    Raises:
        RequestError: there is no input, or not the one that a TensorFlow signature has.
    """
    wanted = model.default.input
    if not get_framework(model.manifest.framework).takes_columns:
        if len(names) != 1 or names[0] not in (None, "", wanted):
            raise RequestError("WRONG_INPUT", f"the model has one input, {wanted!r}")
    elif not names:
        raise RequestError("WRONG_INPUT", "inputs is empty; send one tensor, or one per column")
    if not all(type(name) is str or (name is None and len(names) == 1) for name in names):
        raise RequestError("WRONG_INPUT", "an input's name must be a string")


def type_of(datatype: object) -> np.dtype[Any]:
    """Return numpy's type for an input's datatype.

    Raises:
        RequestError: it is not one of `DATATYPES`.
    """
    if type(datatype) is not str or datatype not in DATATYPES:
        raise RequestError(
            "WRONG_TYPE", f"an input's datatype must be one of {', '.join(DATATYPES)}"
        )
    return DATATYPES[datatype]


def _wanted(outputs: object) -> list[str]:
    """Return the names of the requested outputs; empty: the model's default."""
    if outputs is None:
        return []
    if type(outputs) is list and all(_is_output(output) for output in outputs):
        return [output["name"] for output in outputs]
    raise RequestError("WRONG_TYPE", 'outputs must be a list of {"name": …}')


def _is_output(output: object) -> bool:
    return type(output) is dict and type(output.get("name")) is str


def _output(name: str, values: Array) -> dict[str, Any]:
    """Return an output tensor; its data is flat, in row-major order."""
    flat, datatype = listed(values.ravel()), datatype_of(values.dtype)
    return {"name": name, "shape": values.shape, "datatype": datatype, "data": flat}


def metadata(model: Model) -> dict[str, Any]:
    """Return the answer to `GET /v2/models/<name>`."""
    manifest = model.manifest
    return {
        "name": model.name,
        "versions": [model.version_name],
        "platform": manifest.framework,
        "inputs": [_described(tensor) for tensor in manifest.inputs],
        "outputs": [_described(tensor) for tensor in manifest.outputs],
        "parameters": {},
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
