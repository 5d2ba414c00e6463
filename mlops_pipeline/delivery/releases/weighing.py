"""What the evidence of a release says of each metric: rates, bounds and e-values. Pure functions.

The share of the candidate that an event is compared with is the larger of the configured one and
the observed one, of the answers in the step. With the configured share alone, a gateway that gives
the candidate more than that would have equal candidates rolled back: simulated with 8 % in place
of 5 %, see `test_simulation`. The larger share makes each e-value smaller, so the guarantee for
the configured share stays. For the observed share the e-value is valid at every single look
(given the answers, events are drawn without replacement, and Hoeffding 1963 bounds the mean), and
the simulation shows that alpha also holds over all looks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.delivery.releases.evidence import (
    METRICS,
    Evidence,
    Look,
    Metric,
    StepEvidence,
    Tally,
    is_compared,
    step_number,
    thinned,
)
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.statistics import (
    log_e_value,
    lowest_bound,
    missing_answers,
    share_of_answers,
    upper_bound,
)

_CERTAINLY_SOME = 10.0
"""Expected answers of the stable version from which none at all is no chance (e^-10)."""
LARGEST_LOG = 690.0


@dataclass(frozen=True)
class Weighed:
    """One limited metric: its counts, and the logarithms of its e-values."""

    metric: Metric
    limit: float
    confidence: float
    step: Tally
    """Live, of this step."""
    whole: Tally
    """Live, of all steps so far."""
    replayed: Tally
    """Of the hold-out rows in this step: each row counts once."""
    log_e: float
    """Live, product over the steps."""
    log_e_replayed: float

    @property
    def is_beyond(self) -> bool:
        """Whether the candidate's rate exceeds the limit: in this step, in all, or replayed."""
        live = any(_rate(tally) > self.limit for tally in (self.step, self.whole))
        return live or _rate(self.replayed) > self.replayed_limit

    @property
    def is_bounded(self) -> bool:
        """Whether live evidence bounds the candidate's rate below the limit."""
        return self.bound < self.limit

    @property
    def bound(self) -> float:
        """Upper bound of the candidate's rate, live, in all steps."""
        whole = self.whole
        return upper_bound(whole.candidate_events, whole.candidate_answers, self.confidence)

    @property
    def missing(self) -> int:
        """Further answers without an event that bound the rate below the limit."""
        whole = self.whole
        return missing_answers(
            whole.candidate_events, whole.candidate_answers, self.limit, self.confidence
        )

    @property
    def lowest(self) -> float:
        """The lowest bound that the number of replayed rows can reach."""
        return lowest_bound(self.replayed.candidate_answers, self.confidence)

    @property
    def replayed_limit(self) -> float:
        """The limit for replayed rows: not below the lowest bound that so many rows can reach."""
        return max(self.limit, self.lowest)

    @property
    def replayed_bound(self) -> float:
        """Upper bound of the candidate's rate on replayed rows."""
        rows = self.replayed
        return upper_bound(rows.candidate_events, rows.candidate_answers, self.confidence)

    @property
    def is_bounded_by_replay(self) -> bool:
        """Whether replayed rows bound the rate as far as so many rows can."""
        return self.replayed.candidate_answers > 0 and self.replayed_bound <= self.replayed_limit


def limits(plan: ReleaseSpec) -> Mapping[Metric, float]:
    """Return the limits of the metrics that decide, as rates.

    `wrong` has none: it is only shown.
    """
    given: dict[Metric, float | None] = {
        "errors": plan.max_errors,
        "slow": plan.max_slow,
        "disagreement": plan.max_disagreement,
    }
    return {m: limit for m in METRICS if (limit := given.get(m)) is not None}


def may_replay(plan: ReleaseSpec) -> bool:
    """Return whether hold-out rows may decide.

    They do if the spec says so, and if disagreement is limited without a shadow: answers to
    different requests cannot be compared row by row.
    """
    return plan.when_silent == "replay" or needs_rows(plan)


def needs_rows(plan: ReleaseSpec) -> bool:
    """Return whether a limited metric can only be counted on hold-out rows."""
    return plan.max_disagreement is not None


def threshold(plan: ReleaseSpec) -> float:
    """Return the e-value of live evidence at which a release is rolled back.

    The number of limited metrics / alpha (Bonferroni). Where hold-out rows may decide too, live
    evidence has half of alpha.
    """
    return len(limits(plan)) * (2 if may_replay(plan) else 1) / plan.alpha


def replay_threshold(plan: ReleaseSpec) -> float:
    """Return the e-value of replayed rows at which a release is rolled back.

    Each step may replay the same rows, so the other half of alpha is shared by the steps too.
    """
    return 2 * len(limits(plan)) * max(len(plan.effective_steps()), 1) / plan.alpha


