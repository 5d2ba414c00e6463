"""Runs a function of a model's file, and waits for it only so long."""

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from mlops_pipeline.clients.errors import ConfigurationError

T = TypeVar("T")


def within(seconds: float, compute: Callable[[], T], *, what: str) -> T:
    """Return `compute()`, or raise what it raises.

    `what` finishes the sentence "could not ...". Python cannot end a thread: a function that hangs
    goes on until this process ends, which it does not delay.

    Raises:
        ConfigurationError: it did not return in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(compute())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            errors.append(error)

    thread = Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise ConfigurationError(
            f"could not {what}: its function did not return within {seconds:g} s for all rows and "
            "draws; make it faster (use NumPy on all rows at once), or correct it"
        )
    return results[0]
