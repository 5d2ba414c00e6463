"""What every platform is made of: a layer that can be looked at, made true, and removed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Facts = Mapping[str, str | int | float]
"""What a layer says of itself for people: addresses (URLs), versions, sizes. Never a secret."""


@dataclass(frozen=True)
class Absent:
    """Nothing of the layer is there."""


@dataclass(frozen=True)
class Ready:
    """The layer answers what the next one needs."""

    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Drifted:
    """The layer is there and differs from what is asked for."""

    differences: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """The layer is there and does not answer."""

    reason: str


LayerState = Absent | Ready | Drifted | Broken


@dataclass(frozen=True)
class Change:
    """What `ensure` did, with the facts that hold now."""

    action: Literal["created", "updated", "repaired", "unchanged"]
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """One thing of this machine that a platform needs, as it was found."""

    what: str
    seen: str
    remedy: str = ""
    """What to do; empty when it is fine."""

    @property
    def fine(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.remedy


@dataclass(frozen=True)
class Finding:
    """What a health check saw."""

    passed: bool
    seen: str
    """One sentence: what was tried and what came back."""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class HealthCheck:
    """A proposition about a layer that is tried for real, beyond what `observe` looks at."""

    name: str
    """The proposition: `serves_a_load_balancer`."""
    description: str
    run: Callable[[], Finding]
    """Try it. Leaves nothing behind. An error of ours that it raises is a failure."""


class Layer(Protocol):
    """One part of a platform that can be looked at, made true, and removed."""

    @property
    def name(self) -> str:
        """The layer's name: its asset key below the platform's prefix."""

    @property
    def description(self) -> str:
        """What exists when the layer is ready, in one sentence."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Up to three technologies, for the icons in the UI."""

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the layers below it."""

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """What is tried after each materialization; blocks what stands on the layer."""

    def observe(self) -> LayerState:
        """Look at the layer as it is now. Changes nothing."""

    def ensure(self) -> Change:
        """Make the layer ready from whatever state it is in. Idempotent.

        Raises:
            PipelineError: with what was tried, what was seen and what to do next.
        """

    def remove(self) -> None:
        """Stop and remove what this project made of it. Data stays."""


def action_from(state: LayerState) -> Literal["created", "updated", "repaired", "unchanged"]:
    """Name what bringing a layer from `state` to Ready amounts to."""
    if isinstance(state, Absent):
        return "created"
    if isinstance(state, Drifted):
        return "updated"
    return "repaired" if isinstance(state, Broken) else "unchanged"


def describe(state: LayerState) -> str:
    """Say in a few words why the layer is not ready; empty when it is."""
    if isinstance(state, Absent):
        return "absent"
    if isinstance(state, Drifted):
        return "; ".join(state.differences)
    return state.reason if isinstance(state, Broken) else ""


def by_name(layers: Sequence[Layer], name: str) -> Layer:
    """Return the layer called `name`.

    Raises:
        KeyError: no layer of this platform has that name.
    """
    for layer in layers:
        if layer.name == name:
            return layer
    raise KeyError(name)
