"""The methods of gRPC's services, and how each is answered."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tf
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols import (
    seldon_component,
    seldon_grpc,
    tensorflow_grpc,
    v2_grpc,
)
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.protocols.v2 import same_model

Method = Callable[[Unit, Any], Coroutine[Any, Any, Message]]

V2 = "inference.GRPCInferenceService"
_OURS = "mlops_pipeline."
"""The prefix of our names of V2's and TensorFlow's messages: see inference.proto."""


@dataclass(frozen=True)
class Operation:
    """How a service's method is answered."""

    request: type[Message]
    method: Method
    while_loading: Callable[[Any], Message] | None = None
    """How it is answered before there is a model; None: with the error that it is loaded."""
    protocol: str = ""
    """Under which the answers are counted and recorded; empty: they are not."""
    is_feedback: bool = False

    async def answer(self, unit: Unit, content: bytes) -> Message:
        """Parse the message and answer it.

        Raises:
            RequestError: it is not of the method's type, or the method refuses it.
        """
        return await self.method(unit, self.parse(content))

    def parse(self, content: bytes) -> Message:
        """Return the message.

        Raises:
            RequestError: it is not of the method's type.
        """
        try:
            return self.request.FromString(content)
        except DecodeError as error:
            wanted = self.request.DESCRIPTOR.full_name.removeprefix(_OURS)
            raise RequestError("BAD_MESSAGE", f"the message is not of the type {wanted}") from error


def _of_model(method: Callable[[Model, Any], Message]) -> Method:
    """Return a method that describes a model as a method of its unit."""
    return _described(lambda unit, request: method(unit.model, request))


def _asking(method: Callable[[Model, Any], Coroutine[Any, Any, Message]]) -> Method:
    """Return a method that asks a model as a method of its unit."""
    return lambda unit, request: method(unit.model, request)


def _described(method: Callable[[Unit, Any], Message]) -> Method:
    """Return a method that does not ask the model."""

    async def describe(unit: Unit, request: Any) -> Message:
        return method(unit, request)

    return describe


async def _refuse_examples(unit: Unit, request: object) -> Message:
    raise RequestError(
        "UNSUPPORTED",
        "this server does not parse tf.Example; call Predict with the model's input as a tensor",
        status=501,
    )


async def _predict(unit: Unit, request: pb.SeldonMessage) -> Message:
    return await seldon_component.methods_of(unit).predict(unit, request)


async def _refuse_repository(unit: Unit, request: object) -> Message:
    raise same_model()


_PREDICT = Operation(pb.SeldonMessage, _predict, protocol="seldon")
_FEEDBACK = Operation(pb.Feedback, _described(seldon_grpc.feedback), is_feedback=True)
OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    V2: {
        "ModelInfer": Operation(v2.ModelInferRequest, _asking(v2_grpc.infer), protocol="v2"),
        "ModelMetadata": Operation(v2.ModelMetadataRequest, _of_model(v2_grpc.metadata)),
        "ModelReady": Operation(v2.ModelReadyRequest, _asking(v2_grpc.ready)),
        "RepositoryIndex": Operation(v2.RepositoryIndexRequest, _asking(v2_grpc.index)),
        # Extensions of other servers, whose messages are not parsed.
        "RepositoryModelLoad": Operation(Empty, _refuse_repository),
        "RepositoryModelUnload": Operation(Empty, _refuse_repository),
    },
    "seldon.protos.Model": {
        "Predict": _PREDICT,
        "SendFeedback": _FEEDBACK,
        "Metadata": Operation(Empty, _described(seldon_grpc.model_metadata)),
    },
    # Seldon's clients send feedback to one unit with it; its other fields are for other units.
    "seldon.protos.Generic": {"SendFeedback": _FEEDBACK},
    "seldon.protos.Seldon": {
        "Predict": _PREDICT,
        "SendFeedback": _FEEDBACK,
        "ModelMetadata": Operation(
            pb.SeldonModelMetadataRequest, _described(seldon_grpc.model_metadata)
        ),
        "GraphMetadata": Operation(Empty, _described(seldon_grpc.graph_metadata)),
    },
    "tensorflow.serving.PredictionService": {
        "Predict": Operation(
            tf.PredictRequest, _asking(tensorflow_grpc.predict), protocol="tensorflow"
        ),
        "GetModelMetadata": Operation(
            tf.GetModelMetadataRequest, _of_model(tensorflow_grpc.metadata)
        ),
        "Classify": Operation(Empty, _refuse_examples),
        "Regress": Operation(Empty, _refuse_examples),
        "MultiInference": Operation(Empty, _refuse_examples),
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": Operation(
            tf.GetModelStatusRequest,
            _asking(tensorflow_grpc.status),
            while_loading=tensorflow_grpc.loading,
        ),
        "HandleReloadConfigRequest": Operation(Empty, _refuse_repository),
    },
}
"""Service → method → its operation."""
