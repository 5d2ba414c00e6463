"""What was counted in a release, as rows for people: one for each step, metric and source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.delivery.releases.evidence import METRICS, Evidence, Metric, Tally

Source = Literal["clients", "replayed"]
"""`clients`: their requests. `replayed`: hold-out rows that were sent to both versions."""
_LIMITS: dict[Metric, str] = {
    "errors": "max_errors",
    "slow": "max_slow",
    "disagreement": "max_disagreement",
}
"""Metric → the field of the plan with its limit; others are only shown."""


@dataclass(frozen=True)
class Count:
    """Events of one metric in one step, or in all steps."""

    step: int
    """From 1; 0: all steps."""
    share: int | None
    """Percent of the requests that the candidate was given; None: it differs."""
    metric: Metric
    source: Source
    candidate_events: int
    candidate_answers: int
    stable_events: int
    stable_answers: int
    limit: float | None
    """Maximum rate in the plan; None: the metric is only shown."""

    def describe(self) -> str:
        """Return the numbers of both versions in a few words."""
        stable = f"{self.stable_events} of {self.stable_answers}"
        return (
            f"{self.metric} {self.candidate_events} of {self.candidate_answers}"
            + (f", stable {stable}" if self.stable_answers else "")
            + (" (replayed rows)" if self.source == "replayed" else "")
        )


def limit_of(metric: Metric, plan: ReleaseSpec) -> float | None:
    """Return the maximum rate of a metric; None if it is only shown."""
    limit: float | None = getattr(plan, _LIMITS[metric]) if metric in _LIMITS else None
    return limit


def counts_by_step(evidence: Evidence, plan: ReleaseSpec) -> list[Count]:
    """Return the counts of each step, in the order of steps and metrics."""
    return [
        _count(number, step.share, metric, source, tally, plan)
        for number, step in enumerate(evidence.steps, start=1)
        for metric, source, tally in _tallies(evidence, [number])
    ]


def counts_in_all(evidence: Evidence, plan: ReleaseSpec) -> list[Count]:
    """Return the counts over all steps."""
    steps = range(1, len(evidence.steps) + 1)
    return [_count(0, None, *found, plan) for found in _tallies(evidence, steps)]


def _tallies(
    evidence: Evidence, steps: "range | list[int]"
) -> Iterator[tuple[Metric, Source, Tally]]:
    chosen = [evidence.steps[number - 1] for number in steps]
    sources: tuple[Source, ...] = ("clients", "replayed")
    for metric in METRICS:
        for source in sources:
            by_metric = (step.live if source == "clients" else step.replayed for step in chosen)
            if found := [tallies[metric] for tallies in by_metric if metric in tallies]:
                yield metric, source, _sum(found)


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(
        sum(tally.candidate_events for tally in tallies),
        sum(tally.candidate_answers for tally in tallies),
        sum(tally.stable_events for tally in tallies),
        sum(tally.stable_answers for tally in tallies),
    )


def _count(
    step: int, share: int | None, metric: Metric, source: Source, tally: Tally, plan: ReleaseSpec
) -> Count:
    return Count(
        step=step,
        share=share,
        metric=metric,
        source=source,
        candidate_events=tally.candidate_events,
        candidate_answers=tally.candidate_answers,
        stable_events=tally.stable_events,
        stable_answers=tally.stable_answers,
        limit=limit_of(metric, plan),
    )
