"""The only loop that sleeps."""

import time
from collections.abc import Callable
from typing import Protocol

from mlops_pipeline.clients.errors import AccessDeniedError, UnavailableError, WaitTimeoutError


class Clock(Protocol):
    """A monotonic clock that can sleep. Tests inject one that jumps."""

    def now(self) -> float:
        """Return seconds since an arbitrary point; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class MonotonicClock:
    """The real clock: unaffected by changes of the machine's time."""

    def now(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`."""
        time.sleep(seconds)


MONOTONIC = MonotonicClock()


def wait_until(
    what: str,
    describe_unready: Callable[[], str | None],
    *,
    timeout: float,
    clock: Clock = MONOTONIC,
    interval: float = 0.1,
    hint: str = "",
) -> float:
    """Poll `describe_unready()` until it returns None, and return the seconds that took.

    The probe returns the reason why the thing is not ready yet; an exception that it raises
    (a fatal state) ends the wait at once. `timeout` and `interval` are in seconds. `hint` says
    what to do next when the wait runs out.

    Raises:
        WaitTimeoutError: with what was waited for, how long, and the last reason seen.
    """
    start = clock.now()
    deadline = start + timeout
    while (reason := describe_unready()) is not None:
        if clock.now() >= deadline:
            raise WaitTimeoutError(
                f"timed out after {timeout:g} s waiting for {what}; last seen: {reason}"
                + (f"; {hint}" if hint else "")
            )
        clock.sleep(interval)
    return clock.now() - start


def patiently(probe: Callable[[], str | None]) -> Callable[[], str | None]:
    """Return a probe that waits while a server does not answer.

    An AccessDeniedError still ends the wait.
    """

    def describe() -> str | None:
        try:
            return probe()
        except AccessDeniedError:
            raise
        except UnavailableError as error:
            return str(error)

    return describe
