"""Time that passes only when a test says so."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class FakeClock:
    """Time passes only when somebody sleeps; then the rest of the world goes on by a step."""

    time: float = 1000.0
    steps: list[Callable[[], None]] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for step in self.steps:
            step()
