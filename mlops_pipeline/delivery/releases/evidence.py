"""What was counted in a release: events per answer of both versions, step by step.

Servers count from their start, so the evidence keeps what each server had counted at the last look
and adds the difference. A server that has started again counts from zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Metric = Literal["errors", "slow", "disagreement", "wrong"]
METRICS: tuple[Metric, ...] = ("errors", "slow", "disagreement", "wrong")
"""`errors`: failed answers (5xx) and requests that never got one. `slow`: slower than the limit of
the step. `disagreement`: rows that both versions answer differently. `wrong`: by feedback."""


@dataclass(frozen=True)
class Tally:
    """Events of one metric, and the answers that could have been one."""

    candidate_events: int = 0
    candidate_answers: int = 0
    stable_events: int = 0
    stable_answers: int = 0


@dataclass(frozen=True)
class StepEvidence:
    """What was counted in one step, whose share is fixed."""

    step: int
    share: int
    """Percent of the requests that the candidate was given."""
    since: str
    """UTC, ISO 8601."""
    slow_over: float | None = None
    """Seconds over which an answer is slow: a limit of the servers' histogram, frozen when the
    stable version has enough answers; None until then, and slowness is not counted."""
    live: Mapping[Metric, Tally] = field(default_factory=dict)
    """Of requests of clients."""
    replayed: Mapping[Metric, Tally] = field(default_factory=dict)
    """Of hold-out rows that were sent to both versions alone: distinct rows for disagreement."""


@dataclass(frozen=True)
class Seen:
    """What one server had counted at the last look."""

    started: float
    """Start of its process, seconds since 1970."""
    answered: int
    failed: int
    slower: Mapping[str, int]
    """Limit of the histogram in seconds → answers that took longer."""


@dataclass(frozen=True)
class Look:
    """One point of the plots: what was known at a time."""

    time: str
    share: int
    answers: int
    """The candidate's live answers in all steps so far."""
    e_values: Mapping[Metric, float]
    """Product over the steps; a release is rolled back at `1 / alpha'` (see `statistics`)."""


@dataclass(frozen=True)
class Evidence:
    """Everything that was counted in a release; an object in the store, JSON."""

    release: str
    """Its id."""
    steps: tuple[StepEvidence, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """Server → what it had counted at the last look."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Predictor → requests that the gateway had lost at the last look."""
    looks: tuple[Look, ...] = ()
    """At most 200, thinned evenly."""
