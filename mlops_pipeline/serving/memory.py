"""Large requests: how many bytes are accepted at a time, which threads answer, freeing memory."""

import asyncio
import ctypes
import functools
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from mlops_pipeline.serving.errors import RequestError

T = TypeVar("T")

LARGE = 64 << 10
"""Bytes of a request from which a worker thread answers it."""
LARGE_BYTES = 128 << 20
"""Bytes of large requests in memory at the same time; more are refused, for a retry."""
TIDY_SECONDS = 1.0
"""Seconds from a large request until its memory is returned."""
WORKERS = 2


class LargeRequests:
    """The memory and the threads that the large requests of all protocols share."""

    def __init__(self, *, limit: int = LARGE_BYTES) -> None:
        """`limit` is in bytes of requests in memory at the same time."""
        self.size = 0
        self._limit = limit
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="large-request")
        self._tidying: asyncio.TimerHandle | None = None

    def take(self, size: int) -> None:
        """Count `size` received bytes; `release` must follow.

        Raises:
            RequestError: there is no room for them; they are counted nevertheless.
        """
        self.size += size
        if self.size > self._limit:
            raise RequestError(
                "TOO_BUSY", "too many large requests at the same time; retry", status=429
            )

    def release(self, size: int) -> None:
        """Stop counting `size` bytes, and return their memory soon, after the answer is sent."""
        self.size -= size
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(TIDY_SECONDS, self._tidy)

    async def answer(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, called in a worker thread with the caller's context."""
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(self._workers, context.run, function)

    def _tidy(self) -> None:
        self._tidying = None
        self._workers.submit(give_back)


def give_back() -> None:
    """Return free memory to the operating system if the C library keeps it (glibc).

    Otherwise a process stays as large as its largest requests made it. A full collection also
    empties Python's lists of free objects: each object may keep a megabyte around it.
    """
    gc.collect()
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`, or a function that does nothing with another C library."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: 0
    return trim
