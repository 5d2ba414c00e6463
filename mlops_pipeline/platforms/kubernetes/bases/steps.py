"""Bringing a layer up, and how long the steps of that took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Change, Facts, Layer, Ready, action_from


class Steps:
    """Seconds per step, as facts: `istiod_seconds`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.facts: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside; a name that comes twice adds up."""
        start = self._clock.now()
        try:
            yield
        finally:
            key = f"{name}_seconds"
            taken = self._clock.now() - start
            self.facts[key] = round(self.facts.get(key, 0.0) + taken, 2)


def bring_up(
    layer: Layer,
    parts: Parts,
    act: Callable[[Steps], Facts],
    *,
    purpose: str,
    lock: str = "layers",
) -> Change:
    """Bring the layer up unless it is ready, while nobody else changes what `lock` names.

    `act` makes it ready, and returns the facts that hold then. `purpose` is what others are told
    who wait for the lock. An error of `act` goes through.
    """
    with parts.locks.held(lock, purpose=purpose):
        state = layer.observe()
        if isinstance(state, Ready):
            return Change("unchanged", state.facts)
        steps = Steps(parts.clock)
        facts = act(steps)
        return Change(action_from(state), {**facts, **steps.facts})
