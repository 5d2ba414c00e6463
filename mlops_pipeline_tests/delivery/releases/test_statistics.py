"""The numbers that releases are decided by, against known values and other computations."""

import itertools
import math
import operator
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.delivery.releases.statistics import (
    answers_needed,
    events_needed,
    log_e_value,
    lowest_bound,
    missing_answers,
    share_of_answers,
    upper_bound,
    with_margin,
)


@pytest.mark.parametrize(("share", "events"), [(0.05, 2), (0.1, 3), (0.25, 5), (0.5, 9)])
def test_few_events_roll_back_if_all_of_them_are_the_candidates(share: float, events: int) -> None:
    assert events_needed(share, 0.01) == events
    assert log_e_value(events, events, share) >= math.log(100)
    assert log_e_value(events - 1, events - 1, share) < math.log(100)


@pytest.mark.parametrize(("share", "events"), [(0.05, 3), (0.1, 4), (0.25, 7), (0.5, 13)])
def test_a_smaller_alpha_needs_more_events(share: float, events: int) -> None:
    assert events_needed(share, 0.001) == events


@pytest.mark.parametrize(
    ("k", "n", "null"), [(0, 0, 0.3), (3, 7, 0.25), (1, 40, 0.5), (9, 9, 0.05)]
)
def test_the_e_value_is_the_likelihood_ratio_averaged_over_the_alternatives(
    k: int, n: int, null: float
) -> None:
    from scipy.integrate import quad

    def ratio(q: float) -> float:
        return float((q / null) ** k * ((1 - q) / (1 - null)) ** (n - k) / (1 - null))

    average, _ = quad(ratio, null, 1, epsabs=0, epsrel=1e-10, limit=200)
    assert math.isclose(log_e_value(k, n, null), math.log(average), rel_tol=1e-7, abs_tol=1e-9)


@settings(deadline=None)
@given(
    n=st.integers(0, 40),
    null=st.floats(0.001, 0.999),
    worth=st.floats(0, 1),
)
def test_its_mean_is_at_most_1_for_every_candidate_that_is_no_worse(
    n: int, null: float, worth: float
) -> None:
    p = null * worth
    # By hand: SciPy's overflows where p is close to the smallest number there is.
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    values = [math.exp(log_e_value(k, n, null)) for k in range(n + 1)]
    assert math.fsum(map(operator.mul, chances, values)) <= 1 + 1e-6


@settings(deadline=None)
@given(null=st.floats(1e-4, 0.9999), n=st.integers(0, 10**6), part=st.floats(0, 1))
def test_it_is_finite_for_a_million_events(null: float, n: int, part: float) -> None:
    assert math.isfinite(log_e_value(int(part * n), n, null))


def test_both_ways_to_compute_it_agree_where_they_meet() -> None:
    values = [log_e_value(k, 10**6, 0.5) for k in range(481_600, 482_000)]
    steps = [after - before for before, after in itertools.pairwise(values)]
    assert min(steps) > 0
    assert max(steps) < 1.05 * min(steps)


def test_a_better_candidate_is_no_evidence_against_it() -> None:
    assert log_e_value(0, 10**6, 0.5) < 0
    assert log_e_value(100_000, 10**6, 0.5) < 0


def test_a_larger_share_makes_it_smaller() -> None:
    values = [log_e_value(8, 20, share / 100) for share in range(1, 100)]
    assert values == sorted(values, reverse=True)


def test_a_candidate_with_every_answer_cannot_be_compared() -> None:
    assert log_e_value(50, 50, 1.0) == 0


@pytest.mark.parametrize(("k", "n", "null"), [(-1, 3, 0.5), (4, 3, 0.5), (1, 3, 0.0)])
def test_impossible_counts_are_refused(k: int, n: int, null: float) -> None:
    with pytest.raises(ValueError, match="events"):
        log_e_value(k, n, null)


def test_a_shadow_of_all_requests_is_compared_pair_by_pair() -> None:
    assert share_of_answers(1, is_copied=True) == 0.5
    assert share_of_answers(0.25, is_copied=True) == pytest.approx(0.2)
    assert share_of_answers(0.25) == 0.25


@settings(deadline=None)
@given(share=st.floats(0.01, 1), part=st.floats(0, 1))
def test_requests_on_which_both_fail_are_no_evidence_against_a_shadow(
    share: float, part: float
) -> None:
    """The factor of such a request, with a copy and without, for each alternative q."""
    null = share_of_answers(share, is_copied=True)
    q = null + part * (1 - null)
    copied = (q / null) * ((1 - q) / (1 - null))
    assert share * copied + (1 - share) * (1 - q) / (1 - null) <= 1 + 1e-9


def test_a_margin_tolerates_a_multiple_of_the_stable_rate() -> None:
    assert with_margin(0.25, 1) == pytest.approx(0.25)
    assert with_margin(0.5, 2) == pytest.approx(2 / 3)


@settings(deadline=None)
@given(n=st.integers(1, 3000), part=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_the_bound_is_that_of_scipys_exact_test(n: int, part: float, confidence: float) -> None:
    from scipy.stats import binomtest

    k = int(part * n)
    exact = binomtest(k, n, alternative="less").proportion_ci(confidence).high
    assert math.isclose(upper_bound(k, n, confidence), exact, rel_tol=1e-6)


def test_without_answers_nothing_is_bounded() -> None:
    assert upper_bound(0, 0, 0.95) == 1


@pytest.mark.parametrize(
    ("limit", "confidence", "answers"),
    [(0.01, 0.95, 299), (0.01, 0.99, 459), (0.001, 0.95, 2995), (0.05, 0.95, 59)],
)
def test_answers_without_an_event_that_a_limit_needs(
    limit: float, confidence: float, answers: int
) -> None:
    assert answers_needed(limit, confidence) == answers
    assert (1 - limit) ** answers < 1 - confidence <= (1 - limit) ** (answers - 1)


@settings(deadline=None)
@given(
    events=st.integers(0, 40),
    more=st.integers(0, 2000),
    limit=st.floats(0.001, 0.5),
    confidence=st.floats(0.5, 0.999),
)
def test_the_missing_answers_are_exactly_enough(
    events: int, more: int, limit: float, confidence: float
) -> None:
    answers = events + more
    missing = missing_answers(events, answers, limit, confidence)
    assert upper_bound(events, answers + missing, confidence) < limit
    if missing:
        assert upper_bound(events, answers + missing - 1, confidence) >= limit


def test_the_smallest_limit_has_an_answer_too() -> None:
    assert missing_answers(3, 10, 1e-300, 0.95) == 10**15


def test_45_rows_bound_a_rate_below_6_4_percent_and_not_lower() -> None:
    assert round(100 * lowest_bound(45, 0.95), 1) == 6.4
    assert lowest_bound(0, 0.95) == 1


def test_definitions_do_not_import_scipy_for_them() -> None:
    modules = ("statistics", "evidence", "weighing", "machine")
    names = ", ".join(f"mlops_pipeline.delivery.releases.{module}" for module in modules)
    code = f"import sys, {names}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=110, check=False).returncode == 0
