"""TF Serving's own messages and stubs, of the package tensorflow-serving-api, beside ours."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_pb2 as tensors
from mlops_pipeline.serving import tensorflow_serving_pb2 as ours
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.grpc_server import GrpcServer
from mlops_pipeline.serving.memory import LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.settings import read_settings
from mlops_pipeline_tests.serving.tensorflow_messages import SERVING_API, messages
from mlops_pipeline_tests.serving.toy_model import toy_unit

pytestmark = pytest.mark.skipif(
    not SERVING_API.exists(), reason="`make test` installs TF Serving's messages; run that"
)
THEIRS = "tensorflow.serving."


@pytest.fixture(scope="module")
def pool() -> Any:
    """Return the descriptors of TF Serving."""
    found = messages("tensorflow_serving.apis.prediction_service_pb2", path=SERVING_API)
    messages("tensorflow_serving.apis.model_service_pb2", path=SERVING_API)
    return found.DESCRIPTOR.pool


def fields(message: Any) -> dict[str, Any]:
    """Return name → number, type, label, oneof and message or enum, of each field."""
    return {
        field.name: (
            field.number,
            field.type,
            field.label,
            field.containing_oneof and field.containing_oneof.name,
            _plain(field.message_type),
            _plain(field.enum_type),
        )
        for field in message.fields
    }


def _plain(described: Any) -> str:
    return described.full_name.removeprefix("mlops_pipeline.") if described else ""


def _all(messages_: Any) -> Any:
    for message in messages_:
        yield message
        yield from _all(message.nested_types)


MESSAGES = {
    _plain(message): message
    for file in (ours.DESCRIPTOR, tensors.DESCRIPTOR)
    for message in _all(file.message_types_by_name.values())
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_each_field_is_theirs(name: str, pool: Any) -> None:
    found, known = fields(MESSAGES[name]), fields(pool.FindMessageTypeByName(name))
    assert found
    if name == "tensorflow.serving.StatusProto":
        # An enum of another file, here an integer, which is the same on the wire.
        kinds = [one.pop("error_code")[1] for one in (found, known)]
        assert kinds == [FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM]
    assert found == {key: known.get(key) for key in found}
    for kind in MESSAGES[name].enum_types:
        theirs = pool.FindEnumTypeByName(_plain(kind)).values_by_name
        assert {key: value.number for key, value in kind.values_by_name.items()} == {
            key: value.number for key, value in theirs.items()
        }


def test_each_method_is_theirs(pool: Any) -> None:
    for name, service in ours.DESCRIPTOR.services_by_name.items():
        theirs = pool.FindServiceByName(f"{THEIRS}{name}").methods_by_name
        for method in service.methods:
            other = theirs[method.name]
            for mine, wanted in (
                (method.input_type, other.input_type),
                (method.output_type, other.output_type),
            ):
                assert _plain(mine) == wanted.full_name


def test_their_stubs_ask_our_server() -> None:
    apis = "tensorflow_serving.apis"
    predict = messages(f"{apis}.predict_pb2", path=SERVING_API)
    described = messages(f"{apis}.get_model_metadata_pb2", path=SERVING_API)
    state = messages(f"{apis}.get_model_status_pb2", path=SERVING_API)
    stubs = messages(f"{apis}.prediction_service_pb2_grpc", path=SERVING_API)
    models = messages(f"{apis}.model_service_pb2_grpc", path=SERVING_API)

    async def work() -> None:
        settings = read_settings({"MLSERVER_GRPC_PORT": "0"}, model=".")
        server = GrpcServer(
            settings,
            large=LargeRequests(),
            batcher=Batcher(lambda *_: None),
            metrics=Metrics(CollectorRegistry()),
        )
        await server.start()
        spec = {"name": "classifier", "version": {"value": 1}}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            service, model_service = (
                stubs.PredictionServiceStub(channel),
                models.ModelServiceStub(channel),
            )
            asked = state.GetModelStatusRequest(model_spec=spec)
            (loading,) = (
                await model_service.GetModelStatus(asked, timeout=20)
            ).model_version_status
            assert loading.state == state.ModelVersionStatus.LOADING
            server.serve_model(toy_unit())
            (status,) = (await model_service.GetModelStatus(asked, timeout=20)).model_version_status
            assert (status.version, status.state) == (1, state.ModelVersionStatus.AVAILABLE)
            request = predict.PredictRequest(model_spec=spec, output_filter=["scores"])
            request.inputs["features"].ParseFromString(_written([[1.0, 2.0, 3.0, 4.0]]))
            answer = await service.Predict(request, timeout=20)
            assert list(answer.outputs["scores"].double_val) == [10.0, -10.0]
            assert (answer.model_spec.name, answer.model_spec.version.value) == ("classifier", 1)
            metadata = await service.GetModelMetadata(
                described.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
            )
            found = described.SignatureDefMap()
            assert metadata.metadata["signature_def"].Unpack(found)
            assert set(found.signature_def["serving_default"].outputs) == {"scores", "label"}
            request.model_spec.signature_name = "x"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.Predict(request, timeout=20)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        await server.stop()

    asyncio.run(asyncio.wait_for(work(), 60))


def _written(rows: Any) -> bytes:
    tensor = tensors.TensorProto()
    tensor_proto.write(tensor, np.array(rows))
    written: bytes = tensor.SerializeToString()
    return written
