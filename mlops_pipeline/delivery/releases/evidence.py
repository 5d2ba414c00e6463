"""What was counted in a release: events per answer of both versions, step by step; its JSON.

Servers count from their start, so the evidence keeps what each server had counted at the last look
and adds the difference. A server that has started again counts from zero.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.clients.errors import DAMAGES, IntegrityError
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts

MOST_BYTES = 200_000
"""Of the evidence as JSON."""
MOST_LOOKS = 200
CALIBRATING = 100
"""Answers of the stable version from which the limit of slowness follows."""
WARM_UP = 10.0
"""Seconds after the start of a step or of a server, whose answers do not count for slowness."""
_SAME_START = 1.0
"""Seconds by which the reported start of a process may differ, when its clock is corrected."""
_MOST_GONE = 50
Metric = Literal["errors", "slow", "disagreement", "wrong"]
METRICS: tuple[Metric, ...] = ("errors", "slow", "disagreement", "wrong")
"""`errors`: failed answers (5xx) and requests that never got one. `slow`: slower than the limit of
the step. `disagreement`: rows that both versions answer differently. `wrong`: by feedback."""


def is_of_both(metric: str) -> bool:
    """Return whether each version has events of its own: they disagree with each other."""
    return metric != "disagreement"


@dataclass(frozen=True)
class Tally:
    """Events of one metric, and the answers that could have been one."""

    candidate_events: int = 0
    candidate_answers: int = 0
    stable_events: int = 0
    stable_answers: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum of both."""
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))


@dataclass(frozen=True)
class Calibration:
    """The stable version's answers that the limit of slowness follows from."""

    answered: int = 0
    slower: Mapping[str, int] = field(default_factory=dict)
    """Limit of the histogram in seconds → answers that took longer."""


@dataclass(frozen=True)
class StepEvidence:
    """What was counted in one step, whose share is fixed."""

    step: int
    """Position in `plan.effective_steps()`; their number for the time after a promotion."""
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
    """Of hold-out rows that were sent to both versions alone. Distinct rows: each counts once."""
    calibration: Calibration = field(default_factory=Calibration)
    """Of this step, until the limit is frozen."""


@dataclass(frozen=True)
class Seen:
    """What one server had counted at the last look."""

    started: float
    """Start of its process, seconds since 1970."""
    answered: int
    failed: int
    slower: Mapping[str, int]
    """Limit of the histogram in seconds → answers that took longer."""
    time: float = 0.0
    """Of that look, seconds since 1970."""


@dataclass(frozen=True)
class Look:
    """One point of the plots: what was known at a time."""

    time: str
    share: int
    answers: int
    """The candidate's live answers in all steps so far."""
    e_values: Mapping[Metric, float]
    """Product over the steps, at most 1e300; see `weighing.threshold`."""


