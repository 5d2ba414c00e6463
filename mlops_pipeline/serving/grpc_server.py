"""gRPC: V2's service and Seldon's two, on one port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from mlserver.grpc.dataplane_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from mlserver.grpc.server import GRPCServer
from mlserver.grpc.servicers import InferenceServicer

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.protocols import seldon_grpc, v2_grpc
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.settings import ServerSettings

logger = logging.getLogger("mlserver.grpc")

Method = Callable[[Unit, Any], Message]
Context = Any

LARGE = 64 << 10
"""Bytes of a message from which on it is answered in a worker thread."""

STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
}

SELDON_METHODS: dict[str, dict[str, tuple[Method, type[Message]]]] = {
    "seldon.protos.Model": {
        "Predict": (seldon_grpc.predict, pb.SeldonMessage),
        "SendFeedback": (seldon_grpc.feedback, pb.Feedback),
        "Metadata": (seldon_grpc.model_metadata, Empty),
    },
    "seldon.protos.Seldon": {
        "Predict": (seldon_grpc.predict, pb.SeldonMessage),
        "SendFeedback": (seldon_grpc.feedback, pb.Feedback),
        "ModelMetadata": (seldon_grpc.model_metadata, pb.SeldonModelMetadataRequest),
        "GraphMetadata": (seldon_grpc.graph_metadata, Empty),
    },
}


class Calls:
    """Answers gRPC calls with a model, which is there from `unit` being set on."""

    def __init__(self) -> None:
        self.unit: Unit | None = None
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="large-call")

    async def answer(self, method: Method, request: Any, context: Context) -> Message:
        """Return the method's answer, or end the call with the sentence that says why not."""
        try:
            unit = self._loaded()
            if request.ByteSize() > LARGE:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._workers, method, unit, request)
            return method(unit, request)
        except RequestError as error:
            code = STATUS.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
            details = error.sentence
        except Exception:
            logger.exception("A defect of the server, in gRPC")
            code, details = grpc.StatusCode.INTERNAL, "the server has a defect"
        await context.abort(code, details)
        raise AssertionError("abort always raises")

    def _loaded(self) -> Unit:
        if self.unit is None:
            raise RequestError("LOADING", "the model is being loaded", status=503)
        return self.unit

    def handler(self, method: Method) -> Callable[[Any, Context], Awaitable[Message]]:
        """Return `method` as gRPC calls it."""

        async def call(request: Any, context: Context) -> Message:
            return await self.answer(method, request, context)

        return call


class InferenceService(InferenceServicer):  # type: ignore[misc]
    """MLServer's V2 service, with our way to predict and without loading and unloading."""

    def __init__(self, data_plane: Any, repository: Any, *, calls: Calls) -> None:
        super().__init__(data_plane, repository)
        self._calls = calls

    async def ModelInfer(self, request: Any, context: Context) -> Message:
        """Answer a prediction."""
        return await self._calls.answer(_infer, request, context)

    async def ModelReady(self, request: Any, context: Context) -> Message:
        """Say whether the model is ready; an unknown one is NOT_FOUND, where MLServer fails."""
        return await self._calls.answer(_ready, request, context)

    async def ModelMetadata(self, request: Any, context: Context) -> Message:
        """Describe the model; an unknown one is NOT_FOUND, without MLServer's trace in the log."""
        return await self._calls.answer(_metadata, request, context)

    async def ModelStreamInfer(self, requests: Any, context: Context) -> Any:
        """Refuse: a prediction is one message."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "streams are not offered; use ModelInfer"
        )
        yield None

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        """Refuse: one process serves one model, and no client may unload it."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server has one model, for good")

    RepositoryModelLoad = RepositoryIndex
    RepositoryModelUnload = RepositoryIndex


def _infer(unit: Unit, request: Any) -> Message:
    return v2_grpc.infer(unit.model, request)


def _metadata(unit: Unit, request: Any) -> Message:
    return v2_grpc.metadata(unit.model, request)


def _ready(unit: Unit, request: Any) -> Message:
    return v2_grpc.ready(unit.model, request)


class ModelGRPCServer(GRPCServer):  # type: ignore[misc]
    """MLServer's gRPC server with Seldon's services beside it, bound before the model loads."""

    def __init__(self, *arguments: Any, own: ServerSettings) -> None:
        super().__init__(*arguments)
        self._own = own
        self._calls = Calls()
        self.port = own.grpc_port

    async def bind(self) -> None:
        """Take the port.

        Raises:
            StartError: another process has it.
        """
        # Without this option, two servers on one port would share its calls, silently.
        options = [*self._get_options(), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(ThreadPoolExecutor(1), options=options)
        add_GRPCInferenceServiceServicer_to_server(
            InferenceService(self._data_plane, self._model_repository_handlers, calls=self._calls),
            self._server,
        )
        self._server.add_generic_rpc_handlers(
            [self._service(name, methods) for name, methods in SELDON_METHODS.items()]
        )
        address = f"{self._own.host}:{self._own.grpc_port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(
                f"gRPC cannot listen on {address}; is another process there?", code=ExitCode.PORT
            ) from error

    def _service(self, name: str, methods: dict[str, tuple[Method, type[Message]]]) -> Any:
        """Return a service of Seldon's as gRPC's generic handler."""
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                self._calls.handler(function),
                request_deserializer=kind.FromString,
                response_serializer=_serialize,
            )
            for method, (function, kind) in methods.items()
        }
        return grpc.method_handlers_generic_handler(name, handlers)

    async def start(self) -> None:
        """Serve until stopped."""
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop(self, sig: int | None = None) -> None:
        """Refuse new calls and finish those in flight."""
        await self._server.stop(grace=self._own.drain_seconds)

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
        self._calls.unit = unit


def _serialize(message: Message) -> bytes:
    written: bytes = message.SerializeToString()
    return written
