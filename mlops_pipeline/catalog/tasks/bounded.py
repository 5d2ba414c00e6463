"""Runs a function of a model's file, and waits for it only so long."""

import ctypes
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.waiting import MONOTONIC

T = TypeVar("T")


def within(seconds: float, compute: Callable[[Callable[[], None]], T], *, what: str) -> T:
    """Return `compute(restart)`, or raise what it raises. `restart()` begins the time again.

    `what` finishes the sentence "could not ...". A function that hangs is ended at its next
    instruction in Python. One that hangs in a library continues until this process ends, which it
    does not delay.

    Raises:
        ConfigurationError: it did not return in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ends = [MONOTONIC.now() + seconds]

    def restart() -> None:
        ends[0] = MONOTONIC.now() + seconds

    def run() -> None:
        try:
            results.append(compute(restart))
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            errors.append(error)

    thread = Thread(target=run, name=what, daemon=True)
    thread.start()
    while thread.is_alive() and (left := ends[0] - MONOTONIC.now()) > 0:
        thread.join(left)
    if errors:
        raise errors[0]
    if not results:
        _end(thread)
        raise ConfigurationError(
            f"could not {what}: its function did not return within {seconds:g} s; make it faster "
            "(use NumPy on all rows at once), or correct it"
        )
    return results[0]


def _end(thread: Thread) -> None:
    """Raise SystemExit in a thread, so that it does not keep a processor busy.

    https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
    """
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
