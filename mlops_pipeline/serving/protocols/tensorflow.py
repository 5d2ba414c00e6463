"""TensorFlow Serving's REST protocol: status, metadata, and predict in row and column format.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from dataclasses import replace
from typing import Any

import numpy as np

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.payloads import listed, parse_object
from mlops_pipeline.serving.protocols.row_formats import read_rows
from mlops_pipeline.serving.scores import Array

error = failures.tensorflow
_BITS = (8, 16, 32, 64)
_TYPES = {
    "float64": "DT_DOUBLE",
    "float32": "DT_FLOAT",
    "float16": "DT_HALF",
    **{f"{kind}{bits}": f"DT_{kind.upper()}{bits}" for kind in ("int", "uint") for bits in _BITS},
    "bool": "DT_BOOL",
    "object": "DT_STRING",
}


def status(model: Model) -> dict[str, Any]:
    """Return the state of the only version."""
    version = {
        "version": str(model.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return {"model_version_status": [version]}


def metadata(model: Model) -> dict[str, Any]:
    """Return the signatures in the format of `GET …/metadata`."""
    definitions = {name: _definition(signature) for name, signature in model.signatures.items()}
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


async def predict(model: Model, request: Request) -> Answer:
    """Answer `POST …:predict`: `instances` with `predictions`, `inputs` with `outputs`.

    Raises:
        RequestError: the body has neither or both, or no numbers that the model can answer.
    """
    document = parse_object(request)
    signature = model.signature(document.get("signature_name"))
    is_by_row, rows = read_rows(signature, document, request.body)
    scores = await model.predict(signature, rows)
    if is_by_row:
        return answer({"predictions": _by_row(scores)})
    return answer({"outputs": _by_column(scores)})


def _by_row(scores: list[tuple[str, Array]]) -> object:
    """Return the row format: only scores, or an object per row if there are several outputs."""
    if len(scores) == 1:
        return listed(scores[0][1])
    columns = [[(name, row) for row in np.asarray(values).tolist()] for name, values in scores]
    return [dict(row) for row in zip(*columns, strict=True)]


def _by_column(scores: list[tuple[str, Array]]) -> object:
    """Return the column format: only scores, or an object of them if there are several outputs."""
    if len(scores) == 1:
        return listed(scores[0][1])
    return {name: listed(values) for name, values in scores}


def _definition(signature: Signature) -> dict[str, Any]:
    """Return a SignatureDef as JSON; shapes of outputs are unknown before a prediction."""
    if signature.inputs:
        inputs: dict[str, Any] = {}
        for one in signature.inputs:
            inputs |= _definition(signature.of_input(one))["inputs"]
        return {**_definition(replace(signature, inputs=())), "inputs": inputs}
    has_shape = signature.row_shape is not None
    sizes = [{"size": str(size), "name": ""} for size in (-1, *(signature.row_shape or ()))]
    dtype = _TYPES.get(signature.dtype.name, "DT_INVALID")
    shape = {"dim": sizes if has_shape else [], "unknown_rank": not has_shape}
    unknown = {"dtype": dtype, "tensor_shape": {"dim": [], "unknown_rank": True}}
    return {
        "inputs": {
            signature.input: {"dtype": dtype, "tensor_shape": shape, "name": signature.input}
        },
        "outputs": {name: {**unknown, "name": name} for name in signature.default_outputs},
        "method_name": "tensorflow/serving/predict",
    }
