"""What Envoy's statistics say about the requests to each predictor.

Statistics: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/upstream/cluster_manager/cluster_stats
Envoy counts what its router decides (answers, retries, timeouts) on the cluster that the route
leads to: on `chosen_name(cluster)` if several predictors are live, and on `cluster` itself if one
is, or for copies to a shadow. It counts connections and active requests on `cluster`, which has the
servers. All counts start at 0 when Envoy starts, and when a cluster is added.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlops_pipeline.platforms.embedded.envoy_clusters import MOST_RETRIES
from mlops_pipeline.platforms.embedded.routing import chosen_name

_ACTIVE = ("upstream_rq_active", "upstream_rq_pending_active")
"""Requests that a server works on, and requests that wait for a connection."""
_REMAINING = "circuit_breakers.default.remaining_retries"
"""How many more requests may be in a retry, of `MOST_RETRIES`. A request is in a retry from the
first failure to its end, also while Envoy waits before the next attempt."""
_COMPLETED = "upstream_rq_completed"
"""Requests that ended with a status, of whichever attempt or of Envoy itself. Statuses that caused
a retry have names of their own (`retry.upstream_rq_completed`)."""
_TIMEOUT = "upstream_rq_timeout"
"""Requests that had no answer within the time of the route."""
_RETRIED = (
    "upstream_rq_retry_success",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_retry_overflow",
)
"""Requests whose first attempt failed: a later one was answered, no attempt was, or too many other
requests were in a retry. Each request is in one of them at most, whatever the number of attempts.
A failure is a refused connection, a reset, a connection that ended, 503, or UNAVAILABLE of gRPC."""
_UNAVAILABLE = "upstream_rq_503"
"""Requests whose final status is 503, from the server, or from Envoy because there was no answer.
For gRPC: from Envoy alone, because a server's UNAVAILABLE comes with the status 200."""

ACTIVE_PATTERN = rf"^cluster\..*\.({'|'.join(map(re.escape, (*_ACTIVE, _REMAINING)))})$"
"""Names of the statistics that `active_requests` reads."""
LOST_PATTERN = rf"^cluster\..*\.({'|'.join((_COMPLETED, _TIMEOUT, *_RETRIED, _UNAVAILABLE))})$"
"""Names of the statistics that `lost_requests` reads."""


@dataclass(frozen=True)
class LostRequests:
    """Cumulative numbers of one predictor's requests at the gateway, of one protocol."""

    requests: int
    """Requests that ended and for which the split had chosen this predictor, or copies that it got
    as a shadow. Retries that it got because another predictor had failed are not included."""
    lost: int
    """Those of them that it did not answer, so no digest of it was returned: another predictor
    answered, or nobody did. Each counts once."""


def active_requests(statistics: Mapping[str, str], names: Collection[str]) -> int:
    """Return how many requests depend on these clusters.

    A request in a retry counts for the cluster that was chosen first, because Envoy looks up the
    next attempt there, and for the one that works on it.
    """
    found = sum(_number(statistics, name, kind) for name in names for kind in _ACTIVE)
    remaining = (
        statistics.get(f"cluster.{chosen_name(name)}.{_REMAINING}", MOST_RETRIES) for name in names
    )
    return found + sum(MOST_RETRIES - int(number) for number in remaining)


def lost_requests(statistics: Mapping[str, str], names: Collection[str]) -> dict[str, LostRequests]:
    """Return cluster → its requests and those it lost; zeros for a cluster without statistics."""
    return {name: _lost(statistics, name) for name in names}


def _lost(statistics: Mapping[str, str], name: str) -> LostRequests:
    chosen = chosen_name(name)
    requests = sum(_number(statistics, cluster, _COMPLETED) for cluster in (name, chosen))
    retried = sum(_number(statistics, chosen, kind) for kind in _RETRIED)
    failed = _number(statistics, name, _UNAVAILABLE)
    late = sum(_number(statistics, cluster, _TIMEOUT) for cluster in (name, chosen))
    lost = retried + failed + late
    # Envoy's threads count for themselves, so a request may be lost before it is completed.
    return LostRequests(max(requests, lost), lost)


def _number(statistics: Mapping[str, str], cluster: str, kind: str) -> int:
    return int(statistics.get(f"cluster.{cluster}.{kind}", 0))
