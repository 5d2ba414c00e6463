"""Looks at a platform that end in time, whatever hangs."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from mlops_pipeline.clients.errors import UnavailableError

T = TypeVar("T")


class Looks:
    """Calls functions in threads of their own: one at a time for each subject.

    A look that does not end in time is left behind, and its subject is looked at again when it has
    ended.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[str] = set()

    def look(self, what: Callable[[], T], *, at: str, seconds: float) -> T:
        """Return what the function returns, or raise what it raises, if that is within `seconds`.

        `at` names the subject.

        Raises:
            UnavailableError: it did not end in time, or an earlier look at the subject has not yet.
        """
        with self._lock:
            if at in self._running:
                raise UnavailableError(f"an earlier look at {at} still waits for an answer")
            self._running.add(at)
        answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def run() -> None:
            try:
                answers.put((what(), None))
            except BaseException as error:  # noqa: BLE001 - raised where the answer is read
                answers.put((None, error))
            finally:
                with self._lock:
                    self._running.discard(at)

        # A daemon: one that hangs does not keep the process from ending.
        Thread(target=run, name=f"look at {at}", daemon=True).start()
        try:
            found, error = answers.get(timeout=max(seconds, 0.0))
        except Empty:
            raise UnavailableError(f"could not look at {at} within {seconds:.3g} s") from None
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # There is no error.
