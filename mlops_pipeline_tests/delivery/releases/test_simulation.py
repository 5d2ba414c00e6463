"""How often releases are rolled back, simulated with a fixed seed: `alpha` holds, and the power.

The simulation computes the e-values of all looks of all releases at once. A test below shows that
the state machine decides the same at every look.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.delivery.releases.evidence import Tally
from mlops_pipeline.delivery.releases.machine import RollBack, next_step
from mlops_pipeline.delivery.releases.statistics import (
    answers_needed,
    events_needed,
    log_e_value,
    upper_bound,
)
from mlops_pipeline.delivery.releases.weighing import threshold
from mlops_pipeline_tests.delivery.releases.made import evidence, later, release, step

PAGE = Path(__file__).parents[3] / "docs" / "releases.md"
SHARES = (0.05, 0.25, 0.50)
LOOK = 20
"""Answers of both versions together between two looks."""
EQUAL = ((0.02, 0.02), (0.05, 0.05))
"""Rates of failed and of slow answers: of the candidate, of the stable version."""
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """One step of many releases: sums at each look, of shape [releases, looks]."""

    answers: tuple[Counts, Counts]
    """Of the candidate, of the stable version."""
    events: tuple[tuple[Counts, Counts], ...]
    """The same for each metric."""
    last: Counts
    """The look at which the step of each release ends."""


def _step(
    random: np.random.Generator, releases: int, true: float, rates: Any, least: int, looks: int
) -> Simulated:
    """Simulate a step that ends after `least` answers of the candidate, which gets `true`."""
    candidate = random.binomial(LOOK, true, (releases, looks))
    parts = (candidate, LOOK - candidate)
    answers = (parts[0].cumsum(1), parts[1].cumsum(1))
    events = tuple(
        tuple(random.binomial(part, rate).cumsum(1) for part, rate in zip(parts, both, strict=True))
        for both in rates
    )
    is_over = answers[0] >= least
    last = np.where(is_over.any(1), is_over.argmax(1), looks - 1)
    return Simulated(answers, events, last)  # type: ignore[arg-type]


def _log_e(k: Counts, n: Counts, null: Floats) -> Floats:
    """Return what `log_e_value` returns, for arrays with few events."""
    from scipy.special import betaincc, betaln

    likelihood = k * np.log(null) + (n - k) * np.log1p(-null)
    tail = np.log(betaincc(k + 1, n - k + 1, null))
    return np.asarray(betaln(k + 1, n - k + 1) + tail - np.log1p(-null) - likelihood)


def _first_roll_back(
    simulated: list[Simulated], shares: tuple[float, ...], needed: float, *, is_observed: bool
) -> tuple[NDArray[np.bool_], Counts]:
    """Return which releases are rolled back, and the candidate's answers until then."""
    releases = len(simulated[0].last)
    product: Floats = np.zeros((releases, len(simulated[0].events)))
    is_back, until = np.zeros(releases, bool), np.zeros(releases, np.int64)
    rows = np.arange(releases)
    for found, share in zip(simulated, shares, strict=True):
        observed = found.answers[0] / (found.answers[0] + found.answers[1])
        null = np.maximum(share, observed if is_observed else np.zeros_like(observed))
        hits: NDArray[np.bool_] = np.zeros(found.answers[0].shape, bool)
        for metric, (candidate, stable) in enumerate(found.events):
            hits |= _hits(candidate, candidate + stable, null, needed - product[:, metric])
        hits &= np.arange(hits.shape[1]) <= found.last[:, None]
        new = hits.any(1) & ~is_back
        until = np.where(is_back, until, until + found.answers[0][rows, _end(hits, found.last)])
        is_back |= new
        for metric, (candidate, stable) in enumerate(found.events):
            k, n, at = (a[rows, found.last] for a in (candidate, candidate + stable, null))
            product[:, metric] += np.where(at < 1, _log_e(k, n, np.minimum(at, 0.999)), 0)
    return is_back, until


def _end(hits: NDArray[np.bool_], last: Counts) -> Counts:
    return np.where(hits.any(1), hits.argmax(1), last)


