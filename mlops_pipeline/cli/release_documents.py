"""What `release status --json` and `release history --json` print. The fields are stable."""

from dataclasses import asdict

from pydantic import BaseModel

from mlops_pipeline.delivery.releases.evidence import METRICS, Evidence, Metric, Tally
from mlops_pipeline.delivery.releases.records import ReleaseRecord
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.weighing import (
    Weighed,
    e_value_of,
    replay_threshold,
    threshold,
    weigh,
)


class TallyStatus(BaseModel):
    """Events of one metric, and the answers or rows that could have been one."""

    candidate_events: int
    candidate_answers: int
    stable_events: int
    stable_answers: int


class WeighedStatus(BaseModel):
    """What decides: rolled back at `e_threshold`, promoted with `upper_bound` below `limit`."""

    e_value: float
    e_threshold: float
    upper_bound: float
    limit: float


class MetricStatus(BaseModel):
    """One metric of a release; `live` and `replayed` are null if it is only shown."""

    name: str
    step: TallyStatus
    all_steps: TallyStatus
    replayed_rows: TallyStatus
    live: WeighedStatus | None
    replayed: WeighedStatus | None
    missing: int


class VersionStatus(BaseModel):
    """A version in a release: `role` is stable, candidate, promoted or former."""

    role: str
    digest: str
    traffic: int
    copies: int


class NextStatus(BaseModel):
    """What follows from the evidence, and the commands that decide otherwise."""

    action: str
    sentence: str
    commands: list[str]


class RecordStatus(BaseModel):
    """How a release ended: `outcome` is promoted, rolled_back, superseded or aborted."""

    id: str
    strategy: str
    candidate: str
    stable: str
    requested_by: str
    since: str
    outcome: str
    reason: str
    decided_by: str
    time: str
    metrics: list[MetricStatus]
    signed_by: str
    doubt: str


class ReleaseStatus(BaseModel):
    """A model's release.

    `state` is none, observing, paused, asking, kept, ended, damaged or unknown.
    """

    model: str
    namespace: str
    deployment: str
    state: str
    problem: str
    id: str
    strategy: str
    requested_by: str
    since: str
    step: int
    steps: int
    step_since: str
    versions: list[VersionStatus]
    answers: int
    answers_wanted: int
    answers_missing: int
    metrics: list[MetricStatus]
    next: NextStatus
    last: RecordStatus | None


class ReleasesDocument(BaseModel):
    """The document that `release status --json` prints."""

    platform: str
    releases: list[ReleaseStatus]


class HistoryDocument(BaseModel):
    """The document that `release history --json` prints: the newest record first."""

    platform: str
    model: str
    records: list[RecordStatus]


def metrics_of(release: Release, evidence: Evidence) -> list[MetricStatus]:
    """Return each metric that was counted or is limited, in the order of `METRICS`."""
    weighed = {found.metric: found for found in weigh(release, evidence)}
    counted = {m for step in evidence.steps for m in (*step.live, *step.replayed)}
    return [
        _metric_of(name, release, evidence, weighed.get(name))
        for name in METRICS
        if name in counted or name in weighed
    ]


def _metric_of(
    name: Metric, release: Release, evidence: Evidence, weighed: Weighed | None
) -> MetricStatus:
    steps = evidence.steps
    now = [step for step in steps if step.step == release.step]
    replayed = weighed.replayed if weighed else _sum([s.replayed.get(name) for s in now])
    return MetricStatus(
        name=name,
        step=_tally(weighed.step if weighed else _sum([s.live.get(name) for s in now])),
        all_steps=_tally(weighed.whole if weighed else _sum([s.live.get(name) for s in steps])),
        replayed_rows=_tally(replayed),
        live=_live(release, weighed) if weighed else None,
        replayed=_replayed(release, weighed) if weighed and replayed.candidate_answers else None,
        missing=weighed.missing if weighed else 0,
    )


def _sum(tallies: list[Tally | None]) -> Tally:
    total = Tally()
    for tally in tallies:
        total = total.plus(tally) if tally else total
    return total


def _tally(tally: Tally) -> TallyStatus:
    return TallyStatus(**asdict(tally))


def _live(release: Release, weighed: Weighed) -> WeighedStatus:
    return WeighedStatus(
        e_value=e_value_of(weighed.log_e),
        e_threshold=threshold(release.plan),
        upper_bound=weighed.bound,
        limit=weighed.limit,
    )


def _replayed(release: Release, weighed: Weighed) -> WeighedStatus:
    return WeighedStatus(
        e_value=e_value_of(weighed.log_e_replayed),
        e_threshold=replay_threshold(release.plan),
        upper_bound=weighed.replayed_bound,
        limit=weighed.replayed_limit,
    )


def record_status(record: ReleaseRecord) -> RecordStatus:
    """Return a record as the document has it."""
    release, decision = record.release, record.decision
    return RecordStatus(
        id=release.id,
        strategy=release.plan.strategy,
        candidate=release.candidate,
        stable=release.stable,
        requested_by=release.by,
        since=release.since,
        outcome=decision.outcome,
        reason=decision.reason,
        decided_by=decision.by,
        time=decision.time,
        metrics=metrics_of(release, record.evidence),
        signed_by=record.key,
        doubt=record.doubt,
    )
