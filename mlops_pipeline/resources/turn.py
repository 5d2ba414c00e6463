"""One command or run at a time changes the platforms of a state folder, whoever starts it."""

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
    """Hold the turn. Others of the same state folder wait until the context ends.

    Two at once would each find the other's half-made assets: checks not evaluated yet, references
    that change between two steps. The turn is a lock on a file: a process that is killed lets go
    of it. `on_wait` is told once which process is waited for; `check` is called every second while
    waiting, and may raise.

    Raises:
        ConfigurationError: the state folder cannot be written.
        UnavailableError: the other one took too long.
    """

    def say_turn(who: str) -> None:
        on_wait(f"{who}, which works on the same state folder")

    locks = Locks(prepare_instance(settings), timeout=_PATIENCE)
    with locks.held(LOCK, purpose=purpose, on_wait=say_turn, check=check):
        yield
