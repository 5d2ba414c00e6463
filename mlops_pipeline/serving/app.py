"""The outermost ASGI application: a dictionary from path to handler, in front of MLServer's.

The predictions of all protocols, and whatever is asked often, are answered here without FastAPI.
Handlers are plain functions from `Request` to `Answer`; those of small requests run in the event
loop (a hop to a thread costs as much as a prediction), those of large ones in a worker thread, so
that health checks stay quick.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.payloads import Answer, Request

logger = logging.getLogger("mlserver.app")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Request], Answer]
Failure = Callable[[RequestError], Answer]

LARGE = 64 << 10
"""Bytes of a body from which on it is answered in a worker thread."""
LARGE_AT_ONCE = 8
"""Large bodies read and answered at the same time; more wait, unread, in their sockets."""
WORKERS = 2


@dataclass(frozen=True)
class Route:
    """What answers at a path: a handler per method, and how the protocol writes an error."""

    methods: Mapping[str, Handler]
    error: Failure


class App:
    """Dispatches requests to handlers. `fallback` is MLServer's application."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        fallback: Callable[[Scope, Receive, Send], Awaitable[None]],
        missing: Callable[[str, str], Route | None],
        max_body_bytes: int,
    ) -> None:
        """`missing` gives, for (method, path) not in `routes`, the route that refuses it.

        None from it hands the request to `fallback`.
        """
        self.routes = routes
        self._fallback = fallback
        self._missing = missing
        self._max_body_bytes = max_body_bytes
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="large-request")
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self.headers: list[tuple[bytes, bytes]] = []
        """Headers of every answer, such as `x-model-digest`."""

    def serve(
        self, routes: Mapping[str, Route], *, missing: Callable[[str, str], Route | None]
    ) -> None:
        """Replace the routes, from one request to the next."""
        self.routes, self._missing = routes, missing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        route = self.routes.get(path) or self._missing(method, path)
        if route is None:
            await self._fallback(scope, receive, send)
            return
        try:
            answer = await self._answer(route, method, dict(scope["headers"]), receive)
        except RequestError as error:
            answer = route.error(error)
        except ConnectionResetError:
            return
        except Exception:
            logger.exception("A defect of the server, in %s %s", method, path)
            answer = route.error(RequestError("DEFECT", "the server has a defect", status=500))
        await self._send(answer, send)

    async def _answer(
        self, route: Route, method: str, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer:
        """Find the handler, read the body and call the one with the other."""
        handler = route.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(sorted(route.methods))
            raise RequestError("WRONG_METHOD", f"{method} is not {allowed}", status=405)
        length = self._length(headers)
        if length > LARGE:
            async with self._large:
                return await self._answer_large(handler, headers, receive)
        body = await self._read(receive)
        if len(body) > LARGE:
            return await self._in_worker(handler, _request(body, headers))
        return handler(_request(body, headers))

    async def _answer_large(
        self, handler: Handler, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer:
        body = await self._read(receive)
        return await self._in_worker(handler, _request(body, headers))

    async def _in_worker(self, handler: Handler, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, handler, request)

    def _length(self, headers: Mapping[bytes, bytes]) -> int:
        """Return the announced length of the body in bytes, 0 if there is none.

        Raises:
            RequestError: it is larger than allowed, or the body is compressed.
        """
        if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
            raise RequestError("WRONG_ENCODING", "compressed bodies are not read; send it plain")
        length = int(headers.get(b"content-length", b"0"))
        if length > self._max_body_bytes:
            raise self._too_large()
        return length

    async def _read(self, receive: Receive) -> bytes:
        """Read the whole body.

        Raises:
            RequestError: it is larger than allowed.
            ConnectionResetError: the client went away.
        """
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and message["type"] == "http.request":
            return body
        chunks, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body_bytes:
                raise self._too_large()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        return b"".join(chunks)

    def _too_large(self) -> RequestError:
        return RequestError(
            "TOO_LARGE", f"the body is larger than {self._max_body_bytes} bytes; send fewer rows"
        )

    async def _send(self, answer: Answer, send: Send) -> None:
        status, body, content_type = answer
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _request(body: bytes, headers: Mapping[bytes, bytes]) -> Request:
    puid = headers.get(b"seldon-puid", b"").decode("latin-1")
    return Request(body, headers.get(b"content-type", b""), puid)
