"""Combining several observations of a layer."""

from collections.abc import Callable, Iterable

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    LayerState,
    Ready,
    describe,
    hindered,
    obstacle_in,
)


def broken_by(reason: str | None) -> LayerState:
    """Return Broken with a reason, Ready without one."""
    return Broken(reason) if reason else Ready()


def needed(state: LayerState, what: str) -> LayerState:
    """Return the state of a required part: if it is absent, the layer is broken."""
    return Broken(f"{what} is missing") if isinstance(state, Absent) else state


def with_obstacle(state: LayerState, require: Callable[[], None]) -> LayerState:
    """Add the obstacle that `require` raises, if it does, to a state that is not ready.

    `ensure` calls `require` too, before it changes anything.
    """
    if isinstance(state, Ready) or state.obstacle:
        return state
    try:
        require()
    except PipelineError as error:
        return hindered(state, obstacle_in(error))
    return state


def unusable(reason: str, *, what: str, remedy: str) -> Broken:
    """Return the state of something that belongs to somebody else: only they can repair it."""
    return Broken.needing_help(f"could not use the existing {what}: {reason}; {remedy}")


def used_as_it_is(state: LayerState) -> Change:
    """Return that nothing was changed, because it belongs to somebody else.

    Raises:
        ConfigurationError: it is not ready; says what to do.
    """
    if isinstance(state, Ready):
        return Change("unchanged", state.facts)
    raise ConfigurationError(describe(state))


def worst(states: Iterable[LayerState]) -> Broken | Drifted | None:
    """Return the first state that is broken or has an obstacle, else all differences, else None.

    With a generator, nothing after the first broken state is examined.
    """
    differences: list[str] = []
    for state in states:
        if isinstance(state, Broken) or (isinstance(state, Drifted) and state.obstacle):
            return state
        if isinstance(state, Drifted):
            differences += state.differences
    return Drifted(tuple(differences)) if differences else None
