"""The REST side of a forwarder: an ASGI application that forwards requests."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from mlops_pipeline.serving import failures
from mlops_pipeline.serving.asgi import ANSWERING, Message, Receive, Scope, Send
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.forwarding.connection import Reply
from mlops_pipeline.serving.forwarding.upstream import Upstream
from mlops_pipeline.serving.messages import PONG, Answer, answer
from mlops_pipeline.serving.paths import LIVE, V2_LIVE
from mlops_pipeline.serving.unit_header import HEADER

_KEY = HEADER.encode()
_OF_THE_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding")
) | {b"upgrade", b"expect"}
"""Headers that apply only to one connection."""
_ALIVE = {**dict.fromkeys(LIVE, PONG), V2_LIVE: answer({"live": True})}
"""A forwarder is alive even if the model's server is not: restarting it would not help that."""


class ClientGone(Exception):
    """The client disconnected before its request had arrived."""


class RestForwarder:
    """Returns the answers of the model's server; `said` is the unit's configuration header."""

    def __init__(self, upstream: Upstream, said: str) -> None:
        self._upstream = upstream
        self._said = said.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        scope[ANSWERING] = asyncio.current_task()
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD") and path in _ALIVE:
            reply = _reply(_ALIVE[path])
        else:
            try:
                reply = await self._forward(scope, receive)
            except RequestError as error:
                reply = _reply(failures.of_path(path)(error))
            except (ClientGone, asyncio.CancelledError):  # Nobody waits for the answer.
                return
        headers = [pair for pair in reply.headers if pair[0] not in _OF_THE_CONNECTION]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _forward(self, scope: Scope, receive: Receive) -> Reply:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            length = b"content-length: %d\r\n" % len(body) if body else b""
            return await self._upstream.ask(self._head(scope, length), body)
        length = _length(scope["headers"])
        if length:
            return await self._upstream.ask(self._head(scope, length), body, _rest(receive))
        chunked = self._head(scope, b"transfer-encoding: chunked\r\n")
        return await self._upstream.ask(chunked, _chunk(body), _chunked(_rest(receive)))

    def _head(self, scope: Scope, length: bytes) -> bytes:
        """Return the head of the request; HEAD is forwarded as GET, to get the length."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        target = scope["raw_path"] or b"/"
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        lines = [b"%s %s HTTP/1.1\r\n" % (method.encode(), target)]
        lines += [
            b"%s: %s\r\n" % (name, value)
            for name, value in scope["headers"]
            if name not in _OF_THE_CONNECTION and name not in (b"content-length", _KEY)
        ]
        return b"".join([*lines, length, b"%s: %s\r\n\r\n" % (_KEY, self._said)])


def _reply(given: Answer) -> Reply:
    headers = [(b"content-type", given.content_type), (b"content-length", b"%d" % len(given.body))]
    return Reply(given.status, headers, given.body)


def _length(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the header with the body's length; empty if the client does not send it."""
    for name, value in headers:
        if name == b"content-length":
            return b"content-length: %s\r\n" % value
    return b""


async def _rest(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the rest of a body as it arrives."""
    more = True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def _chunked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield parts as HTTP's chunks, and the empty last chunk."""
    async for piece in pieces:
        yield _chunk(piece)
    yield b"0\r\n\r\n"


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
