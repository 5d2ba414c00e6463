"""The Open Inference Protocol (V2) over REST: infer, metadata, and its datatypes' names.

A scikit-learn model accepts one input with any name or none, like MLServer's own runtime, or one
input per column. In TensorFlow, an input's name must be the signature's. Tensors may be binary, in
requests and in answers: see `v2_raw`.

https://github.com/kserve/open-inference-protocol
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlops_pipeline.serving import SERVER, VERSION, failures, texts
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.columns import of_inputs
from mlops_pipeline.serving.custom.rows import named
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Request, answer
from mlops_pipeline.serving.models import Model, Signature, check_numbers
from mlops_pipeline.serving.payloads import is_shape, listed, numbers, parse_object
from mlops_pipeline.serving.protocols import v2_raw
from mlops_pipeline.serving.protocols.seldon import reshaped
from mlops_pipeline.serving.protocols.v2_raw import Tail
from mlops_pipeline.serving.recording.exchange import keep_identifier, keep_names
from mlops_pipeline.serving.schema import TABLE
from mlops_pipeline.serving.scores import Array, datatype_of
from mlops_pipeline.serving.several import of_arrays

error = failures.v2
EXTENSIONS = ("binary_tensor_data",)
SERVER_METADATA = {"name": SERVER, "version": VERSION, "extensions": EXTENSIONS}
NO_REPOSITORY = "NO_REPOSITORY"
"""Reason of an error: the request needs V2's extension for repositories of models. By gRPC, the
status says that it does not exist. By REST it is the request's fault: a gateway may take 501 for a
fault of the server."""
_BINARY = b"application/octet-stream"


async def infer(model: Model, request: Request) -> Answer:
    """Answer `POST /v2/models/<name>/infer`.

    Raises:
        RequestError: the body is not an inference request that the model can answer.
    """
    request, tail = v2_raw.split(request)
    document = parse_object(request)
    given = document.get("id")
    if not (given is None or type(given) is str):
        raise RequestError("WRONG_TYPE", "id must be a string")
    inputs: Any = document.get("inputs")
    rows = read_rows(model, inputs, request.body, tail)
    wanted, binary = _wanted(document)
    signature = of_columns(model, [tensor.get("name") for tensor in inputs])
    scores = await model.predict(signature, rows, wanted)
    outputs = [_output(name, values, binary=binary(name)) for name, values in scores]
    contents = [content for _, content in outputs if content is not None]
    response: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version_name,
        "id": given or os.urandom(16).hex(),
        "parameters": {},
        "outputs": [output for output, _ in outputs],
    }
    keep_identifier(response["id"])
    written = answer(response)
    if not contents:
        return written
    length = (v2_raw.LENGTH, b"%d" % len(written.body))
    return Answer(200, b"".join([written.body, *contents]), _BINARY, (length,))


def read_rows(model: Model, inputs: object, body: bytes, tail: Tail) -> Array:
    """Return the rows in the one input of a request, or in one input per column.

    Raises:
        RequestError: there is none, it is not the model's, or its data does not match its datatype.
    """
    if type(inputs) is not list or not all(type(tensor) is dict for tensor in inputs):
        raise RequestError("WRONG_INPUT", "inputs must be a list of tensors")
    names = [tensor.get("name") for tensor in inputs]
    check_names(model, names)
    columns = [_read(model.default, tensor, body, tail) for tensor in inputs]
    tail.require_end()
    if model.default.inputs:
        return of_arrays(model.default, dict(zip(map(str, names), columns, strict=True)))
    return of_inputs(model.default, names, columns)


def _read(signature: Signature, tensor: dict[str, Any], body: bytes, tail: Tail) -> Array:
    """Return the values of an input in its shape; strings only if the signature has some."""
    text = signature.dtype.kind == "O"
    name, datatype = tensor.get("name"), tensor.get("datatype")
    where = f"the input {name[:80]!r}" if type(name) is str and name else "the input"
    dtype = v2_raw.type_of(datatype, text=text)
    shape = tensor.get("shape")
    if not is_shape(shape):
        raise RequestError("WRONG_SHAPE", "an input's shape must be a list of whole numbers ≥ 0")
    content = tail.find(tensor)
    if content is not None:
        return reshaped(
            v2_raw.read(content, datatype, where=f"the binary data of {where}", text=text),
            shape,
            where=where,
        )
    values = numbers(
        tensor.pop("data", None),
        where=f"data of {where}",
        body=body,
        wanted=dtype,
        booleans=dtype.kind in "fiu" and signature.takes_booleans,
    )
    check_numbers(values, dtype, said=f"{where}: the datatype is {datatype}")
    return reshaped(values, shape, where=where)


def check_names(model: Model, names: Sequence[object]) -> None:
    """Check the names of a request's inputs; a single one may have none (None, or empty).

    Raises:
        RequestError: there is no input, or not the one that a TensorFlow signature has.
    """
    wanted = model.default.input
    if model.default.inputs:
        if len(set(map(str, names))) < len(names):
            raise RequestError("WRONG_INPUT", "two inputs have the same name")
    elif not (model.default.takes_columns or model.default.columns):
        if len(names) != 1 or names[0] not in (None, "", wanted):
            raise RequestError("WRONG_INPUT", f"the model has one input, {wanted!r}")
    elif not names:
        raise RequestError("WRONG_INPUT", "inputs is empty; send one tensor, or one per column")
    if not all(type(name) is str or (name is None and len(names) == 1) for name in names):
        raise RequestError("WRONG_INPUT", "an input's name must be a string")


def of_columns(model: Model, names: Sequence[object]) -> Signature:
    """Return the signature that answers inputs of these names, which may be columns."""
    of_each = list(map(str, names)) if len(names) > 1 else []
    if of_each and not (model.default.columns or model.default.inputs):
        keep_names(of_each)
    return named(model.default, of_each)


def _wanted(document: Mapping[str, Any]) -> tuple[list[str], Callable[[str], bool]]:
    """Return the names of the requested outputs, and which output is answered as bytes.

    No names: the model's default outputs.
    """
    every = _flag(document, "binary_data_output", default=False)
    outputs = document.get("outputs")
    if outputs is None or outputs == []:
        return [], lambda _: every
    if type(outputs) is not list or not all(_is_output(output) for output in outputs):
        raise RequestError("WRONG_TYPE", 'outputs must be a list of {"name": …}')
    flags = {output["name"]: _flag(output, "binary_data", default=every) for output in outputs}
    return [output["name"] for output in outputs], flags.__getitem__


def _flag(owner: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a parameter that is true or false."""
    parameters = owner.get("parameters")
    value = parameters.get(name) if type(parameters) is dict else None
    if value is None:
        return default
    if type(value) is not bool:
        raise RequestError("WRONG_TYPE", f"parameters.{name} must be true or false")
    return value


