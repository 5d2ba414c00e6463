"""How long the steps of bringing a layer up took."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlops_pipeline.clients.waiting import Clock


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
