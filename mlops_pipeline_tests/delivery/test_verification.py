import pytest

from mlops_pipeline.delivery.verification import _percentiles


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([1.0] * 99 + [500.0], (1.0, 1.0, 1.0)),
        ([1.0] * 98 + [400.0, 500.0], (1.0, 1.0, 400.0)),
        ([3.0, 1.0, 2.0], (2.0, 3.0, 3.0)),
        ([], (None, None, None)),
    ],
)
def test_a_percentile_is_a_latency_that_so_many_requests_did_not_exceed(
    latencies: list[float], expected: tuple[float | None, ...]
) -> None:
    assert _percentiles(latencies) == expected