def _is_output(output: object) -> bool:
    return type(output) is dict and type(output.get("name")) is str


def _output(name: str, values: Array, *, binary: bool) -> tuple[dict[str, Any], bytes | None]:
    """Return an output tensor, and its bytes if they are wanted; data is flat.

    Raises:
        RequestError: it needs to be bytes, and they are not wanted.
    """
    described = {"name": name, "shape": values.shape, "datatype": datatype_of(values.dtype)}
    if binary:
        content = v2_raw.write(values)
        return {**described, "parameters": {v2_raw.SIZE: len(content)}}, content
    if described["datatype"] == v2_raw.TEXT and texts.has_bytes(values):
        raise RequestError(
            "NOT_TEXT",
            f"the output {name!r} has bytes that are not UTF-8 text, which V2's JSON cannot "
            'represent; send {"binary_data": true} in its parameters, or use gRPC',
        )
    return {**described, "data": listed(values.ravel())}, None


def metadata(model: Model) -> dict[str, Any]:
    """Return the answer to `GET /v2/models/<name>`."""
    manifest = model.manifest
    return {
        "name": model.name,
        "versions": [model.version_name],
        "platform": manifest.framework,
        "inputs": [_described(tensor) for tensor in manifest.inputs],
        "outputs": [_described(tensor) for tensor in manifest.outputs],
        # How MLServer says that one tensor for each column becomes a data frame.
        "parameters": {"content_type": "pd"} if _is_table(model) else {},
    }


async def repository_index(model: Model, request: Request) -> Answer:
    """Answer `POST /v2/repository/index`, whose body may be empty.

    Raises:
        RequestError: the body is not a JSON object, or names a repository.
    """
    document = parse_object(request) if request.body.strip() else {}
    check_repository(document.get("repository_name"))
    return answer(await index(model))


def check_repository(name: object) -> None:
    """Require that a request for the index names no repository, as Triton does.

    Raises:
        RequestError: it names one.
    """
    if name:
        raise RequestError(
            NO_REPOSITORY,
            f"there is no repository {str(name)[:80]!r}: this server has no repositories; send no "
            "repository_name",
        )


def same_model() -> RequestError:
    """Return the error of a request that loads or unloads a model."""
    return RequestError(NO_REPOSITORY, "this server always has the same model")


async def index(model: Model) -> list[dict[str, str]]:
    """Return the index of models: the only one, in the state of its readiness."""
    reason = await model.describe_unready()
    state = "UNAVAILABLE" if reason else "READY"
    return [{"name": model.name, "version": model.version_name, "state": state, "reason": reason}]


def _is_table(model: Model) -> bool:
    return model.manifest.schema is not None and model.manifest.schema.form == TABLE


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