def _hits(k: Counts, n: Counts, null: Floats, needed: Floats) -> NDArray[np.bool_]:
    """Return where the e-value reaches what is needed.

    An average of likelihood ratios is at most the largest, which is cheap: so the e-value itself is
    only computed where that reaches it.
    """
    rate = np.clip(k / np.maximum(n, 1), 1e-12, 1 - 1e-12)
    at = np.minimum(null, 1 - 1e-9)
    largest = k * np.log(rate / at) + (n - k) * np.log((1 - rate) / (1 - at))
    hits = (k > 0) & (null < 1) & (rate > null) & (largest >= needed[:, None])
    where = np.nonzero(hits)
    hits[where] = _log_e(k[where], n[where], null[where]) >= needed[where[0]]
    return np.asarray(hits, bool)


def _roll_backs(
    seed: int,
    releases: int,
    *,
    least: int,
    true: tuple[float, ...] = SHARES,
    rates: Any = EQUAL,
    is_observed: bool = True,
) -> int:
    random = np.random.default_rng(seed)
    parts = [
        _step(random, releases, share, rates, least, int(1.2 * least / share / LOOK) + 5)
        for share in true
    ]
    needed = math.log(threshold(ReleaseSpec("canary")))
    is_back, _ = _first_roll_back(parts, SHARES, needed, is_observed=is_observed)
    return int(is_back.sum())


def _power(share: float) -> tuple[float, float]:
    """Return how many of 2,000 bad candidates are rolled back within 300 answers, and the median.

    5 % of their answers fail, and 0.1 % of the stable version's. The median is that of the
    candidate's answers until the release is rolled back, infinite if fewer than half are.
    """
    looks = int(360 / share / LOOK) + 5
    found = _step(np.random.default_rng(7), 2000, share, ((0.05, 0.001),), 300, looks)
    needed = math.log(threshold(ReleaseSpec("canary")))
    is_back, until = _first_roll_back([found], (share,), needed, is_observed=True)
    return float(is_back.mean()), float(np.median(np.where(is_back, until, np.inf)))


