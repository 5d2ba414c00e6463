"""What follows from the evidence: a pure state machine, `next_step(release, evidence, now)`.

In this order:

1. A metric's e-value reaches the threshold: roll back. In every phase before the end, also if
   somebody paused the release.
2. Paused: wait.
3. After the promotion: wait for `keep_seconds`, then finish.
4. The evidence for the next step is complete: expose, promote, or ask for the approval.
5. The step's time is not over: wait.
6. Hold-out rows may decide, and were not replayed in this step: replay.
7. Roll back or ask, as `when_silent` says.

Complete for a further share means: the step's minimum of answers is there, and the candidate's rate
does not exceed the limit of any metric, neither in this step nor in all. The upper bounds are not
required for it, because they need more answers than a small share brings, and the e-value guards
the step: how many requests can fail before it ends is known (`statistics.events_needed`).

Complete for the promotion means in addition: for each limited metric, the upper bound of the
candidate's rate over the whole release is below the limit. No evidence of a metric is no bound.

A candidate is never rolled back for exceeding an absolute limit while a comparison is possible:
the Clopper-Pearson bound does not hold at many looks, and a stable version that exceeds the limit
too would let a candidate that is no worse be rolled back. Nothing is lost by it. If the candidate's
rate is above the limit and the stable version's is below, then comparing both shows it earlier than
the limit does. If both exceed the limit, traffic does not rise, and a person decides. Where the
candidate has all traffic, only the limit is left: see `weighing`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlops_pipeline.delivery.releases.evidence import (
    CALIBRATING,
    Evidence,
    Metric,
    Tally,
    is_of_both,
    seconds,
)
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.weighing import (
    LARGEST_LOG,
    Weighed,
    limits,
    may_replay,
    needs_rows,
    replay_threshold,
    threshold,
    weigh,
)


@dataclass(frozen=True)
class Wait:
    """Nothing changes yet."""

    missing: str
    """What the next step needs, in a sentence: `120 of 300 answers; 180 are missing`."""
    needs_person: bool = False
    """Whether nothing follows by itself: somebody changed the deployment."""


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

_EVENTS: dict[Metric, str] = {
    "errors": "failed answers",
    "slow": "slow answers",
    "disagreement": "rows with another prediction",
    "wrong": "wrong predictions",
}


def next_step(release: Release, evidence: Evidence, *, now: datetime) -> Action:
    """Return what to do now; the module's docstring has the rules.

    Every state has an answer. In the phase `asking`, the same `Ask` is returned until something
    changes: late answers may still complete the evidence, and then the release continues by itself,
    unless its plan requires an approval. Evidence of another release counts as none.
    """
    if release.phase == "ended":
        return Finish("the traffic is final; the record of the release is not written yet")
    weighed = weigh(release, evidence)
    if verdict := _describe_verdict(release, weighed):
        return RollBack(verdict)
    if release.is_paused:
        return Wait("the release is paused; a person must resume it")
    if release.phase == "kept":
        return _while_kept(release, now)
    return _while_observed(release, weighed, now)


def _describe_verdict(release: Release, weighed: Sequence[Weighed]) -> str:
    """Say which metric shows for certain that the candidate is worse; empty if none does."""
    plan = release.plan
    for found in weighed:
        if _reaches(found.log_e, needed := threshold(plan)):
            counts = f"{_describe(found.metric, found.whole)} in all steps"
            return f"{counts}; {_describe_e(release, found.log_e, needed)}"
        if _reaches(found.log_e_replayed, needed := replay_threshold(plan)):
            counts = f"replayed hold-out rows: {_describe(found.metric, found.replayed)}"
            return f"{counts}; {_describe_e(release, found.log_e_replayed, needed)}"
    return ""


def _reaches(log_e: float, needed: float) -> bool:
    return log_e >= math.log(needed)


def _describe_e(release: Release, log_e: float, needed: float) -> str:
    number = f"{math.exp(log_e):.3g}" if log_e < LARGEST_LOG else "over 1e+299"
    return (
        f"the e-value {number} reaches {needed:g} (alpha {release.plan.alpha:g}, "
        f"{len(limits(release.plan))} metrics)"
    )


def _describe(metric: Metric, tally: Tally) -> str:
    """Return the counts of both versions."""
    events = f"{tally.candidate_events} of {tally.candidate_answers}"
    text = f"{_EVENTS[metric]}: {events} of the candidate"
    if not (is_of_both(metric) and tally.stable_answers):
        return text
    return f"{text}, {tally.stable_events} of {tally.stable_answers} of the stable version"


def _while_kept(release: Release, now: datetime) -> Action:
    over = _elapsed(release, now)
    if over >= release.plan.keep_seconds:
        return Finish(f"the former version was kept ready for {release.plan.keep_seconds:g} s")
    return Wait(f"the former version stays ready for {release.plan.keep_seconds - over:.0f} s more")


def _elapsed(release: Release, now: datetime) -> float:
    """Return the seconds of this step or phase; infinite if nobody can say when it began."""
    began = seconds(release.step_since or release.since)
    return math.inf if began is None else max(now.timestamp() - began, 0.0)


def _while_observed(release: Release, weighed: Sequence[Weighed], now: datetime) -> Action:
    steps = release.plan.effective_steps()
    if not 0 <= release.step < len(steps):
        return Ask(f"the plan has {len(steps)} steps, but the release is at step {release.step}")
    step = steps[release.step]
    is_over = release.phase == "asking" or _elapsed(release, now) >= step.seconds
    missing = list(_missing(release, weighed, is_over=is_over))
    if not missing:
        return _advance(release, weighed)
    text = "; ".join(missing)
    if _wants_replay(release, weighed, len(missing), is_over=is_over):
        return Replay(f"{text}. Hold-out rows are replayed")
    if not is_over:
        return Wait(text)
    if _rolls_back_silently(release):
        return RollBack(f"the step's {step.seconds:g} s are over: {text}")
    return Ask(f"evidence is missing: {text}")


def _rolls_back_silently(release: Release) -> bool:
    """Return whether missing evidence ends the release: not if it waits for a person anyway."""
    plan = release.plan
    is_waiting = release.phase == "asking" or plan.strategy == "ab"
    return plan.when_silent == "roll_back" and not is_waiting


def _missing(release: Release, weighed: Sequence[Weighed], *, is_over: bool) -> Iterator[str]:
    """Yield a sentence for each part of the evidence that the next step needs and lacks."""
    step = release.plan.effective_steps()[release.step]
    answers = next(w.step.candidate_answers for w in weighed if w.metric == "errors")
    may_stand_in = is_over and release.is_replayed and release.plan.when_silent == "replay"
    if answers < step.answers and not (may_stand_in and _has_rows(weighed)):
        yield f"{answers} of {step.answers} answers; {step.answers - answers} are missing"
    for found in weighed:
        if found.is_beyond:
            yield _describe_beyond(found)
        elif _is_last(release) and not (
            found.is_bounded
            or (_may_use_rows(release, found, is_over=is_over) and found.is_bounded_by_replay)
        ):
            yield _describe_unbounded(release, found)


def _has_rows(weighed: Sequence[Weighed]) -> bool:
    return any(w.metric == "errors" and w.replayed.candidate_answers for w in weighed)


def _may_use_rows(release: Release, found: Weighed, *, is_over: bool) -> bool:
    """Return whether replayed rows may bound this metric."""
    if not release.is_replayed:
        return False
    is_only_way = found.metric == "disagreement" and needs_rows(release.plan)
    return is_only_way or (is_over and release.plan.when_silent == "replay")


def _is_last(release: Release) -> bool:
    return release.step == len(release.plan.effective_steps()) - 1


def _describe_beyond(found: Weighed) -> str:
    worst = max(
        (t for t in (found.step, found.whole, found.replayed) if t.candidate_answers),
        key=lambda tally: tally.candidate_events / tally.candidate_answers,
    )
    rate = 100 * worst.candidate_events / worst.candidate_answers
    where = " (replayed)" if worst is found.replayed else ""
    return (
        f"{_describe(found.metric, worst)}{where}; {rate:.3g} % exceeds the limit of "
        f"{100 * found.limit:g} %"
    )


def _describe_unbounded(release: Release, found: Weighed) -> str:
    limit, whole = f"{100 * found.limit:g} %", found.whole
    if not whole.candidate_answers:
        reason = f"{_EVENTS[found.metric]}: no answer was counted"
        if found.metric == "slow":
            reason += f", because the stable version needs {CALIBRATING} answers in the step first"
        return f"{reason}; {found.missing} without one bound the rate below {limit}"
    counts = f"{_EVENTS[found.metric]}: {whole.candidate_events} of {whole.candidate_answers}"
    confidence = f"{100 * release.plan.confidence:g} %"
    return (
        f"{counts}; {found.missing} further answers without one bound the rate below {limit} "
        f"with a confidence of {confidence}"
    )


def _wants_replay(
    release: Release, weighed: Sequence[Weighed], missing: int, *, is_over: bool
) -> bool:
    """Return whether replaying hold-out rows can complete the evidence, once in a step."""
    if release.is_replayed or not may_replay(release.plan) or any(w.is_beyond for w in weighed):
        return False
    if release.plan.when_silent == "replay" and is_over:
        return True
    lacks_rows = any(w.metric == "disagreement" and not w.is_bounded for w in weighed)
    return needs_rows(release.plan) and _is_last(release) and lacks_rows and missing == 1


def _advance(release: Release, weighed: Sequence[Weighed]) -> Action:
    """Return what follows from complete evidence."""
    plan, facts = release.plan, "; ".join(_facts(release, weighed))
    if plan.strategy == "ab":
        return Ask(f"a person decides which version wins. {facts}")
    if plan.approval and (_is_last(release) or release.phase == "asking"):
        return Ask(f"the release requires an approval; its evidence is complete. {facts}")
    return Promote(facts) if _is_last(release) else Expose(release.step + 1, facts)


def _facts(release: Release, weighed: Sequence[Weighed]) -> Iterator[str]:
    """Yield, for each metric, what its decision rests on."""
    confidence = f"{100 * release.plan.confidence:g} %"
    for found in weighed:
        limit = f"limit {100 * found.limit:g} %"
        if not _is_last(release):
            yield f"{_describe(found.metric, found.step)} in this step ({limit})"
            if found.replayed.candidate_answers:
                yield f"replayed hold-out rows: {_describe(found.metric, found.replayed)}"
        elif found.is_bounded:
            bound = f"below {100 * found.bound:.3g} % with a confidence of {confidence}"
            yield f"{_describe(found.metric, found.whole)}; {bound} ({limit})"
        else:
            rows = found.replayed.candidate_answers
            bound = f"at most {100 * found.replayed_bound:.3g} % with a confidence of {confidence}"
            lowest = f"{rows} distinct rows can show no less than {100 * found.lowest:.3g} %"
            yield (
                f"replayed hold-out rows: {_describe(found.metric, found.replayed)}; {bound} "
                f"({limit}; {lowest})"
            )
