"""Counts every answer, and hands it to whoever records: the one hook of all protocols.

Counters are always on and never sampled; decisions rest on them.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving.recording.exchange import CURRENT, Exchange, Known, Source

if TYPE_CHECKING:
    from mlops_pipeline.serving.recording.recorder import Recorder

OUTCOMES = ("answered", "refused", "failed", "abandoned", "unlogged")
"""The label `outcome`: answered; an error of the request (4xx) or of the server (5xx); the client
went before the answer; whatever a REST request with `Seldon-Skip-Logging` got, such as our own
proofs. gRPC's metadata is not read for it: that would cost each call time."""
PUID, REQUEST, SKIP = "seldon-puid", "x-request-id", "seldon-skip-logging"
"""Headers of REST and keys of gRPC's metadata: the two names of a request, and whether the client
asks not to record it."""
FAILURE = "FAILURE"
"""The reason of an error that has no constant: a class's own text may tell what it was asked."""
_ECHOED = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_CONSTANT = re.compile(r"[A-Za-z0-9_]{1,40}")
_PUID, _REQUEST, _SKIP = (name.encode() for name in (PUID, REQUEST, SKIP))


class Watch:
    """Observes the answers of one source."""

    def __init__(
        self,
        source: Source,
        *,
        counters: Mapping[str, Any],
        answered: Callable[[float], None],
        refused: Callable[[str], None],
        recorder: "Recorder | None",
        known: Known,
    ) -> None:
        """`counters` has one for each of `OUTCOMES`.

        `answered` gets the seconds of each answer that is counted as such, and `refused` the reason
        of each error.
        """
        self.source = source
        self._counters = counters
        self._answered = answered
        self._refused = refused
        self._recorder = recorder
        self._known = known
        self.is_recording = recorder is not None
        """Whether rows are recorded."""

    def begin(self) -> Exchange:
        """Return the exchange of a request that has arrived."""
        return Exchange(self.source, time.perf_counter())

    def arrived(self, exchange: Exchange, headers: Mapping[bytes, bytes], size: int) -> None:
        """Start the clock at a request's last byte.

        If rows are recorded, the exchange gets the id in the headers, until its answer has one.
        `size` is that of the body in bytes.
        """
        exchange.began = time.perf_counter()
        if _SKIP in headers:
            exchange.is_skipped = headers[_SKIP].lower() == b"true"
        if self._recorder is None:
            return
        exchange.known = self._known
        if name := headers.get(_PUID) or headers.get(_REQUEST):
            exchange.identifier = name.decode("latin-1")
        exchange.size = size
        CURRENT.set(exchange)

    def end(self, exchange: Exchange, *, status: int, reason: str = "", size: int = 0) -> None:
        """Count the answer of `size` bytes. A status of 0: nobody waited for it.

        An error whose `reason` is not a constant, or is empty, has the reason `FAILURE`.
        """
        seconds = time.perf_counter() - exchange.began
        is_uncounted = exchange.is_skipped and self.source.transport == "rest"
        if not reason and 0 < status < 400:
            self._counters["unlogged" if is_uncounted else "answered"].inc()
            if not is_uncounted:
                self._answered(seconds)
        else:
            self._counters["unlogged" if is_uncounted else outcome_of(status)].inc()
            if status:
                reason = reason if _CONSTANT.fullmatch(reason) else FAILURE
                self._refused(reason)
        if self._recorder is not None:
            exchange.seconds, exchange.answer_size = seconds, size
            exchange.status, exchange.reason = status, reason
            exchange.identifier = exchange.identifier or os.urandom(16).hex()
            self._recorder.record(exchange)


def echoed(identifier: str) -> str:
    """Return the id as a header and gRPC's metadata can have it; empty if they cannot."""
    return identifier if _ECHOED.fullmatch(identifier) else ""


def outcome_of(status: int) -> str:
    """Return which of `OUTCOMES` a status is."""
    if not status:
        return "abandoned"
    if status < 400:
        return "answered"
    return "refused" if status < 500 else "failed"
