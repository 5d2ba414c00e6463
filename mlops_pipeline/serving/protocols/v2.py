"""The Open Inference Protocol (V2) over REST: infer, and the names of its datatypes.

One input of any name for a scikit-learn model, as MLServer's own runtime takes it; TensorFlow's has
to have the signature's name. The binary extension is not offered.

https://github.com/kserve/open-inference-protocol
"""

import os
from typing import Any

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Array, Model, datatype_of, predict
from mlops_pipeline.serving.payloads import is_shape, listed, numbers, parse_object
from mlops_pipeline.serving.protocols.seldon import reshaped

error = failures.v2
DATATYPES = (
    *("UINT8", "UINT16", "UINT32", "UINT64"),
    *("INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64"),
)
"""Of an input. BOOL and BYTES are none: models here take numbers."""


def infer(model: Model, request: Request) -> Answer:
    """Answer `POST /v2/models/<name>/infer`.

    Raises:
        RequestError: the body is not an inference request the model can answer.
    """
    document = parse_object(request)
    given = document.get("id")
    if not (given is None or type(given) is str):
        raise RequestError("WRONG_TYPE", "id has to be a string")
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
    """Return the rows in the one input of a request.

    Raises:
        RequestError: there is not exactly one, it is not the model's, or it holds no numbers.
    """
    if type(inputs) is not list or len(inputs) != 1 or type(inputs[0]) is not dict:
        raise RequestError("WRONG_INPUT", "inputs has to be a list of exactly one tensor")
    tensor = inputs[0]
    check_input(model, tensor.get("name"), tensor.get("datatype"))
    shape = tensor.get("shape")
    if not is_shape(shape):
        raise RequestError("WRONG_SHAPE", "an input's shape has to be a list of whole numbers ≥ 0")
    values = numbers(tensor.pop("data", None), where="data", body=body)
    return reshaped(values, shape, where="the input")


def check_input(model: Model, name: object, datatype: object) -> None:
    """Check an input's name and datatype.

    Raises:
        RequestError: it has no name or another one than TensorFlow's signature, or no numbers.
    """
    wanted = model.default.input
    if type(name) is not str or (model.manifest.framework == "tensorflow" and name != wanted):
        raise RequestError("WRONG_INPUT", f"the input has to have the name {wanted!r}")
    if datatype not in DATATYPES:
        raise RequestError("WRONG_TYPE", f"an input's datatype is one of {', '.join(DATATYPES)}")


def _wanted(outputs: object) -> list[str]:
    """Return the names of the requested outputs; empty: the model's default."""
    if outputs is None:
        return []
    if type(outputs) is list and all(_is_output(output) for output in outputs):
        return [output["name"] for output in outputs]
    raise RequestError("WRONG_TYPE", 'outputs has to be a list of {"name": …}')


def _is_output(output: object) -> bool:
    return type(output) is dict and type(output.get("name")) is str


def _output(name: str, values: Array) -> dict[str, Any]:
    """Return an output tensor; its data is flat, in row-major order."""
    flat, datatype = listed(values.ravel()), datatype_of(values.dtype)
    return {"name": name, "shape": values.shape, "datatype": datatype, "data": flat}
