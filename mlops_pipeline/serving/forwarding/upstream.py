"""Requests to the model's server, over kept connections."""

import asyncio
from collections.abc import AsyncIterator

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.forwarding.connection import (
    BrokenConnection,
    Connection,
    Reply,
    nothing,
)
from mlops_pipeline.serving.forwarding.target import Target

CONNECT_SECONDS = 2.0
MOST_IDLE = 64


class Upstream:
    """The REST side of the model's server. `seconds` is how long an answer may take."""

    def __init__(self, target: Target, *, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._idle: list[Connection] = []

    @property
    def place(self) -> str:
        """Its address, for messages."""
        return f"{self._target.host}:{self._target.port}"

    async def ask(
        self, head: bytes, body: bytes, more: AsyncIterator[bytes] | None = None
    ) -> Reply:
        """Return the answer to a request; `more` yields its body after `body`.

        If the request has arrived completely and a kept connection turns out to be closed, it is
        sent again, once, over a new connection.

        Raises:
            RequestError: the server cannot be reached (503), or does not answer in time (504).
        """
        kept = self._kept()
        try:
            if kept is not None and more is None:
                try:
                    return await self._exchange(kept, head + body, None)
                except BrokenConnection:
                    kept = None
            return await self._exchange(kept or await self._connect(), head + body, more)
        except (BrokenConnection, OSError) as error:
            raise RequestError(
                "UNREACHABLE",
                f"the model's server at {self.place} cannot be reached: {_why(error)}",
                status=503,
            ) from error

    async def _exchange(
        self, connection: Connection, first: bytes, more: AsyncIterator[bytes] | None
    ) -> Reply:
        try:
            reply = await connection.ask(first, more or nothing(), seconds=self._seconds)
        except TimeoutError as error:
            raise RequestError(
                "TIMEOUT",
                f"the model's server at {self.place} did not answer in {self._seconds:g} s",
                status=504,
            ) from error
        if connection.is_usable and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _kept(self) -> Connection | None:
        """Return the open connection that was used last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(Connection, self._target.host, self._target.port)
        try:
            return (await asyncio.wait_for(connecting, CONNECT_SECONDS))[1]
        except TimeoutError as error:
            raise OSError(f"no connection in {CONNECT_SECONDS:g} s") from error

    def close(self) -> None:
        """Close the kept connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def _why(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
