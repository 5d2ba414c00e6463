"""gRPC: the services of V2, Seldon and TF Serving, on one port."""

import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from mlops_pipeline.serving import SERVER, VERSION
from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving.batching import DEADLINE, Batcher, run_at_once
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.grpc_operations import OPERATIONS, V2, Operation
from mlops_pipeline.serving.grpc_port import bound_server
from mlops_pipeline.serving.memory import LARGE, LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.protocols.v2 import EXTENSIONS, NO_REPOSITORY
from mlops_pipeline.serving.recording.calls import observed, take_feedback
from mlops_pipeline.serving.recording.watch import Watch
from mlops_pipeline.serving.settings import Place, ServerSettings
from mlops_pipeline.serving.unit_header import HEADER
from mlops_pipeline.serving.units import Kept, unit_of

logger = logging.getLogger(__name__)

Context = Any

STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OF_REASON = {
    "UNKNOWN_SIGNATURE": grpc.StatusCode.FAILED_PRECONDITION,
    NO_REPOSITORY: grpc.StatusCode.UNIMPLEMENTED,
}
"""An error's reason → its status, where that of other servers is not the equivalent of HTTP's."""


def code_of(status: int) -> grpc.StatusCode:
    """Return gRPC's code for an HTTP status; a class may choose any from 400 to 599."""
    other = grpc.StatusCode.INTERNAL if status >= 500 else grpc.StatusCode.INVALID_ARGUMENT
    return STATUS.get(status, other)


class Asked(NamedTuple):
    """A unit, and what counts its answers by protocol."""

    unit: Unit
    watches: dict[str, Watch]


class Calls:
    """Answers gRPC calls with a model, from the time at which `unit` is set."""

    def __init__(
        self,
        large: LargeRequests,
        batcher: Batcher,
        *,
        metrics: Metrics,
        place: Place = Place.MACHINE,
    ) -> None:
        self._metrics = metrics
        self.unit: Unit | None = None
        self._large = large
        self._batcher = batcher
        self._asks_who = place is Place.BEHIND
        self._own: Asked | None = None
        self._units = Kept(lambda said: Asked(unit_of(self._loaded().unit, said), {}))

    def handler(self, operation: Operation) -> Any:
        """Return an operation as gRPC's handler, which parses the message itself.

        It is a handler of streams, of which only the first message is used: gRPC's handler of
        single messages never ends a call without one.
        """

        async def call(_: object, context: Context) -> Message:
            with self._batcher.arrival():
                content = await context.read()
            if content is grpc.aio.EOF:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no message")
            return await self._answer(operation, content, context)

        return grpc.stream_unary_rpc_method_handler(call, response_serializer=_serialize)

    async def _answer(self, operation: Operation, content: bytes, context: Context) -> Message:
        """Return the operation's answer, or end the call with its error."""
        try:
            if self.unit is None and operation.while_loading is not None:
                return operation.while_loading(operation.parse(content))
            asked = self._told(context) if self._asks_who else self._loaded()
            if (remaining := context.time_remaining()) is not None:
                DEADLINE.set(time.monotonic() + remaining)
            return await self._observe(operation, asked, content, context)
        except RequestError as error:
            code, details = _OF_REASON.get(error.reason) or code_of(error.status), error.sentence
        except Exception:
            logger.exception("Internal error in gRPC")
            code, details = grpc.StatusCode.INTERNAL, "internal server error"
        await context.abort(code, details)
        raise AssertionError("abort always raises")

    async def _observe(
        self, operation: Operation, asked: Asked, content: bytes, context: Context
    ) -> Message:
        """Answer, and count predictions and feedback."""
        unit, watches = asked
        answering = self._respond(operation, unit, content)
        if protocol := operation.protocol:
            watch = watches.get(protocol)
            if watch is None:
                watch = watches[protocol] = self._metrics.watch(unit, protocol, "grpc")
            return await observed(watch, context, answering, size=len(content))
        answered = await answering
        if operation.is_feedback:
            take_feedback(self._metrics, unit, content, context)
        return answered

    async def _respond(self, operation: Operation, unit: Unit, content: bytes) -> Message:
        """Answer, in a worker thread if the message is large."""
        if len(content) > LARGE:
            return await self._answer_large(operation, unit, content)
        return await operation.answer(unit, content)

    async def _answer_large(self, operation: Operation, unit: Unit, content: bytes) -> Message:
        """Answer in a worker thread."""
        try:
            self._large.take(len(content))
            return await self._large.answer(lambda: run_at_once(operation.answer(unit, content)))
        finally:
            self._large.release(len(content))

    def _loaded(self) -> Asked:
        unit, own = self.unit, self._own
        if unit is None:
            raise RequestError("LOADING", "the model is being loaded", status=503)
        if own is None or own.unit is not unit:
            own = self._own = Asked(unit, {})
        return own

    def _told(self, context: Context) -> Asked:
        """Return the unit that a forwarder names; without one, the model unchanged."""
        for key, value in context.invocation_metadata() or ():
            if key == HEADER:
                return self._units[value]
        return self._loaded()


class GrpcServer:
    """The services of `OPERATIONS`; `serve_model` sets the model."""

    def __init__(
        self, own: ServerSettings, *, large: LargeRequests, batcher: Batcher, metrics: Metrics
    ) -> None:
        self._own = own
        self._server: Any = None
        self._calls = Calls(large, batcher, metrics=metrics, place=own.place)
        self.port = own.grpc_port

    async def start(self) -> None:
        """Open the port and answer.

        Raises:
            StartError: another process has it.
        """
        self._server, self.port = bound_server(
            [self._health(), *(self._service(name) for name in OPERATIONS)],
            host=self._own.host,
            port=self._own.grpc_port,
            max_message_bytes=self._own.max_body_bytes,
        )
        await self._server.start()

    def _service(self, name: str) -> Any:
        """Return a service of `OPERATIONS` as gRPC's generic handler."""
        handlers = {
            method: self._calls.handler(operation) for method, operation in OPERATIONS[name].items()
        }
        return grpc.method_handlers_generic_handler(name, handlers)

    def _health(self) -> Any:
        """Return V2's answers without a model; the requests are empty and not parsed."""
        always: Mapping[str, Message] = {
            "ServerLive": v2.ServerLiveResponse(live=True),
            "ServerMetadata": v2.ServerMetadataResponse(
                name=SERVER, version=VERSION, extensions=EXTENSIONS
            ),
        }
        handlers = {method: _without_request(_constant(said)) for method, said in always.items()}
        handlers["ServerReady"] = _without_request(self._ready)
        return grpc.method_handlers_generic_handler(V2, handlers)

    async def _ready(self) -> Message:
        """Say whether the model can answer, also the class of a custom component."""
        unit = self._calls.unit
        is_ready = unit is not None and not await unit.model.describe_unready()
        return v2.ServerReadyResponse(ready=is_ready)

    async def stop(self) -> None:
        """Refuse new calls and finish the current ones."""
        if self._server is not None:
            await self._server.stop(grace=self._own.drain_seconds)

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
        self._calls.unit = unit


def _serialize(message: Message) -> bytes:
    written: bytes = message.SerializeToString()
    return written


def _constant(message: Message) -> Callable[[], Coroutine[Any, Any, Message]]:
    """Return the function that always gives the same answer."""

    async def answer() -> Message:
        return message

    return answer


def _without_request(answer: Callable[[], Coroutine[Any, Any, Message]]) -> Any:
    """Return gRPC's handler of a method whose request is not read."""

    async def call(_: object, context: Context) -> Message:
        return await answer()

    return grpc.stream_unary_rpc_method_handler(call, response_serializer=_serialize)
