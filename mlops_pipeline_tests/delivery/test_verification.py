import numpy as np
import pytest

from mlops_pipeline.delivery.verification import _percentiles, batches


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


def test_a_request_of_texts_is_cut_by_their_size() -> None:
    texts = np.array(["a"] * 100 + ["b" * 400_000] * 5 + ["c" * 3_000_000, "d"], dtype=object)
    cut = list(batches(texts))
    assert [len(texts[rows]) for rows in cut] == [102, 2, 1, 1, 1]
    assert np.concatenate([texts[rows] for rows in cut]).tolist() == texts.tolist()
    assert list(batches(texts[:0])) == []
    assert list(batches(np.zeros((3, 60_000)))) == [slice(n, n + 1) for n in range(3)]


def test_a_request_has_no_more_rows_than_a_training_asks_at_a_time() -> None:
    """A class that answers them within its time may need longer for all rows at once."""
    numbers, texts = np.zeros((2_500, 4)), np.array(["a"] * 2_500, dtype=object)
    for rows in (numbers, texts):
        assert [len(rows[cut]) for cut in batches(rows)] == [1_024, 1_024, 452]
