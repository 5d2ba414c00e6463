"""Bringing a layer up, and the durations of the steps."""

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
        """Measure the body; durations of the same name are added up."""
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
    """Bring the layer up unless it is ready. `lock` keeps others from changing the same.

    `act` makes it ready and returns its facts. `purpose` is shown to those who wait for the lock.
    Errors of `act` are raised.
    """
    with parts.locks.held(lock, purpose=purpose):
        state = layer.observe()
        if isinstance(state, Ready):
            return Change("unchanged", state.facts)
        steps = Steps(parts.clock)
        facts = act(steps)
        return Change(action_from(state), {**facts, **steps.facts})