def weigh(release: Release, evidence: Evidence) -> tuple[Weighed, ...]:
    """Return what the evidence says of each limited metric, in the order of `METRICS`.

    Evidence of another release counts as none.
    """
    steps = evidence.steps if evidence.release == release.id else ()
    now = [step for step in steps if step.step == step_number(release)]
    # What a promotion rested on is shown as long as the former version is kept.
    rows = [step for step in steps if step.replayed][-1:] if release.ended is not None else now
    plan = release.plan
    return tuple(
        Weighed(
            metric=metric,
            limit=limit,
            confidence=plan.confidence,
            step=_total(now, metric),
            whole=_total(steps, metric),
            replayed=rows[-1].replayed.get(metric, Tally()) if rows else Tally(),
            log_e=sum(_log_e(plan, steps, place, metric) for place in range(len(steps))),
            log_e_replayed=_log_e_of_rows(now[-1], metric, limit) if now else 0.0,
        )
        for metric, limit in limits(plan).items()
    )


def e_value_of(log_e: float) -> float:
    """Return the e-value, or the largest that a float can hold."""
    return math.exp(min(log_e, LARGEST_LOG))


def with_look(evidence: Evidence, release: Release, *, now: datetime) -> Evidence:
    """Add a point for the plots: call it after `accumulate`, when something may have changed."""
    weighed = weigh(release, evidence)
    values = {w.metric: e_value_of(w.log_e) for w in weighed}
    answers = next((w.whole.candidate_answers for w in weighed if w.metric == "errors"), 0)
    look = Look(now.isoformat(timespec="seconds"), release.share, answers, values)
    return replace(evidence, looks=thinned((*evidence.looks, look)))


def _log_e(plan: ReleaseSpec, steps: tuple[StepEvidence, ...], place: int, metric: Metric) -> float:
    """Return the logarithm of the e-value of a metric in one step.

    The null hypothesis is "the candidate is no worse" where both versions answer requests of the
    same time. Disagreement, and a candidate that has all traffic, are held against the limit: the
    stable version's rate of an earlier time is not used, because an outage that began since (of a
    database, of a client) would count as the candidate's.

    After a promotion the limit is at least the upper bound of what both versions had before: a
    person who promoted a candidate in spite of its rate, or without evidence, has decided.
    """
    step = steps[place]
    tally = step.live.get(metric, Tally())
    limit = limits(plan)[metric]
    if metric == "disagreement":
        return log_e_value(tally.candidate_events, tally.candidate_answers, limit)
    if is_compared(plan, step) and not _is_stable_silent(plan, step, tally):
        events = tally.candidate_events + tally.stable_events
        return log_e_value(tally.candidate_events, events, _share(plan, step, tally))
    if step.step >= len(plan.effective_steps()):
        before = _total(steps[:place], metric)
        events = before.candidate_events + before.stable_events
        answers = before.candidate_answers + before.stable_answers
        limit = max(limit, upper_bound(events, answers, plan.confidence))
    return log_e_value(tally.candidate_events, tally.candidate_answers, limit)


def _expected_share(plan: ReleaseSpec, step: StepEvidence) -> float:
    return share_of_answers(step.share / 100, is_copied=plan.strategy == "shadow")


def _share(plan: ReleaseSpec, step: StepEvidence, tally: Tally) -> float:
    """Return the larger of the configured and the observed share of the answers."""
    answers = tally.candidate_answers + tally.stable_answers
    observed = tally.candidate_answers / answers if answers else 0.0
    return max(_expected_share(plan, step), observed)


def _is_stable_silent(plan: ReleaseSpec, step: StepEvidence, tally: Tally) -> bool:
    """Return whether the stable version certainly does not answer, or is not counted."""
    expected = tally.candidate_answers * (1 - _expected_share(plan, step))
    return tally.stable_answers == 0 and expected >= _CERTAINLY_SOME


def _log_e_of_rows(step: StepEvidence, metric: Metric, limit: float) -> float:
    """Return the same for replayed rows: both versions answer each of them, so 1/2 is the null."""
    rows = step.replayed.get(metric, Tally())
    if metric == "disagreement":
        return log_e_value(rows.candidate_events, rows.candidate_answers, limit)
    events = rows.candidate_events + rows.stable_events
    answers = rows.candidate_answers + rows.stable_answers
    share = max(share_of_answers(1, is_copied=True), rows.candidate_answers / max(answers, 1))
    return log_e_value(rows.candidate_events, events, share)


def _total(steps: tuple[StepEvidence, ...] | list[StepEvidence], metric: Metric) -> Tally:
    total = Tally()
    for step in steps:
        total = total.plus(step.live.get(metric, Tally()))
    return total


def _rate(tally: Tally) -> float:
    return tally.candidate_events / tally.candidate_answers if tally.candidate_answers else 0.0
