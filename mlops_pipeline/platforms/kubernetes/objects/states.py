"""What several looks at a layer amount to."""

from collections.abc import Iterable

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    LayerState,
    Ready,
    describe,
)


def broken_by(reason: str | None) -> LayerState:
    """Return Broken for a reason, Ready for none."""
    return Broken(reason) if reason else Ready()


def needed(state: LayerState, what: str) -> LayerState:
    """Return the state of a part that must be there: its absence breaks the layer."""
    return Broken(f"{what} is not there") if isinstance(state, Absent) else state


def used_as_it_is(state: LayerState, *, what: str, remedy: str) -> Change:
    """Return that nothing was changed of what is somebody else's.

    Raises:
        ConfigurationError: it is not ready; `remedy` says what to do.
    """
    if isinstance(state, Ready):
        return Change("unchanged", state.facts)
    raise ConfigurationError(f"could not use the {what} that is there: {describe(state)}; {remedy}")


def worst(states: Iterable[LayerState]) -> Broken | Drifted | None:
    """Return the first that is broken, else all differences together, else None.

    Looks no further than the first that is broken, when the states are made one by one.
    """
    differences: list[str] = []
    for state in states:
        if isinstance(state, Broken):
            return state
        if isinstance(state, Drifted):
            differences += state.differences
    return Drifted(tuple(differences)) if differences else None
