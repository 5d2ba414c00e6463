"""HTTP/1.1 to the model's server: kept connections, each with one request at a time."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, cast

import httptools


class Reply(NamedTuple):
    """An answer, unchanged."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes


async def nothing() -> AsyncIterator[bytes]:
    """Yield nothing: the rest of a request that has arrived completely."""
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece


class BrokenConnection(Exception):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """A connection to the model's server."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._reply: asyncio.Future[Reply] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self.is_usable = True
        """Whether another request can be sent."""

    async def ask(self, head: bytes, body: AsyncIterator[bytes], *, seconds: float) -> Reply:
        """Send a request in parts, and return the answer.

        `seconds` is how long the server may take to read a part, and to answer after the last one.

        Raises:
            BrokenConnection: the connection ended.
            TimeoutError: it did not read or answer in time; the connection is closed.
        """
        reply = self._reply = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(head)
            async for piece in body:
                # The server answered before it read everything: the answer says why.
                if reply.done():
                    # The server would read the next request as the rest of this one.
                    self.is_usable = False
                    break
                self._transport.write(piece)
                if not self._writable.is_set():
                    await self._wait_for_room(reply, seconds)
            return await asyncio.wait_for(reply, seconds)
        finally:
            self._reply = None
            if not reply.done() or reply.cancelled() or reply.exception():
                self.close()

    async def _wait_for_room(self, reply: "asyncio.Future[Reply]", seconds: float) -> None:
        """Return when the server has read enough for the next part, or has already answered."""
        room = asyncio.ensure_future(self._writable.wait())
        try:
            done, _ = await asyncio.wait(
                (room, reply), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            room.cancel()
        if not done:
            raise TimeoutError

    def close(self) -> None:
        """Close the connection."""
        self.is_usable = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current request."""
        self.is_usable = False
        self._writable.set()
        self._fail("it closed the connection")

    def pause_writing(self) -> None:
        """Delay the next part: the server reads more slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Send the next part."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Read the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("its answer is not HTTP")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a header."""
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        """Record a part of the body."""
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Pass the answer to the waiting request."""
        reply = Reply(self._parser.get_status_code(), self._headers, b"".join(self._chunks))
        self._headers, self._chunks = [], []
        self.is_usable = self.is_usable and self._parser.should_keep_alive()
        if self._reply is None or self._reply.done():
            self.close()  # An answer without a request, or whose request has ended.
        else:
            self._reply.set_result(reply)

    def _fail(self, why: str) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(BrokenConnection(why))
