"""What Envoy's statistics say, as the pure functions that read them."""

import re

from mlops_pipeline.platforms.embedded.gateway_counts import (
    ACTIVE_PATTERN,
    LOST_PATTERN,
    LostRequests,
    active_requests,
    lost_requests,
)

NAME = "ns/iris/b/abc/http"


def statistics(cluster: str, **counts: int) -> dict[str, str]:
    return {f"cluster.{cluster}.{name}": str(count) for name, count in counts.items()}


def lost(given: dict[str, str]) -> LostRequests:
    assert all(re.search(LOST_PATTERN, name) for name in given)
    return lost_requests(given, [NAME])[NAME]


def test_a_request_of_a_split_is_lost_once_whatever_became_of_it() -> None:
    counts = {
        "upstream_rq_completed": 100,
        "upstream_rq_retry_success": 7,
        "upstream_rq_retry_limit_exceeded": 3,
        "upstream_rq_retry_overflow": 2,
        "upstream_rq_timeout": 1,
        "upstream_rq_503": 5,
    }
    assert lost(statistics(f"{NAME}/chosen", **counts)) == LostRequests(100, 13)


def test_a_request_of_a_single_predictor_or_a_shadow_is_lost_if_its_answer_is_503_or_late() -> None:
    counts = {"upstream_rq_completed": 100, "upstream_rq_503": 5, "upstream_rq_timeout": 1}
    retried = {"upstream_rq_retry_success": 7, "upstream_rq_retry_limit_exceeded": 3}
    assert lost(statistics(NAME, **counts, **retried)) == LostRequests(100, 6)


def test_other_clusters_do_not_count_and_nothing_is_nothing() -> None:
    others = statistics("ns/iris/b/abc/grpc/chosen", upstream_rq_completed=5)
    retries = statistics(f"{NAME}/chosen.retry", upstream_rq_completed=5)
    assert lost(others | retries) == LostRequests(0, 0)


def test_no_more_requests_are_lost_than_there_were() -> None:
    # Each of Envoy's threads counts for itself, and may be read between two of its counts.
    chosen = statistics(f"{NAME}/chosen", upstream_rq_completed=4, upstream_rq_retry_success=5)
    assert lost(chosen) == LostRequests(5, 5)


def test_active_requests_wait_for_a_connection_are_worked_on_or_are_in_a_retry() -> None:
    remaining = f"cluster.{NAME}/chosen.circuit_breakers.default.remaining_retries"
    given = statistics(NAME, upstream_rq_active=2, upstream_rq_pending_active=3)
    given |= {remaining: "1020"}
    assert all(re.search(ACTIVE_PATTERN, name) for name in given)
    assert active_requests(given, [NAME]) == 2 + 3 + 4
    assert active_requests(given, ["ns/iris/a/abc/http"]) == 0
