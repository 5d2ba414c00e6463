"""Asks a custom component how it is, without a delay for health checks or for requests."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving.custom.calls import Call
from mlops_pipeline.serving.errors import RequestError

if TYPE_CHECKING:
    from mlops_pipeline.serving.custom.process import ComponentProcess

SECONDS = 1.0
"""For which a health check waits for `health_status`."""
_SHARE = 10
"""`health_status` is asked again after this multiple of the time that it took."""


class Health:
    """What `health_status` of one component said last."""

    def __init__(self, process: "ComponentProcess") -> None:
        """`process` may be a weak reference's proxy: it owns this object."""
        self._process = process
        self._asking: asyncio.Task[None] | None = None
        self._said: Any = None
        self._error: RequestError | None = None
        self._next = 0.0

    def check_loaded(self) -> None:
        """Require that the class is loaded.

        Raises:
            RequestError: it is not; the status is 503.
        """
        if problem := self._process.problem:
            raise RequestError("NOT_RUNNING", problem, status=503)

    async def ask(self) -> Any:
        """Return what `health_status` says; None if the class has none, or has not said it yet.

        A class that is busy, or whose `health_status` takes long, is as it was.

        Raises:
            RequestError: it raised something, or the class is not loaded; the status is 503.
        """
        self.check_loaded()
        if not self._process.facts.has_health:
            return None
        is_due = self._asking is None and time.monotonic() >= self._next
        if is_due and self._process.is_free():
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=SECONDS)
        if self._error is not None:
            raise self._error
        return self._said

    async def _ask(self) -> None:
        begin = time.monotonic()
        try:
            found = await self._process.ask(Call(None, method="health"), deadline=begin + SECONDS)
            self._said = None if isinstance(found.value, bytes) else found.value
            self._error = None
            took = time.monotonic() - begin
            self._next = time.monotonic() + (_SHARE * took if took > SECONDS / _SHARE else 0.0)
        except RequestError as error:
            if error.reason not in ("LATE", "TOO_BUSY"):
                self._error = RequestError(error.reason, error.sentence, status=503)
        finally:
            self._asking = None
