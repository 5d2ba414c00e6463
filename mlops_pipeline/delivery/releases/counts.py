"""What was counted in a release, as rows for people: one for each step, metric and source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.delivery.releases.evidence import (
    METRICS,
    Evidence,
    Metric,
    StepEvidence,
    Tally,
    is_of_both,
)
from mlops_pipeline.delivery.releases.weighing import limits

Source = Literal["clients", "replayed"]
"""`clients`: their requests. `replayed`: hold-out rows that were sent to both versions."""


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
            + (f", stable {stable}" if self.stable_answers and is_of_both(self.metric) else "")
            + (" (replayed rows)" if self.source == "replayed" else "")
        )


def counts_by_step(evidence: Evidence, plan: ReleaseSpec) -> list[Count]:
    """Return the counts of each step, in the order of steps and metrics.

    After the last step of the plan follows the time after a promotion.
    """
    return [
        _count(step.step + 1, step.share, *found, plan)
        for step in evidence.steps
        for found in _tallies([step])
    ]


def counts_in_all(evidence: Evidence, plan: ReleaseSpec) -> list[Count]:
    """Return the counts over all steps."""
    return [_count(0, None, *found, plan) for found in _tallies(evidence.steps)]


def _tallies(steps: Sequence[StepEvidence]) -> Iterator[tuple[Metric, Source, Tally]]:
    sources: tuple[Source, ...] = ("clients", "replayed")
    for metric in METRICS:
        for source in sources:
            by_metric = (step.live if source == "clients" else step.replayed for step in steps)
            if found := [tallies[metric] for tallies in by_metric if metric in tallies]:
                yield metric, source, reduce(Tally.plus, found)


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
        limit=limits(plan).get(metric),
    )
