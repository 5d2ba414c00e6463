"""A metric knows its direction and its uncertainty: noise is no loss, a loss is one."""

import math
import threading
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.catalog.tasks import (
    Classification,
    Comparison,
    Custom,
    Metric,
    Regression,
    metric,
)
from mlops_pipeline.clients.errors import ConfigurationError

RMSE, MAE, R2 = Regression().metrics


def _column(values: Any) -> NDArray[Any]:
    return np.asarray(values, dtype=float).reshape(-1, 1)


def _noisy(rows: int, *sizes: float, seed: int) -> tuple[NDArray[Any], ...]:
    """Return targets, and predictions whose errors have these standard deviations."""
    random = np.random.default_rng(seed)
    targets = random.normal(0, 10, rows)
    return (targets, *(_column(targets + random.normal(0, size, rows)) for size in sizes))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    targets, predictions = _noisy(400, 1.0, seed=1)
    errors = np.abs(predictions[:, 0] - targets)
    found = MAE.estimate(targets, predictions)
    half = 1.645 * errors.std() / math.sqrt(400)
    assert found.value == pytest.approx(errors.mean())
    assert found.low == pytest.approx(found.value - half, abs=half * 0.12)
    assert found.high == pytest.approx(found.value + half, abs=half * 0.12)
    assert MAE.estimate(targets, predictions) == found  # In every process.


def test_equally_good_models_are_rarely_told_apart() -> None:
    found = [RMSE.compare(*_noisy(80, 1.0, 1.0, seed=seed)) for seed in range(60)]
    assert sum(one.is_loss(allowed=0) for one in found) <= 7  # 3 are expected.


def test_a_clear_loss_is_one_in_the_direction_of_the_metric() -> None:
    targets, bad, good = _noisy(200, 2.0, 1.0, seed=3)
    for one in (RMSE, MAE, R2):
        worse, better = one.compare(targets, bad, good), one.compare(targets, good, bad)
        assert worse.is_loss(allowed=0)
        assert 0 < worse.low < worse.loss < worse.high
        assert not better.is_loss(allowed=0)
        assert better.loss == pytest.approx(-worse.loss)
        assert not worse.is_loss(allowed=worse.loss)
        assert worse.lost is None
    assert (RMSE.loss_name, R2.loss_name) == ("rise", "drop")


def test_one_row_alone_is_no_loss() -> None:
    targets, good = _noisy(200, 1.0, seed=4)
    spoilt = good.copy()
    spoilt[7] += 60
    found = RMSE.compare(targets, spoilt, good)
    assert found.loss > 2
    assert found.p > 0.3  # The share of draws without this row is 0.37.
    assert not found.is_loss(allowed=0)


def test_the_same_predictions_are_no_loss() -> None:
    targets, same = _noisy(50, 1.0, seed=5)
    assert RMSE.compare(targets, same, same) == Comparison(
        50, RMSE.value(targets, same), RMSE.value(targets, same), 0.0, 0.0, 0.0, 1.0
    )


def test_on_other_rows_only_a_large_loss_counts() -> None:
    good = [_noisy(60, 1.0, seed=seed) for seed in range(60)]
    found = [
        RMSE.compare_apart((new[0], new[1]), (old[0], old[1]))
        for new, old in zip(good[::2], good[1::2], strict=True)
    ]
    assert sum(one.is_loss(allowed=0) for one in found) <= 5  # 1 or 2 are expected.
    targets, far = _noisy(60, 3.0, seed=99)
    assert RMSE.compare_apart((targets, far), (good[0][0], good[0][1])).is_loss(allowed=0)


def test_a_metric_that_is_undefined_is_not_met_and_a_loss() -> None:
    constant, predictions = np.ones(5), _column([1, 2, 3, 4, 5])
    found = R2.estimate(constant, predictions)
    assert math.isnan(found.value)
    assert not R2.meets(found.value, 0.0)
    assert R2.compare(constant, predictions, predictions).is_loss(allowed=100)
    assert Regression().measure(constant, predictions).keys() == {"rmse", "mae"}


