"""The documents of `release status --json` and `release history --json`. Their fields are stable."""

from pydantic import BaseModel


class TallyStatus(BaseModel):
    """Events of one metric, and the answers (or rows) that could have been one."""

    candidate_events: int
    candidate_answers: int
    stable_events: int
    stable_answers: int


class MetricStatus(BaseModel):
    """What is known of one metric: `live` of clients' requests, `replayed` of hold-out rows."""

    name: str
    live: TallyStatus
    replayed: TallyStatus
    e_value: float
    e_threshold: float
    upper_bound: float | None
    limit: float | None
    missing: int


class VersionStatus(BaseModel):
    """A version in a release: `role` is stable, candidate, promoted or former."""

    role: str
    digest: str
    traffic: int
    mirrored: int


class NextStatus(BaseModel):
    """What follows from the evidence: `action` is empty where it is unknown."""

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
    """A model's release: `state` is none, observing, paused, asking, kept, ended or damaged."""

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


class Releases(BaseModel):
    """The document that `release status --json` prints."""

    platform: str
    releases: list[ReleaseStatus]


class History(BaseModel):
    """The document that `release history --json` prints: the newest first."""

    platform: str
    model: str
    records: list[RecordStatus]
