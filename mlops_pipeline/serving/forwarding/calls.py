"""The gRPC side of a forwarder: forwards calls of any service as bytes."""

import functools
from typing import Any

import grpc

from mlops_pipeline.serving.forwarding.connection import nothing
from mlops_pipeline.serving.forwarding.target import Target
from mlops_pipeline.serving.grpc_port import message_limits
from mlops_pipeline.serving.unit_header import HEADER

_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""The model's server is in the same pod: it is back as soon as it has restarted."""


class CallForwarder(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Returns what the model's server answers within `seconds`."""

    def __init__(self, target: Target, *, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._metadata = ((HEADER, target.said),)
        options = [*message_limits(-1), *_RECONNECT]
        self._channel = grpc.aio.insecure_channel(target.grpc_address, options=options)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call to any method."""
        call = functools.partial(self._call, handler_call_details.method)
        return grpc.stream_unary_rpc_method_handler(call)

    async def _call(self, method: str, _: object, context: Any) -> bytes:
        """Forward a call, and return its answer or its error."""
        content = await context.read()
        try:
            answered: bytes = await self._ask(method, content, context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), self._details(error))
            raise AssertionError("abort always raises") from error
        return answered

    def _ask(self, method: str, content: Any, remaining: float | None) -> Any:
        options = {
            "metadata": self._metadata,
            "timeout": min(remaining or self._seconds, self._seconds),
        }
        if content is grpc.aio.EOF:
            return self._channel.stream_unary(method)(nothing(), **options)
        return self._channel.unary_unary(method)(content, **options)

    def _details(self, error: Any) -> str:
        """Return the server's message, or ours if it could not be reached."""
        if self._channel.get_state() is grpc.ChannelConnectivity.READY:
            return str(error.details())
        return f"the model's server at {self._target.grpc_address} cannot be reached"

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
