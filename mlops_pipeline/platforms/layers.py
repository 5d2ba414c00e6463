"""What every platform is made of: a layer that can be looked at, made true, and removed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    NotDownloadedError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)

Facts = Mapping[str, str | int | float]
"""What a layer says of itself for people: addresses (URLs), versions, sizes. Never a secret."""


@dataclass(frozen=True, kw_only=True)
class Unready:
    """A layer that is not ready."""

    obstacle: str = ""
    """Why `ensure` cannot make it ready, and what a person must do; empty if `ensure` can.

    It is part of the message of the error that `ensure` raises then.
    """

    @property
    def is_repairable(self) -> bool:
        """Whether `ensure` makes it ready without a person's help."""
        return not self.obstacle


@dataclass(frozen=True)
class Absent(Unready):
    """The layer does not exist."""


@dataclass(frozen=True)
class Ready:
    """The layer answers what the next one needs."""

    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Drifted(Unready):
    """The layer exists and differs from the settings."""

    differences: tuple[str, ...]


@dataclass(frozen=True)
class Broken(Unready):
    """The layer exists and does not answer as it should."""

    reason: str

    @classmethod
    def needing_help(cls, reason: str) -> "Broken":
        """Return a state that only a person can repair; `reason` says how."""
        return cls(reason, obstacle=reason)

    @classmethod
    def by(cls, error: PipelineError) -> "Broken":
        """Return the state of a layer at which nobody could look because of `error`."""
        return cls(str(error), obstacle=obstacle_in(error))


@dataclass(frozen=True)
class Unknown:
    """Nobody could look at the layer: it did not answer in time, or a layer below is not ready."""

    reason: str


LayerState = Absent | Ready | Drifted | Broken
"""What a look at a layer returns."""


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
            PipelineError: with what was tried, what was seen and what to do next; always if the
                state has an obstacle.
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


def describe(state: LayerState | Unknown) -> str:
    """Say in a few words why the layer is not ready; empty when it is.

    If `ensure` cannot repair it, the text says why, and what a person must do.
    """
    if isinstance(state, Ready):
        return ""
    if isinstance(state, Unready) and state.obstacle:
        return state.obstacle
    if isinstance(state, Drifted):
        return "; ".join(state.differences)
    return "absent" if isinstance(state, Absent) else state.reason


def obstacle_in(error: PipelineError) -> str:
    """Return the obstacle that an error reports; empty if `ensure` may work all the same.

    `ensure` can only help if something is missing or does not answer.
    """
    helps = isinstance(error, NotFoundError | NotDownloadedError | UnavailableError)
    return "" if helps and not isinstance(error, AccessDeniedError) else str(error)


def hindered(state: LayerState, obstacle: str) -> LayerState:
    """Return the state with an obstacle, if there is one; nothing is ready that has one."""
    if not obstacle:
        return state
    if isinstance(state, Ready):
        return Broken.needing_help(obstacle)
    return replace(state, obstacle=obstacle)


def by_name(layers: Sequence[Layer], name: str) -> Layer:
    """Return the layer called `name`.

    Raises:
        KeyError: no layer of this platform has that name.
    """
    for layer in layers:
        if layer.name == name:
            return layer
    raise KeyError(name)


def with_required(layers: Sequence[Layer], names: Iterable[str]) -> list[str]:
    """Return the names of these layers and of all that they require, in the order of `layers`."""
    wanted = set(names)
    for layer in reversed(layers):
        if layer.name in wanted:
            wanted.update(layer.requires)
    return [layer.name for layer in layers if layer.name in wanted]
