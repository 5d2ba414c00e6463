"""TensorFlow Serving's REST protocol: status, metadata, and predict in row and column format.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from typing import Any

import numpy as np

from mlops_pipeline.serving import failures, tensor_proto
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.payloads import parse_object
from mlops_pipeline.serving.protocols.row_formats import read_rows, written
from mlops_pipeline.serving.scores import DTYPES, Array

error = failures.tensorflow


async def status(model: Model, number: int | None = None) -> dict[str, Any]:
    """Return the state of the only version, which the request named by `number`, if it did.

    A custom component that is not ready is being loaded again.
    """
    reason = await model.describe_unready()
    version = {
        "version": str(model.version if number is None else number),
        "state": "LOADING" if reason else "AVAILABLE",
        "status": {"error_code": "UNAVAILABLE" if reason else "OK", "error_message": reason},
    }
    return {"model_version_status": [version]}


def metadata(model: Model, number: int | None = None) -> dict[str, Any]:
    """Return the signatures in the format of `GET …/metadata`; for `number` see `status`."""
    version = str(model.version if number is None else number)
    definitions = {name: describe(model, signature) for name, signature in model.signatures.items()}
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": version},
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
        return written(*scores[0])
    columns = [[(name, row) for row in _rows(name, values)] for name, values in scores]
    return [dict(row) for row in zip(*columns, strict=True)]


def _rows(name: str, values: Array) -> list[Any]:
    found: Any = written(name, values)
    rows: list[Any] = found.tolist() if isinstance(found, np.ndarray) else found
    return rows


def _by_column(scores: list[tuple[str, Array]]) -> object:
    """Return the column format: only scores, or an object of them if there are several outputs."""
    if len(scores) == 1:
        return written(*scores[0])
    return {name: written(name, values) for name, values in scores}


def describe(model: Model, signature: Signature) -> dict[str, Any]:
    """Return a SignatureDef as JSON, with every output that a request may name.

    An output that nobody described has no type and no rank. The manifest does not say which of
    several signatures it describes.
    """
    inputs = [signature.of_input(one) for one in signature.inputs] or [signature]
    known = dict(signature.described)
    if len(model.signatures) == 1:
        known = {tensor.name: tensor for tensor in model.manifest.outputs} | known
    outputs = {name: _info(name, "DT_INVALID", None) for name in signature.outputs}
    for name in outputs.keys() & known.keys():
        dtype = DTYPES.get(known[name].datatype, np.dtype(object))
        outputs[name] = _info(name, tensor_proto.type_name(dtype), known[name].shape)
    return {
        "inputs": {one.input: _input_info(one) for one in inputs},
        "outputs": outputs,
        "method_name": "tensorflow/serving/predict",
    }


def _input_info(signature: Signature) -> dict[str, Any]:
    shape = None if signature.row_shape is None else (-1, *signature.row_shape)
    return _info(signature.input, tensor_proto.type_name(signature.dtype), shape)


def _info(name: str, dtype: str, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Return a TensorInfo as JSON; a shape of None is unknown."""
    sizes = [{"size": str(size), "name": ""} for size in shape or ()]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": sizes, "unknown_rank": shape is None},
        "name": name,
    }