def test_draws_for_which_a_metric_is_undefined_are_left_out() -> None:
    ends = np.array([0.0] * 9 + [1.0])  # A third of the draws has only zeros.
    found = R2.estimate(ends, _column(ends * 0.5))
    assert found.value == pytest.approx(1 - 0.25 / 0.9)
    assert math.isfinite(found.low)


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [(None, "TypeError"), ("much", "ValueError: could not convert"), ([1, 2], "TypeError")],
)
def test_what_a_metric_returns_must_be_a_number(returned: Any, complaint: str) -> None:
    mine = Metric("mine", lambda _y, _p: returned, higher_is_better=True)
    with pytest.raises(ConfigurationError, match=f"the metric mine of 3 rows .*{complaint}"):
        mine.value(np.zeros(3), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("name", "compute", "complaint"),
    [
        ("Mine", len, "has the name 'Mine'"),
        ("holdout_rows", len, "none of: holdout_rows, artifact, "),
        ("verdict", len, "has the name 'verdict'"),
        ("mine", None, "compute of the metric mine is None"),
    ],
)
def test_an_invalid_metric_is_refused(name: str, compute: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Metric(name, compute, higher_is_better=True)


def test_a_custom_task_needs_metrics_of_different_names() -> None:
    one = Metric("mine", lambda _y, _p: 1.0, higher_is_better=True)
    for metrics, complaint in (((), "tuple of Metric"), ([one], "tuple"), ((one, one), "same na")):
        with pytest.raises(ValueError, match=complaint):
            Custom(metrics=metrics)  # type: ignore[arg-type]


def test_values_are_shown_as_people_read_them() -> None:
    accuracy = Classification().metrics[0]
    assert RMSE.shown(math.nan) == "undefined"
    assert (accuracy.shown(1.0), R2.shown(0.958123), RMSE.shown(27568.34)) == (
        *("1.0000", "0.95812"),
        "27568",
    )


def test_a_loss_of_a_small_metric_is_no_rounding() -> None:
    targets, bad, good = (values * 1e-12 for values in _noisy(200, 2.0, 1.0, seed=3))
    assert RMSE.compare(targets, bad, good).is_loss(allowed=0)


@pytest.mark.parametrize(("differing", "p", "loss"), [(3, 0.125, False), (5, 0.03125, True)])
def test_few_rows_that_differ_decide_nothing(differing: int, p: float, loss: bool) -> None:  # noqa: FBT001
    targets, good = _noisy(200, 0.1, seed=4)
    bad = good.copy()
    bad[:differing] += 50  # 95 % of all draws have one of three such rows.
    found = RMSE.compare(targets, bad, good)
    assert found.p == pytest.approx(p, rel=0.2)
    assert found.p >= p
    assert found.is_loss(allowed=0) is loss


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def count(targets: NDArray[Any], _predictions: NDArray[Any]) -> float:
        drawn.append(len(targets))
        return float(targets.mean())

    monkeypatch.setattr(metric, "MOST_ROWS", 50)
    mine = Metric("mine", count, higher_is_better=True)
    targets, predictions = _noisy(400, 1.0, seed=1)
    for use in (
        lambda: mine.estimate(targets, predictions),
        lambda: mine.compare_apart((targets, predictions), (targets, predictions)),
    ):
        drawn.clear()
        use()
        assert set(drawn) == {50, 400}
        assert drawn.count(400) <= 2  # The values themselves.


def test_a_failing_metric_is_told_of_the_draws() -> None:
    def undefined(_targets: NDArray[Any], _predictions: NDArray[Any]) -> float:
        raise ValueError("only one class")

    mine = Metric("mine", undefined, higher_is_better=True)
    with pytest.raises(ConfigurationError, match="a class may be missing: return NaN if it is und"):
        mine.value(np.zeros(3), np.zeros((3, 1)))


def test_a_metric_that_hangs_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Event()

    def compute(targets: Any, predictions: Any) -> float:
        ends.wait(30)
        return 0.0

    monkeypatch.setattr(metric, "_SECONDS", 0.05)
    hanging = Metric("slow", compute, higher_is_better=True)
    targets, predictions = np.arange(3), _column([1, 2, 3])
    pair = (targets, predictions)
    for ask in (
        lambda: hanging.value(targets, predictions),
        lambda: hanging.estimate(targets, predictions),
        lambda: hanging.compare(targets, predictions, predictions),
        lambda: hanging.compare_apart(pair, pair),
    ):
        with pytest.raises(ConfigurationError, match=r"metric slow: .* within 0\.05 s; make it"):
            ask()
    ends.set()


def test_a_slow_metric_has_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compute(targets: Any, predictions: Any) -> float:
        calls.append(len(targets))
        Event().wait(0.03)
        return float(abs(targets - predictions[:, 0]).mean())

    monkeypatch.setattr(metric, "_SECONDS", 0.2)
    slow = Metric("slow", compute, higher_is_better=False)
    targets, good = np.arange(9.0), _column(range(9))
    bad = good + 1
    found = slow.estimate(targets, bad)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert 2 <= len(calls) <= 9
    assert slow.compare(targets, bad, good).is_loss(allowed=0), "of few draws, the values decide"
    assert not slow.compare(targets, good, bad).is_loss(allowed=0)
    assert slow.compare_apart((targets, bad), (targets, good)).is_loss(allowed=0)


def test_a_metric_that_hangs_keeps_no_processor_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(targets: Any, predictions: Any) -> float:
        while True:
            pass

    monkeypatch.setattr(metric, "_SECONDS", 0.05)
    endless = Metric("endless", compute, higher_is_better=True)
    with pytest.raises(ConfigurationError, match="metric endless"):
        endless.value(np.arange(3), _column([1, 2, 3]))
    left = [one for one in threading.enumerate() if "endless" in one.name]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
