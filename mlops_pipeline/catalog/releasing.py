"""How a new version of a model replaces the one that serves: strategy, steps and limits."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

Strategy = Literal["replace", "canary", "shadow", "blue_green", "ab"]
STRATEGIES: tuple[Strategy, ...] = ("replace", "canary", "shadow", "blue_green", "ab")
WhenSilent = Literal["wait", "roll_back", "replay"]
WHEN_SILENT: tuple[WhenSilent, ...] = ("wait", "roll_back", "replay")
Competing = Literal["supersede", "wait"]
COMPETING: tuple[Competing, ...] = ("supersede", "wait")
MOST_STEPS = 20
MOST_SECONDS = 30 * 86_400.0
ROLES = ("-candidate", "-former")
"""Ends of the names that predictors have in a release: the predictor of a spec has none of them."""
_STICKY = re.compile(r"(header|cookie):[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Step:
    """One share of the requests, and what ends it."""

    share: int
    """Percent of the requests that the candidate answers; of a shadow, percent that is copied."""
    answers: int = 100
    """Minimum of the candidate's answers before the next step."""
    seconds: float = 900.0
    """Maximum time; afterwards `when_silent` decides if evidence is still missing."""


_STEPS: dict[Strategy, tuple[Step, ...]] = {
    "replace": (),
    "canary": (Step(5), Step(25), Step(50)),
    "shadow": (Step(100),),
    "blue_green": (Step(100),),
    "ab": (Step(50, seconds=7 * 86_400.0),),
}


@dataclass(frozen=True)
class ReleaseSpec:
    """How a new version of a model gets the traffic.

    Rates count events per answer. A version that exceeds a limit for certain is rolled back; it is
    promoted only if the evidence bounds each rate below its limit.
    """

    strategy: Strategy = "replace"
    """`replace`: all traffic at once, after the proof. `canary`: rising shares. `shadow`: copies of
    requests, whose answers nobody gets. `blue_green`: all at once, and the former version stays
    ready. `ab`: a fixed split until a person decides."""
    steps: tuple[Step, ...] = ()
    """Empty: those of the strategy, for a canary 5, 25 and 50 %."""
    alpha: float = 0.01
    """Probability, over all metrics, steps and looks, to roll back a version that is no worse."""
    confidence: float = 0.95
    """Of the upper bounds that a promotion rests on."""
    max_errors: float = 0.01
    """Maximum rate of failed answers (status 5xx, lost requests)."""
    max_slow: float = 0.15
    """Maximum rate of answers slower than `slow_factor` × the stable version's 95th percentile."""
    slow_factor: float = 2.0
    max_disagreement: float | None = None
    """Maximum rate of rows for which both versions answer differently; None: only shown."""
    when_silent: WhenSilent = "wait"
    """What follows if evidence is missing after a step's time: a person decides (`wait`), the
    candidate is rolled back, or hold-out rows are replayed, which are counted apart."""
    approval: bool = False
    """Whether a person must promote it even if all evidence is there."""
    keep_seconds: float = 300.0
    """Time for which the former version stays ready after a promotion, for a rollback."""
    sticky: str = ""
    """`header:NAME` or `cookie:NAME`: the same value always gets the same version (`ab`)."""
    competing: Competing = "supersede"
    """What happens to a release if a newer artifact arrives: it is superseded, or the newer one
    waits."""

    def effective_steps(self) -> tuple[Step, ...]:
        """Return the steps of this release, those of the strategy where it has none itself."""
        return self.steps or _STEPS[self.strategy]


def faults(spec: "ReleaseSpec") -> Iterator[str]:
    """Yield a message for each invalid field."""
    given: Any = spec
    for field, allowed in (
        ("strategy", STRATEGIES),
        ("when_silent", WHEN_SILENT),
        ("competing", COMPETING),
    ):
        if (value := getattr(given, field)) not in allowed:
            yield f"release.{field} is {value!r}; allowed: {', '.join(allowed)}"
    for field in ("alpha", "confidence", "max_errors", "max_slow"):
        if not _is_between(value := getattr(given, field), 0, 1):
            yield f"release.{field} is {value!r}; it must be greater than 0 and less than 1"
    limit = given.max_disagreement
    if limit is not None and not _is_between(limit, 0, 1):
        yield (
            f"release.max_disagreement is {limit!r}; it must be None, or greater than 0 and less "
            "than 1"
        )
    if not (_is_number(given.slow_factor) and given.slow_factor > 1):
        yield f"release.slow_factor is {given.slow_factor!r}; it must be greater than 1"
    if not (_is_number(given.keep_seconds) and 0 <= given.keep_seconds <= MOST_SECONDS):
        yield f"release.keep_seconds is {given.keep_seconds!r}; it must be 0 to 2592000"
    if not isinstance(given.approval, bool):
        yield f"release.approval is {given.approval!r}; allowed: True, False"
    yield from _faults_of_sticky(given)
    yield from _faults_of_steps(given)


def _faults_of_sticky(given: Any) -> Iterator[str]:
    if given.sticky != "" and not (
        isinstance(given.sticky, str) and _STICKY.fullmatch(given.sticky)
    ):
        yield (
            f"release.sticky is {given.sticky!r}; it must be header:NAME or cookie:NAME, with at "
            "most 64 letters, digits and -_."
        )
    elif given.sticky and given.strategy == "shadow":
        yield "release.sticky is given, but nobody gets the answers of a shadow; use ab or canary"


def _faults_of_steps(spec: Any) -> Iterator[str]:
    steps = spec.steps
    if not (isinstance(steps, tuple) and all(isinstance(step, Step) for step in steps)):
        yield f"release.steps is {steps!r}; it must be a tuple of Step"
        return
    if len(steps) > MOST_STEPS:
        yield f"release.steps has {len(steps)} steps; at most {MOST_STEPS} are allowed"
    if steps and spec.strategy == "replace":
        yield "release.steps is given, but the strategy replace has no steps; use canary"
    for number, step in enumerate(steps, start=1):
        where = f"release.steps, step {number}"
        if not (type(step.share) is int and 1 <= step.share <= 100):
            yield f"{where}: share is {step.share!r}; it must be an integer from 1 to 100"
        if not (type(step.answers) is int and step.answers >= 0):
            yield f"{where}: answers is {step.answers!r}; it must be an integer from 0"
        if not (_is_number(step.seconds) and 0 < step.seconds <= MOST_SECONDS):
            yield f"{where}: seconds is {step.seconds!r}; it must be greater than 0, up to 2592000"
    yield from _faults_of_order(spec.strategy, [step.share for step in steps])


def _faults_of_order(strategy: object, shares: Sequence[Any]) -> Iterator[str]:
    """Yield a message if the shares do not fit the strategy."""
    if strategy == "canary" and any(b <= a for a, b in pairwise(shares)):
        yield f"release.steps has the shares {shares}; those of a canary must rise"
    if strategy == "blue_green" and shares not in ([], [100]):
        yield f"release.steps has the shares {shares}; blue_green has one step of 100 %"
    if strategy == "ab" and (len(shares) > 1 or 100 in shares):
        yield f"release.steps has the shares {shares}; ab has one step of less than 100 %"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_between(value: object, low: float, high: float) -> bool:
    return _is_number(value) and low < value < high  # type: ignore[operator]