def _power_of_limit(limit: float) -> tuple[float, float]:
    """Return the same where the candidate has all traffic and is held against a limit."""
    events = np.random.default_rng(7).binomial(LOOK, 0.05, (2000, 300 // LOOK)).cumsum(1)
    answers = np.arange(LOOK, 301, LOOK)[None, :].repeat(2000, 0)
    needed = np.full(2000, math.log(threshold(ReleaseSpec("blue_green"))))
    hits = _hits(events, answers, np.full(events.shape, limit), needed)
    until = np.where(hits.any(1), (hits.argmax(1) + 1) * LOOK, np.inf)
    return float(hits.any(1).mean()), float(np.median(until))


def test_the_arrays_have_the_e_values_of_the_function() -> None:
    random = np.random.default_rng(6)
    n = random.integers(0, 200, 300)
    k, null = random.binomial(n, 0.3), random.uniform(0.05, 0.6, 300)
    one_by_one = [log_e_value(*args) for args in zip(k.tolist(), n.tolist(), null, strict=True)]
    assert np.allclose(_log_e(k, n, null), one_by_one, atol=1e-9)


def test_the_machine_decides_as_the_simulation() -> None:
    """At every look of 20 releases of two steps, of which some are rolled back."""
    plan = ReleaseSpec("canary", (Step(25, 100), Step(50, 100)))
    random, rates, shares = np.random.default_rng(8), ((0.13, 0.02), (0.05, 0.05)), (0.25, 0.5)
    parts = [_step(random, 20, share, rates, 100, 40) for share in shares]
    is_back, until = _first_roll_back(parts, shares, math.log(threshold(plan)), is_observed=True)
    assert 5 < is_back.sum() < 20
    for row in range(20):
        assert _decide(plan, parts, row) == (bool(is_back[row]), int(until[row]))


def _decide(plan: ReleaseSpec, parts: list[Simulated], row: int) -> tuple[bool, int]:
    """Return the same from the state machine: whether it rolls back, and after which answers."""
    known = evidence()
    done = 0
    for number, (found, spec) in enumerate(zip(parts, plan.steps, strict=True)):
        for look in range(int(found.last[row]) + 1):
            candidate, stable = (int(side[row, look]) for side in found.answers)
            live = {
                metric: Tally(int(both[0][row, look]), candidate, int(both[1][row, look]), stable)
                for metric, both in zip(("errors", "slow"), found.events, strict=True)
            }
            new = step(number, spec.share, live=live)
            now = evidence(*known.steps, new)
            if isinstance(next_step(release(plan, step=number), now, now=later(20)), RollBack):
                return True, done + candidate
        known, done = now, done + candidate
    return False, done


def test_at_most_33_of_2000_equal_candidates_are_rolled_back() -> None:
    """At alpha = 0.01, 20 are expected at most; more than 33 have a probability of 0.2 %."""
    count = _roll_backs(1, 2000, least=100)
    assert count <= 33
    assert f"{count} were rolled back at `alpha` = 0.01, where 20 are allowed" in _text()


@pytest.mark.long
def test_equal_candidates_stay_in_long_steps_too() -> None:
    assert _roll_backs(2, 2000, least=1000) <= 33


def test_a_gateway_that_gives_the_candidate_more_does_not_roll_equal_candidates_back() -> None:
    """8, 30 and 55 % instead of 5, 25 and 50 %: why the observed share counts, if it is larger."""
    true = (0.08, 0.30, 0.55)
    assert _roll_backs(3, 400, least=300, true=true) == 0
    count = _roll_backs(3, 400, least=300, true=true, is_observed=False)
    assert count >= 20
    assert f"{count} of 400 simulated equal candidates were rolled back" in _text()


def test_a_gateway_that_gives_the_candidate_less_does_no_harm() -> None:
    assert _roll_backs(4, 400, least=300, true=(0.03, 0.20, 0.40)) <= 11


def test_a_bad_candidate_is_rolled_back() -> None:
    assert [_power(share)[0] >= least for share, least in POWER.items()] == [True] * len(POWER)


POWER = {0.05: 0.99, 0.1: 0.99, 0.25: 0.98, 0.5: 0.8}


@pytest.mark.parametrize(
    ("rate", "most", "said"),
    [
        (0.01, 300, "promoted in 5 % with 300 answers"),
        (0.01, 900, "in 10 % with looks at every 20 answers up to 900"),
        (0.02, 900, "true rate of 2 %, it was promoted in 0.3 %"),
    ],
)
def test_how_often_a_bound_lets_pass_what_it_should_not(rate: float, most: int, said: str) -> None:
    from scipy.special import betaincinv

    random, answers = np.random.default_rng(9), np.arange(LOOK, most + 1, LOOK)
    events = random.binomial(LOOK, rate, (20_000, len(answers))).cumsum(1)
    bounds = betaincinv(events + 1, answers - events, 0.95)
    share = ((bounds < 0.01) & (answers >= 300)).any(1).mean()
    assert f" {100 * share:.1g} %" in said or f" {100 * share:.0f} %" in said
    assert said in _text()


# The page


def _text() -> str:
    return " ".join(PAGE.read_text().split())


def _table(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its header."""
    text = PAGE.read_text().split(f"# {heading}\n", 1)[1]
    lines = re.findall(r"^\|.*\|$", text.split("\n#", 1)[0], flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_the_answers_that_each_limit_needs() -> None:
    rows = [
        [f"{100 * limit:g} %"]
        + [f"{answers_needed(limit, confidence):,}" for confidence in (0.95, 0.99)]
        + [f"{_with_one_event(limit):,}"]
        for limit in (0.001, 0.005, 0.01, 0.05)
    ]
    assert _table("How many answers do I need") == rows


def _with_one_event(limit: float) -> int:
    return next(n for n in range(1, 10**5) if upper_bound(1, n, 0.95) < limit)


def test_the_page_has_the_events_that_roll_back_and_how_soon_they_come() -> None:
    rows = []
    cases = [(f"{100 * share:g} %", share, _power(share)) for share in POWER]
    cases.append(("100 %, limit 1 %", 0.01, _power_of_limit(0.01)))
    for name, null, (power, median) in cases:
        needed = [str(events_needed(null, alpha / 2)) for alpha in (0.01, 0.001)]
        rows.append([name, *needed, f"{100 * power:.1f} %", f"{median:.0f}"])
    assert _table("How soon is a bad version rolled back") == rows


def test_the_page_has_the_bounds_that_rows_can_reach() -> None:
    rows = [[str(n), f"{100 * upper_bound(0, n, 0.95):.1f} %"] for n in (20, 45, 100, 300, 1000)]
    assert _table("What replayed rows can show") == rows
