"""The statistics of releases: e-values to roll back, exact bounds to promote. Pure functions.

Each metric is a yes or no for each answer, so nothing is assumed about distributions. All
functions take counts. Rates, shares, limits and confidences are fractions from 0 to 1.

SciPy costs 0.2 s to import, so it is imported by the functions that need it.

Sources: Robbins 1970 (mixtures), Ville 1939 (validity at every look), Vovk and Wang 2021
(e-values, their products and averages), Clopper and Pearson 1934 (exact bounds), Lindon and Malek
2022, arXiv 2011.03567 (counts of two versions).
"""

import math
from collections.abc import Callable

_SMALLEST = 1e-290
"""Below this, the incomplete beta function loses digits: then a sum is used instead."""
_MOST = 10**15
"""The largest number of answers that these functions count up to."""


def log_e_value(events: int, trials: int, null: float) -> float:
    """Return the natural logarithm of the e-value against `events` being as rare as `null` says.

    The null hypothesis: each of the `trials` is an event with a probability of at most `null`,
    whatever came before. The e-value is the likelihood ratio of probabilities q against `null`,
    averaged evenly over all q from `null` to 1::

        E = B(k+1, n-k+1) * (1 - I_null(k+1, n-k+1)) / ((1-null) * null^k * (1-null)^(n-k))

    with k events in n trials, the beta function B and its regularized incomplete form I. It may be
    computed after every trial: under the null hypothesis it ever reaches 1/alpha with a probability
    of at most alpha (Ville's inequality). It does not grow if events are rarer than `null`, unlike
    a mixture over 0 to 1. E-values of independent steps may be multiplied.

    Used in two ways. Comparison of two versions: the trials are the events of both versions, an
    event counts if it is the candidate's, and `null` is the candidate's share of the answers
    (`share_of_answers`). Absolute limit: the trials are answers, and `null` is the limit.

    The result is 0 (no evidence) for `null` ≥ 1.

    Raises:
        ValueError: `null` ≤ 0, or not 0 ≤ events ≤ trials.
    """
    if not 0 <= events <= trials or not null > 0:
        raise ValueError(f"expected 0 <= {events} <= {trials} events and a null > 0, got {null}")
    if null >= 1:
        return 0.0
    from scipy.special import betaincc, betaln

    a, b = events + 1, trials - events + 1
    tail = float(betaincc(a, b, null))
    if tail < _SMALLEST:
        return _log_of_sum(events, trials, null)
    likelihood = events * math.log(null) + (trials - events) * math.log1p(-null)
    return float(betaln(a, b)) + math.log(tail) - math.log1p(-null) - likelihood


def _log_of_sum(events: int, trials: int, null: float) -> float:
    """Return the same for far fewer events than `null` says, where the beta function underflows.

    With q = null + (1 - null) t, the integral is the hypergeometric function
    2F1(-k, 1; n-k+2; -(1-null)/null) / (n-k+1): a finite sum of falling, positive terms.
    """
    total = term = 1.0
    odds = (1 - null) / null
    for j in range(events):
        term *= odds * (events - j) / (trials - events + 2 + j)
        total += term
        if term < total * 1e-17:
            break
    return math.log(total) - math.log(trials - events + 1)


def share_of_answers(share: float, *, is_copied: bool = False) -> float:
    """Return the probability that an event is the candidate's if it is no worse than the stable.

    A split gives the candidate `share` of the requests: then it is `share`.

    A shadow gets copies of `share` of the requests, which the stable version answers too. Equal
    versions then have events in the ratio share : 1, so it is share / (1 + share): 1/2 if every
    request is copied, the sign test on pairs. Pairs are not matched, and need not be: a request
    on which both versions fail multiplies the e-value for q by
    (1+share) (1-q) (1-share + (1+share) q) on average. That is a parabola in q whose maximum, 1,
    is at q = share/(1+share). So such requests only make the e-value smaller.
    """
    return share / (1 + share) if is_copied else share


def with_margin(null: float, ratio: float) -> float:
    """Return the null hypothesis that tolerates `ratio` times the stable version's rate."""
    return null * ratio / (null * ratio + 1 - null)


def upper_bound(events: int, trials: int, confidence: float) -> float:
    """Return the upper bound of a rate after Clopper and Pearson: one-sided, exact.

    The true rate is at or above it with a probability of at most 1 - confidence, at one look that
    was chosen beforehand. 1 without trials.
    """
    if events >= trials:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(events + 1, trials - events, confidence))


def missing_answers(events: int, answers: int, limit: float, confidence: float) -> int:
    """Return how many further answers without an event bring the upper bound below the limit.

    0 if it is below already. At most 10^15.
    """

    def is_enough(more: int) -> bool:
        return upper_bound(events, answers + more, confidence) < limit

    return _smallest(is_enough)


def answers_needed(limit: float, confidence: float) -> int:
    """Return how many answers without any event bring the upper bound below the limit.

    299 for a limit of 1 % and a confidence of 95 %: the smallest n with 0.99^n < 0.05.
    """
    return missing_answers(0, 0, limit, confidence)


def lowest_bound(rows: int, confidence: float) -> float:
    """Return the upper bound of a rate after `rows` distinct rows without an event.

    No number of repetitions makes it smaller: a repeated row says nothing new. 6.4 % for 45 rows
    and a confidence of 95 %.
    """
    return upper_bound(0, rows, confidence)


def events_needed(null: float, alpha: float) -> int:
    """Return how many events, all of them the candidate's, make the e-value reach 1/alpha.

    At alpha 0.01: 2 at a share of 5 %, 3 at 10 %, 5 at 25 %, 9 at 50 %. At most 10^15.
    """
    return _smallest(lambda events: log_e_value(events, events, null) >= -math.log(alpha))


def _smallest(is_enough: Callable[[int], bool]) -> int:
    """Return the smallest number that is enough; whatever is larger must be so too."""
    if is_enough(0):
        return 0
    low, high = 0, 1
    while high < _MOST and not is_enough(high):
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
