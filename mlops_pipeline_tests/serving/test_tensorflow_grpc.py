import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given

from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_serving_pb2 as pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline_tests.embedded.generated import predict_requests
from mlops_pipeline_tests.serving.at_once import tensorflow_grpc
from mlops_pipeline_tests.serving.tensorflow_messages import meta_graph_pb2, tensor_pb2
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature

MODEL = toy_model()
ROW = [1.0, 2.0, 3.0, 4.0]


def request_of(rows: Any, *, input_name: str = "features", **spec: Any) -> pb.PredictRequest:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(**{"name": "classifier", **spec}))
    tensor_proto.write(request.inputs[input_name], np.array(rows))
    return request


def test_scores_are_in_the_field_of_their_type_as_tf_serving_answers() -> None:
    response = tensorflow_grpc.predict(MODEL, request_of([ROW, ROW]))
    assert list(response.outputs["scores"].double_val) == [10.0, -10.0] * 2
    theirs = tensor_pb2.TensorProto.FromString(response.outputs["scores"].SerializeToString())
    assert [dim.size for dim in theirs.tensor_shape.dim] == [2, 2]
    spec = response.model_spec
    assert (spec.name, spec.signature_name) == ("classifier", "serving_default")
    assert spec.version.value == MODEL.version


def test_all_outputs_are_answered_and_the_filter_selects() -> None:
    model = toy_model(toy_signature(several=True))
    request = request_of([ROW])
    assert set(tensorflow_grpc.predict(model, request).outputs) == {"scores", "label"}
    request.output_filter.append("label")
    outputs = tensorflow_grpc.predict(model, request).outputs
    assert set(outputs) == {"label"}
    assert list(outputs["label"].int64_val) == [1]


def test_columns_may_be_inputs_of_their_own() -> None:
    model = toy_model(replace(toy_signature(), columns=("a", "b", "c", "d")))
    request = pb.PredictRequest(model_spec={"name": "classifier"})
    for name, value in zip("dcba", reversed(ROW), strict=True):
        tensor_proto.write(request.inputs[name], np.array([value, value]))
    response = tensorflow_grpc.predict(model, request)
    assert list(response.outputs["scores"].double_val) == [10.0, -10.0] * 2
    del request.inputs["a"]
    with pytest.raises(RequestError, match="names"):
        tensorflow_grpc.predict(model, request)
    for names in ((), ("other",)):
        request.inputs.clear()
        for name in names:
            tensor_proto.write(request.inputs[name], np.array([1.0]))
        with pytest.raises(RequestError, match="the only input must be 'features'"):
            tensorflow_grpc.predict(model, request)


def test_repeated_values_of_several_inputs_share_the_limit() -> None:
    model = toy_model(replace(toy_signature(), columns=("a", "b", "c", "d")))
    request = pb.PredictRequest(model_spec={"name": "classifier"})
    for name in "abcd":
        tensor_proto.write(request.inputs[name], np.array([1.0]))
        request.inputs[name].tensor_shape.dim[0].size = 2048
    response = tensorflow_grpc.predict(model, request)
    assert list(response.outputs["scores"].double_val) == [4.0, -4.0] * 2048
    request.inputs["b"].tensor_shape.dim[0].size = 2049
    with pytest.raises(RequestError, match="at most 16384 bytes"):
        tensorflow_grpc.predict(model, request)


@pytest.mark.parametrize("version", [MODEL.version, 1])
def test_a_version_may_be_named(version: int) -> None:
    request = request_of([ROW])
    request.model_spec.version.value = version
    assert tensorflow_grpc.predict(MODEL, request).model_spec.version.value == version
    asked = pb.GetModelStatusRequest(model_spec=request.model_spec)
    (status,) = tensorflow_grpc.status(MODEL, asked).model_version_status
    assert status.version == version
    described = pb.GetModelMetadataRequest(
        model_spec=request.model_spec, metadata_field=["signature_def"]
    )
    assert tensorflow_grpc.metadata(MODEL, described).model_spec.version.value == version


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (pb.PredictRequest(), 400, "model_spec is missing; send it with the name 'classifier'"),
        (request_of([ROW], name="other"), 404, "no model 'other'.*'classifier'"),
        (request_of([ROW], version_label="stable"), 404, "the label 'stable'"),
        (request_of([ROW], version={"value": 7}), 404, "no version '7' of 'classifier'"),
        (request_of([ROW], version={"value": 0}), 404, "no version '0' of 'classifier'"),
        (request_of([ROW], signature_name="x"), 400, "no signature 'x'"),
        (request_of([ROW], input_name="x"), 400, "inputs: the only input must be 'features'"),
        (pb.PredictRequest(model_spec={"name": "classifier"}), 400, "the only input must be"),
        (request_of([ROW[:3]]), 400, r"expected shape \[n, 4\], got \[1, 3\]"),
        (request_of([[b"x"] * 4]), 400, "the input 'features' is DT_STRING"),
        (request_of([[np.nan] * 4]), 400, "NaN"),
    ],
)
def test_a_wrong_request_is_refused(request_: pb.PredictRequest, status: int, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        tensorflow_grpc.predict(MODEL, request_)
    assert caught.value.status == status


def test_an_unknown_output_is_refused() -> None:
    request = request_of([ROW])
    request.output_filter.append("x")
    with pytest.raises(RequestError, match="no output 'x'"):
        tensorflow_grpc.predict(MODEL, request)


@given(predict_requests())
def test_whatever_is_sent_is_answered_or_refused(request_: pb.PredictRequest) -> None:
    with contextlib.suppress(RequestError):
        tensorflow_grpc.predict(MODEL, request_)


def test_metadata_are_the_signatures_as_tensorflow_describes_them() -> None:
    request = pb.GetModelMetadataRequest(
        model_spec={"name": "classifier"}, metadata_field=["signature_def"]
    )
    response = tensorflow_grpc.metadata(MODEL, request)
    assert response.model_spec.version.value == MODEL.version
    packed: AnyMessage = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    ours = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    theirs = meta_graph_pb2.SignatureDef.FromString(ours.SerializeToString())
    assert theirs.method_name == "tensorflow/serving/predict"
    features = theirs.inputs["features"]
    assert [dim.size for dim in features.tensor_shape.dim] == [-1, 4]
    assert features.dtype == theirs.outputs["scores"].dtype == 2  # DT_DOUBLE
    assert [dim.size for dim in theirs.outputs["scores"].tensor_shape.dim] == [-1, 2]


@pytest.mark.parametrize("fields", [[], ["other"], ["signature_def", "other"]])
def test_other_metadata_are_refused(fields: list[str]) -> None:
    request = pb.GetModelMetadataRequest(model_spec={"name": "classifier"}, metadata_field=fields)
    with pytest.raises(RequestError, match=r"metadata_field must be \['signature_def'\], got"):
        tensorflow_grpc.metadata(MODEL, request)


def test_the_only_version_is_available() -> None:
    request = pb.GetModelStatusRequest(model_spec={"name": "classifier"})
    (status,) = tensorflow_grpc.status(MODEL, request).model_version_status
    assert (status.version, status.state) == (MODEL.version, pb.ModelVersionStatus.AVAILABLE)
    assert status.status.error_code == 0
    request.model_spec.name = "other"
    with pytest.raises(RequestError, match="no model 'other'"):
        tensorflow_grpc.status(MODEL, request)
