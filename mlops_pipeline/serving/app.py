"""The ASGI application: a dictionary from path to handler, for the REST of all protocols.

Small requests are answered in the event loop, because handing them to a thread costs as much as a
prediction; large ones in a worker thread, so that health checks stay fast.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlops_pipeline.serving.asgi import ANSWERING, Message, Receive, Scope, Send
from mlops_pipeline.serving.batching import run_at_once
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.failures import Failure
from mlops_pipeline.serving.memory import LARGE, LargeRequests
from mlops_pipeline.serving.messages import Answer, Handler, Request
from mlops_pipeline.serving.recording.exchange import Exchange
from mlops_pipeline.serving.recording.watch import PUID, Watch, echoed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """A path's handlers by method, and the protocol's format of errors."""

    methods: Mapping[str, Handler]
    error: Failure
    watch: Watch | None = None
    """Counts and records the answers of a route that predicts."""


class App:
    """Dispatches requests to handlers."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        missing: Callable[[str], Route],
        max_body_bytes: int,
        large: LargeRequests,
    ) -> None:
        """`missing` returns the route that refuses a path that is not in `routes`."""
        self.routes = routes
        self._missing = missing
        self._max_body_bytes = max_body_bytes
        self._inline_bytes = min(LARGE, max_body_bytes)
        self._large = large
        self.headers: list[tuple[bytes, bytes]] = []
        """Headers of every answer, such as `x-model-digest`."""

    def serve(self, routes: Mapping[str, Route], *, missing: Callable[[str], Route]) -> None:
        """Replace the routes; the next request uses the new ones."""
        self.routes, self._missing = routes, missing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        scope[ANSWERING] = asyncio.current_task()
        path = scope["path"]
        route = self.routes.get(path) or self._missing(path)
        try:
            await self._send(await self._answer(route, scope, receive), send)
        except (ConnectionResetError, asyncio.CancelledError):  # Nobody waits for the answer.
            return

    async def _answer(self, route: Route, scope: Scope, receive: Receive) -> Answer:
        """Return the answer, or an error in the format of the route; count it."""
        method, headers = scope["method"], dict(scope["headers"])
        handler = route.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            await _discard(headers, receive)
            return _refuse_method(route, method)
        watch, reason = route.watch, ""
        exchange = None if watch is None else watch.begin()
        try:
            answered = await self._handle(handler, headers, receive, watch, exchange)
        except RequestError as error:
            answered, reason = route.error(error), error.reason
        except (ConnectionResetError, asyncio.CancelledError):
            if watch is not None and exchange is not None:
                watch.end(exchange, status=0)
            raise
        except Exception:
            logger.exception("Internal error in %s %s", method, scope["path"])
            reason = "DEFECT"
            answered = route.error(RequestError(reason, "internal server error", status=500))
        if watch is None or exchange is None:
            return answered
        watch.end(exchange, status=answered.status, reason=reason, size=len(answered.body))
        if watch.is_recording and (reason or not exchange.is_named):
            return _named(answered, exchange)
        return answered

    async def _handle(
        self,
        handler: Handler,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        watch: Watch | None,
        exchange: Exchange | None,
    ) -> Answer:
        """Read the body and call the handler with it; `watch` is told when all of it is there."""
        refusal = self._refusal(headers)
        if refusal:
            await _discard(headers, receive)
            raise refusal
        message = await receive()
        if message.get("more_body") or len(message.get("body", b"")) > self._inline_bytes:
            return await self._answer_large(handler, headers, message, receive, watch, exchange)
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body = message["body"]
        if watch is not None and exchange is not None:
            watch.arrived(exchange, headers, len(body))
        return await handler(_request(body, headers))

    async def _answer_large(
        self,
        handler: Handler,
        headers: Mapping[bytes, bytes],
        message: Message,
        receive: Receive,
        watch: Watch | None,
        exchange: Exchange | None,
    ) -> Answer:
        """Read the rest of the body and answer in a worker thread."""
        body = bytearray()
        try:
            while self._keep(body, message):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            if watch is not None and exchange is not None:
                watch.arrived(exchange, headers, len(body))
            request = _request(bytes(body), headers)
            return await self._large.answer(lambda: run_at_once(handler(request)))
        except RequestError:
            self._forget(body)
            if message.get("more_body"):
                await _discard(headers, receive)
            raise
        finally:
            self._forget(body)

    def _forget(self, body: bytearray) -> None:
        self._large.release(len(body))
        body.clear()

    def _keep(self, body: bytearray, message: Message) -> bool:
        """Append a message's bytes to `body`, and say whether more will follow.

        Raises:
            RequestError: this body, or all bodies in memory together, are too large.
        """
        chunk: bytes = message.get("body", b"")
        body += chunk
        self._large.take(len(chunk))
        if len(body) > self._max_body_bytes:
            raise self._too_large()
        return bool(message.get("more_body"))

    def _refusal(self, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Return why a body with these headers is refused, None if it is not."""
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return RequestError(
                "WRONG_ENCODING", "compressed bodies are not supported; send the body uncompressed"
            )
        if int(headers.get(b"content-length", b"0")) > self._max_body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> RequestError:
        return RequestError(
            "TOO_LARGE", f"the body is larger than {self._max_body_bytes} bytes; send fewer rows"
        )

    async def _send(self, answer: Answer, send: Send) -> None:
        status, body, content_type, more_headers = answer
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *self.headers,
            *more_headers,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _request(body: bytes, headers: Mapping[bytes, bytes]) -> Request:
    puid = headers.get(b"seldon-puid", b"").decode("latin-1")
    json_bytes = headers.get(b"inference-header-content-length", b"")
    return Request(body, headers.get(b"content-type", b""), puid, json_bytes)


async def _discard(headers: Mapping[bytes, bytes], receive: Receive) -> None:
    """Read the rest of a body and discard it.

    A connection that is closed with unread bytes is reset, and the client may never see the
    answer. The server's deadline for receiving limits this. A client that waits for permission
    to send its body (`Expect: 100-continue`) does not get it.
    """
    if b"expect" not in headers:
        while (await receive()).get("more_body"):
            pass


def _named(answered: Answer, exchange: Exchange) -> Answer:
    """Return an answer with the id that feedback can name in a header: its body has none."""
    if not (name := echoed(exchange.identifier)):
        return answered
    return answered._replace(headers=(*answered.headers, (PUID.encode(), name.encode())))


def _refuse_method(route: Route, method: str) -> Answer:
    """Return 405 with the allowed methods."""
    allowed = ", ".join(sorted(route.methods))
    error = RequestError("WRONG_METHOD", f"{method} is not {allowed}", status=405)
    return route.error(error)._replace(headers=((b"allow", allowed.encode()),))
