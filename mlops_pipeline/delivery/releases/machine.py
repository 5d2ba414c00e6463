"""What follows from the evidence: a pure state machine, `next_step(release, evidence, now)`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wait:
    """Nothing changes yet."""

    missing: str
    """What the next step needs, in a sentence: `120 of 300 answers; 180 are missing`."""


@dataclass(frozen=True)
class Expose:
    """The candidate gets the share of the next step."""

    step: int
    reason: str


@dataclass(frozen=True)
class Replay:
    """Hold-out rows are sent to both versions, because the step's time is over without evidence."""

    reason: str


@dataclass(frozen=True)
class Ask:
    """A person must decide; traffic stays as it is."""

    reason: str


@dataclass(frozen=True)
class Promote:
    """The candidate gets all traffic."""

    reason: str


@dataclass(frozen=True)
class RollBack:
    """The stable version gets all traffic back."""

    reason: str


@dataclass(frozen=True)
class Finish:
    """The former version, which was kept ready, is removed."""

    reason: str


Action = Wait | Expose | Replay | Ask | Promote | RollBack | Finish
