"""Hold-out rows sent to both versions alone, where clients send too few requests."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.catalog.tasks import Classification
from mlops_pipeline.clients.errors import PipelineError, UnavailableError
from mlops_pipeline.clients.prediction import Predictions, request_for
from mlops_pipeline.delivery.artifacts import Holdout
from mlops_pipeline.delivery.releases.evidence import Metric, Tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ROWS = 300
"""Each is sent once to each version."""
_DEADLINE = 60.0
"""Seconds for all of them."""
_WARM_UP = 5
"""First requests of each version, which count for nothing."""


@dataclass(frozen=True)
class _Answered:
    """What one version answered to the rows, in their order."""

    rows: Sequence[Any]
    """The model's answer; None where there was none."""
    seconds: Sequence[float]
    """Of the answers that there were."""

    @property
    def failed(self) -> int:
        return sum(row is None for row in self.rows)


def replay(
    spec: ModelSpec,
    holdout: Holdout,
    *,
    stable: Sequence[Predictions],
    candidate: Sequence[Predictions],
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[Metric, Tally]:
    """Ask each version for the rows, one at a time, by turns. No counter of the servers sees it.

    No row is sent twice: a repetition says nothing new, and a row that the candidate cannot answer
    would count as often as it was sent. Slow is what takes longer than `slow_factor` times the 95th
    percentile of the stable version.

    Raises:
        UnavailableError: a version has no server that could be asked, or time was over.
    """
    for role, servers in (("stable", stable), ("candidate", candidate)):
        if not servers:
            raise UnavailableError(
                f"could not replay hold-out rows to the {role} version of {spec.name}: it has no "
                "ready server; see `mlops-pipeline status`"
            )
    distinct = holdout.sample(MOST_ROWS).x
    old, new = _ask_both(distinct, (stable, candidate), clock=clock)
    limit = _percentile(old.seconds) * spec.release.slow_factor
    both = zip(old.rows, new.rows, strict=True)
    compared = [(a, b) for a, b in both if a is not None and b is not None]
    differing = sum(_differs(spec, a, b) for a, b in compared)
    return {
        "errors": Tally(new.failed, len(new.rows), old.failed, len(old.rows)),
        "slow": Tally(
            sum(s > limit for s in new.seconds),
            len(new.seconds),
            sum(s > limit for s in old.seconds),
            len(old.seconds),
        ),
        "disagreement": Tally(differing, len(compared), 0, len(compared)),
    }


def _ask_both(
    rows: "NDArray[Any]",
    versions: Sequence[Sequence[Predictions]],
    *,
    clock: Callable[[], float],
) -> list[_Answered]:
    payloads = [request_for(rows[n : n + 1]) for n in range(len(rows))]
    servers = [cycle(found) for found in versions]
    told: list[tuple[list[Any], list[float]]] = [([], []) for _ in versions]
    end = clock() + _DEADLINE
    for payload in islice(cycle(payloads), _WARM_UP):
        for server in servers:
            _ask(next(server), payload)
    for number, payload in enumerate(payloads):
        if clock() > end:
            raise UnavailableError(
                f"could not replay {len(rows)} rows in {_DEADLINE:g} s: {number} were answered. "
                "The next look tries again"
            )
        for server, (replies, seconds) in zip(servers, told, strict=True):
            start = clock()
            reply = _ask(next(server), payload)
            replies.append(reply)
            if reply is not None:
                seconds.append(clock() - start)
    return [_Answered(replies, seconds) for replies, seconds in told]


def _ask(server: Predictions, payload: bytes) -> Any:
    """Return what the model answers for the row; None if that is an error."""
    try:
        return server.ask(payload).rows[0]
    except (PipelineError, IndexError):
        return None


def _differs(spec: ModelSpec, one: Any, other: Any) -> bool:
    """Say whether two versions predict something else: another class, or another number."""
    import numpy as np

    try:
        a, b = np.atleast_1d(np.asarray(one, float)), np.atleast_1d(np.asarray(other, float))
    except (TypeError, ValueError):
        return bool(one != other)
    if a.shape != b.shape:
        return True
    if np.isnan(a).any() or np.isnan(b).any():
        return not np.array_equal(a, b, equal_nan=True)
    if isinstance(spec.task, Classification) and a.size > 1:
        return bool(a.argmax() != b.argmax())
    allowed = spec.thresholds.tolerance * np.maximum(1.0, np.abs(a))
    return bool((np.abs(a - b) > allowed).any())


def _percentile(seconds: Sequence[float]) -> float:
    ordered = sorted(seconds)
    return ordered[int(0.95 * (len(ordered) - 1))] if ordered else float("inf")
