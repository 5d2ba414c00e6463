"""uvicorn's HTTP/1.1 protocol with a deadline for receiving, and without a parser crash."""

import asyncio
import logging
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from mlops_pipeline.serving.asgi import ANSWERING, Scope

logger = logging.getLogger(__name__)


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in `receive_seconds`.

    uvicorn waits without limit for the rest of a request, and for the first byte of a connection.
    The time is measured from the connection, or the request's first byte, to the request's last
    byte.
    """

    receive_seconds = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, and what would be answered to nobody."""
        self._stop_clock()
        super().connection_lost(exc)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and (task := cast("Scope", cycle.scope).get(ANSWERING)):
            task.cancel()  # It is done already if the answer is complete.

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes that it cannot even report as an error are a bad request too."""
        try:
            super().data_received(data)
        except ValueError:  # UnicodeDecodeError: a path that is not ASCII
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        """Start the timer for a request on a connection that is kept alive."""
        super().on_message_begin()
        if self._deadline is None:
            self._start_clock()

    def on_message_complete(self) -> None:
        """Stop the timer: the request has arrived, and answering it has no limit here."""
        super().on_message_complete()
        self._stop_clock()

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(self.receive_seconds, self._give_up)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """If a request has begun and has no answer yet, answer 408; close the connection."""
        self._deadline = None
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and cycle.more_body and not cycle.response_started:
            cycle.response_started = cycle.response_complete = True
            self.transport.write(_timed_out(self.receive_seconds))
        self.transport.close()


def _timed_out(seconds: float) -> bytes:
    """Return the complete answer to a request that did not arrive in time."""
    body = b'{"error":"the request did not arrive within %d s"}' % seconds
    return b"".join(
        [
            STATUS_LINE[408],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        ]
    )


def protocol_with(receive_seconds: float) -> type[DeadlineProtocol]:
    """Return the protocol with that deadline; uvicorn takes a class without options."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"receive_seconds": receive_seconds})
