"""What model servers have counted, read from their pages of metrics: `serving/metrics.py`.

A custom component adds its own metrics to the page and chooses their names, but not their labels:
only samples with exactly the labels of the server itself count.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.metrics_pages import PATH, Sample, samples
from mlops_pipeline.platforms.platform import ServerCounts

_ANSWERS = "mlops_answers_total"
_SECONDS = "mlops_prediction_seconds_bucket"
_STARTED = "process_start_time_seconds"
_PROCESS = "mlops_process_id"
_LABELS = {
    _ANSWERS: {"predictor", "digest", "protocol", "transport", "outcome"},
    _SECONDS: {"protocol", "le"},
    _STARTED: set[str](),
    _PROCESS: set[str](),
}
_ALL = "+Inf"
_AT_ONCE = 8
"""Servers that are asked at the same time."""

T = TypeVar("T")
R = TypeVar("R")


def server_counts(page: str, *, server: str) -> ServerCounts | None:
    """Return what a server has counted, or None if the page is not one of our servers'.

    Raises:
        UnavailableError: the page is damaged; quotes it.
    """
    if _ANSWERS not in page:
        return None
    found = [s for s in samples(page, _LABELS, where=server) if s.labels.keys() == _LABELS[s.name]]
    outcomes: Counter[str] = Counter()
    for sample in found:
        if sample.name == _ANSWERS:
            outcomes[sample.labels["outcome"]] += _whole(sample, server)
    started = [sample.value for sample in found if sample.name == _STARTED]
    if len(started) != 1 or not math.isfinite(started[0]):
        raise _damaged(server, f"expected {_STARTED} once, got {started}")
    return ServerCounts(
        server=server,
        started=started[0],
        answered=outcomes["answered"],
        failed=outcomes["failed"],
        slower=_slower([s for s in found if s.name == _SECONDS], server),
    )


def process_id(page: str, *, server: str) -> int | None:
    """Return the process that wrote the page, or None if it does not tell.

    Raises:
        UnavailableError: the page is damaged; quotes it.
    """
    found = samples(page, [_PROCESS], where=server)
    return next((_whole(s, server) for s in found if not s.labels), None)


def in_parallel(ask: Callable[[T], R], servers: Sequence[T]) -> list[R]:
    """Ask several servers at the same time; return the answers in their order."""
    if len(servers) < 2:
        return list(map(ask, servers))
    with ThreadPoolExecutor(min(_AT_ONCE, len(servers))) as threads:
        return list(threads.map(ask, servers))


def _slower(buckets: Sequence[Sample], server: str) -> Mapping[str, int]:
    """Return limit → answers of all protocols that took longer."""
    within: Counter[str] = Counter()
    for sample in buckets:
        within[sample.labels["le"]] += _whole(sample, server)
    total = within.pop(_ALL, 0)
    if any(count > total for count in within.values()):
        raise _damaged(server, f"{_SECONDS} counts {total} answers in total, and {dict(within)}")
    return {limit: total - count for limit, count in within.items()}


def _whole(sample: Sample, server: str) -> int:
    if not (sample.value >= 0 and sample.value.is_integer()):
        raise _damaged(server, f"expected a whole number, got {sample}")
    return int(sample.value)


def _damaged(server: str, seen: str) -> UnavailableError:
    return UnavailableError(
        f"could not read the metrics of {server}: {seen}; look at {PATH} of this server"
    )
