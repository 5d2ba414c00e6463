"""One row decides nothing, a clear loss is a loss."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.catalog.tasks import Classification, Comparison

ACCURACY = Classification().metrics[0]


def _column(right: "NDArray[Any]") -> "NDArray[Any]":
    """Return predictions for rows of class 1, of which so many are right."""
    return np.asarray(right, dtype=float).reshape(-1, 1)


def _apart(*, right: int, rows: int, reference_right: int, reference_rows: int) -> Comparison:
    new, old = (
        (np.ones(of), _column(np.arange(of) < good))
        for good, of in ((right, rows), (reference_right, reference_rows))
    )
    return ACCURACY.compare_apart(new, old)


def _paired(*, both: int, lost: int, gained: int, neither: int = 0) -> Comparison:
    """Compare on rows of which so many are answered right by both, the older one, the new one."""
    counts = (both, lost, gained, neither)
    new = np.repeat([True, False, True, False], counts)
    old = np.repeat([True, True, False, False], counts)
    return ACCURACY.compare(np.ones(len(new)), _column(new), _column(old))


@pytest.mark.parametrize(
    ("both", "lost", "gained", "p", "loss"),
    [
        (45, 0, 0, 1.0, False),
        (44, 1, 0, 0.5, False),  # one row of 45 is 0.022, above what is allowed, and is chance
        (41, 4, 0, 0.0625, False),
        (40, 5, 0, 0.03125, True),
        (36, 7, 2, 0.08984375, False),
        (16, 28, 1, 5.588e-08, True),  # trained on shuffled labels
        (30, 2, 13, 0.99951, False),
    ],
)
def test_a_loss_on_45_rows(both: int, lost: int, gained: int, p: float, loss: bool) -> None:  # noqa: FBT001
    found = _paired(both=both, lost=lost, gained=gained)
    assert found.p == pytest.approx(p, rel=1e-3)
    assert found.is_loss(allowed=0.02) is loss
    assert (found.lost, found.gained) == (lost, gained)
    assert (found.low > 0) is (found.p < 0.05)
    assert found.low - 1e-12 <= found.loss <= found.high + 1e-12


def test_what_is_allowed_is_allowed_however_sure_it_is() -> None:
    found = _paired(both=9_780, lost=200, gained=20)
    assert found.loss == pytest.approx(0.018)
    assert found.p < 1e-9
    assert not found.is_loss(allowed=0.018)
    assert found.is_loss(allowed=0.017)


def test_the_bounds_are_those_of_clopper_and_pearson() -> None:
    found = _paired(both=35, lost=8, gained=2)
    # Clopper-Pearson, 8 of 10, 90 %: 0.4931 to 0.9632
    assert found.low == pytest.approx((2 * 0.4931 - 1) * 10 / 45, abs=1e-4)
    assert found.high == pytest.approx((2 * 0.9632 - 1) * 10 / 45, abs=1e-4)


def test_on_other_rows_only_a_large_drop_counts() -> None:
    one_row = _apart(right=37, rows=39, reference_right=44, reference_rows=45)
    assert one_row.loss == pytest.approx(0.029, abs=1e-3)
    assert not one_row.is_loss(allowed=0.02)
    assert one_row.low < 0 < one_row.high
    shuffled = _apart(right=16, rows=45, reference_right=44, reference_rows=45)
    assert shuffled.is_loss(allowed=0.02)
    assert (shuffled.lost, shuffled.gained) == (None, None)
    assert shuffled.low == pytest.approx(0.4867, abs=2e-2)


@pytest.mark.parametrize(("right", "rows"), [(0, 7), (7, 7), (1, 3), (44, 45), (9_843, 10_000)])
def test_the_interval_of_a_share_is_scipys(right: int, rows: int) -> None:
    from scipy.stats import binomtest

    targets, predictions = np.ones(rows), (np.arange(rows) < right).astype(float)[:, None]
    found = ACCURACY.estimate(targets, predictions)
    wanted = binomtest(right, rows).proportion_ci(0.9, method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_what_is_served_is_estimated_without_scipy() -> None:
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from mlops_pipeline.catalog.tasks import Classification\n"
        "Classification().metrics[0].estimate(np.array([0, 1]), np.eye(2))\n"
        "sys.exit('scipy' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