@dataclass(frozen=True)
class Evidence:
    """Everything that was counted in a release; an object in the store, JSON."""

    release: str
    """Its id."""
    steps: tuple[StepEvidence, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """Server → what it had counted at the last look."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """`candidate` or `stable` → requests that the gateway had lost at the last look."""
    looks: tuple[Look, ...] = ()
    """At most 200, spread evenly over the time."""


@dataclass(frozen=True)
class _Gain:
    """What one version has answered since the last look."""

    answered: int = 0
    failed: int = 0
    """Failed at the server, and not among `answered`."""
    lost: int = 0
    """At the gateway. It counts a 503 of a server too, which the server has counted as failed."""
    warm: Calibration = field(default_factory=Calibration)
    """Of servers that were warm at the last look."""

    @property
    def events(self) -> int:
        """Requests that were not answered as they should, each counted once.

        Nobody tells which of the lost ones failed at the server, so the fewest possible count.
        """
        return max(self.failed, self.lost)


def accumulate(
    evidence: Evidence,
    counts: Sequence[PredictorCounts],
    *,
    release: Release,
    candidate_predictor: str,
    stable_predictor: str,
    now: datetime,
) -> Evidence:
    """Add what the servers and the gateway have counted since the last look.

    The first look of a release counts nothing: it is what later looks are compared with. Afterwards
    a server counts from the last look at it, or from zero if its process is another one now. A
    server that is new counts from zero if it started after the release, else from now on. One that
    cannot be seen for a while keeps what it had counted, so nothing counts twice; what a server
    counted between the last look and its end is lost. A process that has another name now (a
    predictor that was renamed) is recognized by the time of its start. Requests that the gateway
    lost count from zero if their number went down.

    A request that got no answer counts as an answer that failed. A new step, and the time after a
    promotion, get a StepEvidence of their own.

    Slowness counts as soon as the stable version has `CALIBRATING` answers in the step: the limit
    is frozen then (see `_frozen_limit`), and only later answers count, of both versions. Answers in
    the first `WARM_UP` seconds of the step or of a server do not count for it.

    Evidence of another release is dropped.
    """
    is_first = evidence.release != release.id or not evidence.steps
    known = Evidence(release.id) if evidence.release != release.id else evidence
    by_name = {found.predictor: found for found in counts}
    step = _current(known, release, by_name.get(stable_predictor))
    since = math.inf if is_first else seconds(release.since) or math.inf
    warm = (seconds(step.since) or 0.0) + WARM_UP
    present = {server.server for found in counts for server in found.servers}
    gains, lost = [], dict(known.lost)
    for role, name in (("candidate", candidate_predictor), ("stable", stable_predictor)):
        found = by_name.get(name, PredictorCounts(name, (), None))
        before = known.lost.get(role)
        gains.append(_gain(found, known, before, present=present, since=since, warm=warm))
        if found.lost is not None:
            lost[role] = found.lost
    live = dict(step.live)
    for metric, tally in _tallies(step, *gains):
        live[metric] = live.get(metric, Tally()).plus(tally)
    step = _calibrated(replace(step, live=live), gains[1], release)
    others = tuple(old for old in known.steps if old.step != step.step)
    return replace(
        known,
        steps=(*others, step),
        seen=_seen(known, counts, now),
        lost=lost,
    )


def step_number(release: Release) -> int:
    """Return the position of the step; after a promotion, the number of steps."""
    return len(release.plan.effective_steps()) if release.phase == "kept" else release.step


def is_compared(plan: ReleaseSpec, step: StepEvidence) -> bool:
    """Return whether the stable version answers requests of the same time in that step."""
    is_before = step.step < len(plan.effective_steps())
    return is_before and (step.share < 100 or plan.strategy == "shadow")


def _current(known: Evidence, release: Release, stable: PredictorCounts | None) -> StepEvidence:
    """Return the evidence of this step, new where it begins.

    Where the candidate has all traffic, the limit of slowness is that of the step before, or
    follows from what the stable version's servers have answered since their start.
    """
    number = step_number(release)
    for step in known.steps:
        if step.step == number:
            return step
    new = StepEvidence(step=number, share=release.share, since=release.step_since or release.since)
    if is_compared(release.plan, new):
        return new
    before = next((old.slow_over for old in reversed(known.steps) if old.slow_over), None)
    if before is not None or stable is None:
        return replace(new, slow_over=before)
    earlier = _Gain(warm=_sum(Calibration(s.answered, s.slower) for s in stable.servers))
    return _calibrated(new, earlier, release)


def _gain(
    found: PredictorCounts,
    known: Evidence,
    before: int | None,
    *,
    present: set[str],
    since: float,
    warm: float,
) -> _Gain:
    """Return what a predictor's servers and the gateway have counted since the last look.

    Where the gateway does not tell what it lost, a server that started again has lost one request.
    `before` is what the gateway had lost at the last look; None: it is the first one.
    `present` are the names of the servers of all predictors. A server that is new and started at
    `since` or later counts from zero. Answers count for slowness from the time `warm`.
    """
    answered = failed = lost = 0
    warmed = []
    for server in found.servers:
        old = _last(server, known, present, since=since)
        more = max(server.answered - old.answered, 0)
        answered += more
        failed += max(server.failed - old.failed, 0)
        seen = known.seen.get(server.server)
        failed += found.lost is None and seen is not None and not _is_same(server, seen)
        if old.time >= max(warm, server.started + WARM_UP):
            slower = {
                limit: min(max(count - old.slower.get(limit, 0), 0), more)
                for limit, count in server.slower.items()
            }
            warmed.append(Calibration(more, slower))
    if found.lost is not None and before is not None:
        lost = found.lost - before if found.lost >= before else found.lost
    return _Gain(answered, failed, lost, _sum(warmed))


def _last(server: ServerCounts, known: Evidence, present: set[str], *, since: float) -> Seen:
    """Return what the server's process had counted at the last look."""
    old = known.seen.get(server.server)
    if old is not None:
        return old if _is_same(server, old) else Seen(server.started, 0, 0, {}, server.started)
    renamed = [
        other
        for name, other in known.seen.items()
        if name not in present and other.started == server.started and _is_same(server, other)
    ]
    if renamed:
        return max(renamed, key=lambda other: other.answered)
    if server.started >= since:
        return Seen(server.started, 0, 0, {}, server.started)
    return Seen(server.started, server.answered, server.failed, server.slower, server.started)


def _is_same(server: ServerCounts, old: Seen) -> bool:
    """Whether the process is the one of the last look: its counts cannot have fallen then."""
    has_fallen = server.answered < old.answered or server.failed < old.failed
    return abs(server.started - old.started) <= _SAME_START and not has_fallen


def _sum(parts: Iterable[Calibration]) -> Calibration:
    """Return the sum over servers that answered, for the limits that all of these have."""
    found = [part for part in parts if part.answered]
    limits = set.intersection(*(set(part.slower) for part in found)) if found else set()
    slower = {limit: sum(part.slower[limit] for part in found) for limit in limits}
    return Calibration(sum(part.answered for part in found), slower)


def _tallies(step: StepEvidence, candidate: _Gain, stable: _Gain) -> Iterator[tuple[Metric, Tally]]:
    """Yield what was gained for each metric that servers and the gateway count."""
    yield (
        "errors",
        Tally(
            candidate.events,
            candidate.answered + candidate.events,
            stable.events,
            stable.answered + stable.events,
        ),
    )
    if step.slow_over is not None:
        parts = [*_slow(step.slow_over, candidate.warm), *_slow(step.slow_over, stable.warm)]
        yield "slow", Tally(*parts)


def _slow(limit: float, warm: Calibration) -> tuple[int, int]:
    """Return the slow answers and the answers; none where servers have no such limit."""
    for text, count in warm.slower.items():
        if float(text) == limit:
            return count, warm.answered
    return 0, 0


def _calibrated(step: StepEvidence, stable: _Gain, release: Release) -> StepEvidence:
    """Return the step with the stable version's answers, and its limit once they are enough."""
    if step.slow_over is not None or not stable.warm.answered:
        return step
    known = step.calibration
    total = _sum([known, stable.warm]) if known.answered else stable.warm
    if total.answered < CALIBRATING:
        return replace(step, calibration=total)
    limit = _frozen_limit(total, release.plan.slow_factor)
    return replace(step, calibration=total, slow_over=limit)


def _frozen_limit(stable: Calibration, factor: float) -> float | None:
    """Return the smallest limit of the histogram ≥ factor × the 95th percentile, in seconds.

    The percentile is interpolated in its bucket, as Prometheus's `histogram_quantile` does it. The
    largest limit is used where no limit is that large, but at least the percentile. None where
    even the percentile is above the largest limit: the histogram cannot show slowness then.
    """
    counted = ((float(limit), count) for limit, count in stable.slower.items())
    slower = sorted((limit, count) for limit, count in counted if math.isfinite(limit))
    allowed = 0.05 * stable.answered
    below, over = 0.0, stable.answered
    for limit, count in slower:
        if count <= allowed:
            part = (over - allowed) / (over - count) if over > count else 1.0
            percentile = below + (limit - below) * part
            wanted = factor * percentile
            return next((at for at, _ in slower if at >= wanted), slower[-1][0])
        below, over = limit, count
    return None


def _seen(known: Evidence, counts: Sequence[PredictorCounts], now: datetime) -> Mapping[str, Seen]:
    """Return what each server has counted; of servers that are gone, the latest `_MOST_GONE`."""
    time = now.timestamp()
    present = {
        s.server: Seen(s.started, s.answered, s.failed, dict(s.slower), time)
        for found in counts
        for s in found.servers
    }
    gone = [(name, old) for name, old in known.seen.items() if name not in present]
    latest = sorted(gone, key=lambda item: item[1].time)[-_MOST_GONE:]
    return {**dict(latest), **present}


def thinned(looks: tuple[Look, ...], most: int = MOST_LOOKS) -> tuple[Look, ...]:
    """Return at most `most` looks, the first and the last among them.

    Whichever leaves the shortest gap goes first, so that the others stay spread evenly over the
    time. Looks without a valid time count as taken at 1970.
    """
    kept = list(looks)
    times = [seconds(look.time) or 0.0 for look in kept]
    while len(kept) > max(most, 2):
        middle = range(1, len(kept) - 1)
        gone = min(middle, key=lambda place: times[place + 1] - times[place - 1])
        del kept[gone], times[gone]
    return tuple(kept)


def seconds(time: str) -> float | None:
    """Return an ISO 8601 time, UTC where it names no zone, in seconds since 1970; None if bad."""
    try:
        moment = datetime.fromisoformat(time)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def to_json(evidence: Evidence) -> bytes:
    """Return the evidence as JSON of less than 200 KB; looks are thinned until it fits."""
    looks = thinned(evidence.looks)
    while True:
        data = json.dumps(asdict(replace(evidence, looks=looks)), separators=(",", ":")).encode()
        if len(data) < MOST_BYTES or len(looks) <= 2:
            return data
        looks = thinned(looks, most=len(looks) // 2)


def parse_evidence(data: bytes | str, *, where: str) -> Evidence:
    """Return the evidence in a JSON document; `where` names the document in the error.

    Raises:
        IntegrityError: it is damaged; says what to do.
    """
    try:
        given = json.loads(data)
        evidence = Evidence(
            release=given["release"],
            steps=tuple(map(_step, given["steps"])),
            seen={name: Seen(**seen) for name, seen in given["seen"].items()},
            lost=dict(given["lost"]),
            looks=tuple(Look(**look) for look in given["looks"]),
        )
        problems = list(_faults(evidence))
    except DAMAGES as error:
        problems = [repr(error)]
    if problems:
        raise IntegrityError(
            f"could not read the evidence of a release in {where}: {'; '.join(problems[:5])}. "
            "Delete this object to count again from now on, or run `mlops-pipeline release abort "
            "MODEL` to give all traffic to the stable version"
        )
    return evidence


def _step(given: dict[str, Any]) -> StepEvidence:
    tallies = {
        kind: {metric: Tally(**tally) for metric, tally in given.pop(kind).items()}
        for kind in ("live", "replayed")
    }
    calibration = Calibration(**given.pop("calibration"))
    return StepEvidence(**given, **cast(Any, tallies), calibration=calibration)


def _faults(evidence: Any) -> Iterator[str]:
    """Yield what cannot be: wrong types, negative counts, more events than answers."""
    if not isinstance(evidence.release, str):
        yield f"release is {evidence.release!r}"
    for step in evidence.steps:
        yield from _faults_of_step(step)
    for name, seen in evidence.seen.items():
        counts = (seen.answered, seen.failed, *seen.slower.values())
        if not (all(map(_is_count, counts)) and _is_time(seen.started) and _is_time(seen.time)):
            yield f"seen {name} is {seen!r}"
        elif not _are_limits(seen.slower):
            yield f"seen {name} has the limits {sorted(seen.slower)}"
    if not all(map(_is_count, evidence.lost.values())):
        yield f"lost is {evidence.lost!r}"
    for look in evidence.looks:
        if not (isinstance(look.time, str) and _is_count(look.share) and _is_count(look.answers)):
            yield f"a look is {look!r}"
        elif not all(m in METRICS and _is_time(e) for m, e in look.e_values.items()):
            yield f"a look has the e-values {look.e_values!r}"


def _faults_of_step(step: Any) -> Iterator[str]:
    if not (_is_count(step.step) and _is_count(step.share) and 1 <= step.share <= 100):
        yield f"a step is {step.step!r} with the share {step.share!r}"
    if not isinstance(step.since, str) or seconds(step.since) is None:
        yield f"step {step.step} is since {step.since!r}"
    if step.slow_over is not None and not (_is_time(step.slow_over) and step.slow_over > 0):
        yield f"step {step.step} is slow over {step.slow_over!r}"
    known = step.calibration
    if not (all(map(_is_count, (known.answered, *known.slower.values())))):
        yield f"step {step.step} has the calibration {known!r}"
    elif not _are_limits(known.slower):
        yield f"step {step.step} has the limits {sorted(known.slower)}"
    for metric, tally in (*step.live.items(), *step.replayed.items()):
        counts = list(asdict(tally).values())
        if metric not in METRICS or not all(map(_is_count, counts)):
            yield f"step {step.step} has {metric} {tally!r}"
        elif counts[0] > counts[1] or counts[2] > counts[3]:
            yield f"step {step.step} has more events than answers: {metric} {tally!r}"


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= 10**15


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _are_limits(slower: Mapping[str, int]) -> bool:
    return all(float(limit) > 0 for limit in slower)
