"""Allows only one command or run at a time to change the platforms of a state folder."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings

TRAINING, LOCK = "training", "up"
"""The locks of a state folder, in the order in which they are taken.

Who trains holds the first one from start to end, and the second one, the turn, except while the
artifact is trained and stored. So a rollback waits for no training, and neither another training
nor a change of a layer comes in between.
"""
_PATIENCE = 86_400.0
"""Seconds to wait for another command or run: a day, since trainings have limits of their own."""
_here = threading.local()
"""`turn`: the turn that this thread has."""


class _Turn:
    """The turn of a state folder, which its holder can release for a while."""

    def __init__(self, take: Callable[[ExitStack], None]) -> None:
        self._take = take
        self._held = ExitStack()

    def take(self) -> None:
        self._take(self._held)

    def release(self) -> None:
        self._held.close()


class TurnLostError(KeyboardInterrupt):
    """Ends the run, as Ctrl-C does: another process did not release the turn.

    Dagster lets any other error fail only one step. The next ones would run without the turn.
    """


@contextmanager
def turn(
    settings: Settings,
    *,
    purpose: str,
    on_wait: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
    during_training: bool = False,
) -> Iterator[None]:
    """Hold the turn. Others with the same state folder wait until the context ends.

    Otherwise two at once would see each other's incomplete assets: checks that are not evaluated
    yet, references that change between two steps. The locks are files: they are released when their
    process is killed. `on_wait` is called with the process that holds one, and since when. `check`
    is called every second while waiting, and may raise. With `during_training`, the turn is taken
    also while another run trains.

    Raises:
        ConfigurationError: the state folder cannot be written.
        UnavailableError: another process did not release it in time.
    """

    def say_turn(who: str) -> None:
        on_wait(f"{who}, which works on the same state folder")

    locks = Locks(prepare_instance(settings), timeout=_PATIENCE)

    def take(held: ExitStack, lock: str = LOCK) -> None:
        held.enter_context(locks.held(lock, purpose=purpose, on_wait=say_turn, check=check))

    mine = _Turn(take)
    with ExitStack() as held:
        if not during_training:
            take(held, TRAINING)
        held.callback(mine.release)
        mine.take()
        held.callback(setattr, _here, "turn", getattr(_here, "turn", None))
        _here.turn = mine
        yield


@contextmanager
def turn_released() -> Iterator[None]:
    """Let others take this thread's turn, if it has it, while the block runs; then take it again.

    An interrupted block does not wait for it: the run ends, and changes nothing any more.

    Raises:
        TurnLostError: the turn did not come back; names the process that has it.
    """
    mine: _Turn | None = getattr(_here, "turn", None)
    if mine is None:
        yield
        return
    mine.release()
    try:
        yield
    except Exception:
        _take_again(mine)
        raise
    _take_again(mine)


def _take_again(mine: _Turn) -> None:
    try:
        mine.take()
    except PipelineError as error:
        raise TurnLostError(str(error)) from error
