"""TF Serving's gRPC: `PredictionService` and `ModelService`, from message to message.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from google.protobuf.json_format import ParseDict

from mlops_pipeline.serving import tensor_proto, versions
from mlops_pipeline.serving import tensorflow_serving_pb2 as pb
from mlops_pipeline.serving.columns import of_inputs
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.memory import LARGE
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.protocols import tensorflow
from mlops_pipeline.serving.protocols.row_formats import check_input
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.several import of_arrays
from mlops_pipeline.serving.tensorflow_pb2 import DT_STRING, TensorProto

_UNAVAILABLE = 14
"""gRPC's code."""
_SIGNATURES = "signature_def"
"""The only metadata that TF Serving has."""
_TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


async def predict(model: Model, request: pb.PredictRequest) -> pb.PredictResponse:
    """Answer `Predict`, in the fields of the tensors' types, as TF Serving does.

    Raises:
        RequestError: another model, version or signature, or not rows that the model can answer.
    """
    _check(model, request)
    signature = model.signature(request.model_spec.signature_name)
    rows = _rows(signature, request)
    scores = await model.predict(signature, rows, list(request.output_filter))
    response = pb.PredictResponse(model_spec=_spec(model, request.model_spec))
    response.model_spec.signature_name = signature.name
    for name, values in scores:
        tensor_proto.write(response.outputs[name], values)
    return response


Asked = pb.PredictRequest | pb.GetModelMetadataRequest | pb.GetModelStatusRequest


def _check(model: Model, request: Asked) -> None:
    """Require that a request names this model.

    Raises:
        RequestError: it names no model; or another one, or a version by a label: status 404.
    """
    spec = request.model_spec
    if not request.HasField("model_spec"):
        raise RequestError(
            "NO_MODEL_SPEC", f"model_spec is missing; send it with the name {model.name!r}"
        )
    if spec.WhichOneof("version_choice") == "version_label":
        raise RequestError("NOT_FOUND", versions.no_label(spec.version_label), status=404)
    given = spec.WhichOneof("version_choice") is not None
    versions.check(model, spec.name, str(spec.version.value) if given else "")


def _spec(model: Model, asked: pb.ModelSpec) -> pb.ModelSpec:
    """Return the model's name and version: of its two numbers, the one that was asked for."""
    spec = pb.ModelSpec(name=model.name)
    given = asked.WhichOneof("version_choice") is not None
    spec.version.value = asked.version.value if given else model.version
    return spec


def _rows(signature: Signature, request: pb.PredictRequest) -> Array:
    """Return the rows in the one input of a request, in several, or in one for each column."""
    is_table = signature.input not in request.inputs and set(signature.columns) & set(
        request.inputs
    )
    if not signature.inputs and not is_table:
        check_input(signature, request.inputs.keys(), where="inputs")
        tensor = request.inputs[signature.input]
        return _array(signature.input, tensor, text=signature.dtype.kind == "O")
    most = LARGE // len(request.inputs) if request.inputs else 0
    arrays = {
        name: _array(name, tensor, text=tensor.dtype == DT_STRING, most_repeated=most)
        for name, tensor in request.inputs.items()
    }
    if signature.inputs:
        return of_arrays(signature, arrays)
    return of_inputs(signature, list(arrays), list(arrays.values()))


def _array(name: str, tensor: TensorProto, *, text: bool, most_repeated: int = LARGE) -> Array:
    return tensor_proto.read(
        tensor, where=f"the input {name[:80]!r}", text=text, most_repeated=most_repeated
    )


def metadata(model: Model, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
    """Answer `GetModelMetadata`.

    Raises:
        RequestError: another model or version, or other metadata than the signatures.
    """
    _check(model, request)
    wanted = list(request.metadata_field)
    if not wanted or set(wanted) != {_SIGNATURES}:
        got = ", ".join(name[:80] for name in wanted) or "none"
        raise RequestError("UNSUPPORTED", f"metadata_field must be [{_SIGNATURES!r}], got {got}")
    found = pb.SignatureDefMap()
    for name, signature in model.signatures.items():
        ParseDict(tensorflow.describe(model, signature), found.signature_def[name])
    response = pb.GetModelMetadataResponse(model_spec=_spec(model, request.model_spec))
    response.metadata[_SIGNATURES].type_url = _TYPE_URL
    response.metadata[_SIGNATURES].value = found.SerializeToString()
    return response


def loading(request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
    """Answer `GetModelStatus` before there is a model: its only version is being loaded.

    The version is the one that the request names, or 0: it is not known yet.
    """
    response = pb.GetModelStatusResponse()
    response.model_version_status.add(
        version=request.model_spec.version.value,
        state=pb.ModelVersionStatus.LOADING,
        status=pb.StatusProto(),
    )
    return response


async def status(model: Model, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
    """Answer `GetModelStatus`: the only version, in the same state as by REST.

    Raises:
        RequestError: another model or version.
    """
    _check(model, request)
    reason = await model.describe_unready()
    states = pb.ModelVersionStatus
    response = pb.GetModelStatusResponse()
    response.model_version_status.add(
        version=_spec(model, request.model_spec).version.value,
        state=states.LOADING if reason else states.AVAILABLE,
        status=pb.StatusProto(error_code=_UNAVAILABLE if reason else 0, error_message=reason),
    )
    return response
