"""Combining several observations of a layer."""

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
    """Return Broken with a reason, Ready without one."""
    return Broken(reason) if reason else Ready()


def needed(state: LayerState, what: str) -> LayerState:
    """Return the state of a required part: if it is absent, the layer is broken."""
    return Broken(f"{what} is missing") if isinstance(state, Absent) else state


def used_as_it_is(state: LayerState, *, what: str, remedy: str) -> Change:
    """Return that nothing was changed, because it belongs to somebody else.

    Raises:
        ConfigurationError: it is not ready; `remedy` says what to do.
    """
    if isinstance(state, Ready):
        return Change("unchanged", state.facts)
    raise ConfigurationError(f"could not use the existing {what}: {describe(state)}; {remedy}")


def worst(states: Iterable[LayerState]) -> Broken | Drifted | None:
    """Return the first broken state, else all differences together, else None.

    With a generator, nothing after the first broken state is examined.
    """
    differences: list[str] = []
    for state in states:
        if isinstance(state, Broken):
            return state
        if isinstance(state, Drifted):
            differences += state.differences
    return Drifted(tuple(differences)) if differences else None
