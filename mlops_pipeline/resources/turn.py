"""Allows only one command or run at a time to change the platforms of a state folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings

LOCK = "up"
_PATIENCE = 3600.0
"""Seconds to wait for another command or run."""


@contextmanager
def turn(
    settings: Settings,
    *,
    purpose: str,
    on_wait: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the turn. Others with the same state folder wait until the context ends.

    Otherwise two at once would see each other's incomplete assets: checks that are not evaluated
    yet, references that change between two steps. The turn is a file lock: it is released when its
    process is killed. `on_wait` is called once with the process that holds it; `check` is called
    every second while waiting, and may raise.

    Raises:
        ConfigurationError: the state folder cannot be written.
        UnavailableError: another process did not release it in time.
    """

    def say_turn(who: str) -> None:
        on_wait(f"{who}, which works on the same state folder")

    locks = Locks(prepare_instance(settings), timeout=_PATIENCE)
    with locks.held(LOCK, purpose=purpose, on_wait=say_turn, check=check):
        yield
