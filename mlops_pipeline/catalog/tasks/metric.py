"""A metric of predictions: its direction, the uncertainty of its value, and the test of a loss.

All intervals are 90 % intervals, so that each bound holds with 95 % confidence.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mlops_pipeline.catalog.tasks.bounded import within
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.waiting import MONOTONIC

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
_Ask = Callable[["NDArray[Any]", "NDArray[Any]"], float]
"""(targets, predictions) → the value of a metric."""
SIGNIFICANCE = 0.05
"""Greatest probability of refusing an artifact that is as good as the other one."""
HOLDOUT_ROWS = "holdout_rows"
"""Beside the metrics in a manifest: the rows that they are of."""
_RESERVED = (
    *(HOLDOUT_ROWS, "artifact", "trained", "verdict", "artifacts"),
    *("served", "serving_since", "served_before"),
)
"""Names that stand beside those of metrics in manifests and in the tables of the UI."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_ROUNDING = 1e-9
"""Relative to the values."""
_SEED = 7
_MOST_DRAWS, _FEWEST_DRAWS = 1_000, 200
_MOST_DRAWN = 50_000_000
"""Maximum of numbers in all draws, unless the fewest draws need more: about ten seconds."""
_SECONDS = 120.0
"""Timeout in seconds of one call of a metric's function, and after which no further draw begins."""
_FEWEST_KNOWN = 20
"""With fewer draws a loss cannot be significant: 1 / (1 + draws) is not below 0.05."""
MOST_ROWS = 20_000
"""Maximum of rows in a draw and in a comparison. The interval of more rows is that of so many."""


@dataclass(frozen=True)
class Estimate:
    """The value of a metric on a hold-out set, with its 90 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How good a new artifact is beside an older one, by one metric."""

    rows: int
    """Hold-out rows of the new one."""
    value: float
    """Of the new one."""
    reference_value: float
    """Of the older one; on the same rows where they are paired."""
    loss: float
    """How much worse the new one is, in the metric's unit; below 0 where it is better."""
    low: float
    """The loss is at least this much, with 95 % confidence."""
    high: float
    """The loss is at most this much, with 95 % confidence."""
    p: float
    """Probability of a loss as large as this one if the new one is not worse."""
    lost: int | None = None
    """Rows that the older one answers right and the new one wrong; None where rows are not right
    or wrong, or where each has rows of its own."""
    gained: int | None = None
    """Rows that the new one answers right and the older one wrong."""

    def is_loss(self, *, allowed: float) -> bool:
        """Return whether the loss is above `allowed`, and more than chance explains.

        A new artifact for which the metric is undefined is a loss.
        """
        rounding = _ROUNDING * max(abs(self.value), abs(self.reference_value))
        return math.isnan(self.value) or (self.loss > allowed + rounding and self.p < SIGNIFICANCE)


@dataclass(frozen=True)
class Metric:
    """One number that says how good predictions are.

    Its uncertainty is found by bootstrap: it is computed again on rows that are drawn with
    replacement, for both artifacts on the same draw when they are compared (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13). The draws are the same in every process,
    and fewer if the function is slow.

    Raises:
        ValueError: its name is invalid, or `compute` is not a function.
    """

    name: str
    """In a threshold, the manifest and the names of checks: `rmse`."""
    compute: "Callable[[NDArray[Any], NDArray[Any]], Any]"
    """(targets [n], predictions [n, outputs]) → the number; NaN: undefined for these rows."""
    _: KW_ONLY
    higher_is_better: bool
    title: str = ""
    """In sentences; empty: the name."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The least and the greatest value that it can have."""
    usual_loss: float = 0.0
    """Loss beside the deployed artifact that is allowed if the thresholds do not say it."""
    counts_unanswered: ClassVar[bool] = False
    """Whether rows of NaN, which were not answered, have a meaning for it."""

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(
                f"a metric has the name {name!r}; use at most 31 lower-case letters, digits and _, "
                f"starting with a letter, and none of: {', '.join(_RESERVED)}"
            )
        if not callable(self.compute):
            message = f"compute of the metric {name} is {self.compute!r}, not a function"
            raise ValueError(message)  # noqa: TRY004  # As ServerSpec: refused with its model.

    def settings(self) -> str:
        """Return what its values depend on, beside the code of its function."""
        return f"{self.name} {name_of(self.compute)} {self.higher_is_better} {self.bounds}"

    @property
    def label(self) -> str:
        """Its name in sentences."""
        return self.title or self.name

    @property
    def loss_name(self) -> str:
        """What a loss of it is called."""
        return "drop" if self.higher_is_better else "rise"

    @property
    def limit_name(self) -> str:
        """How a limit of it is called in the names of checks."""
        return "at_least" if self.higher_is_better else "at_most"

    def meets(self, value: float, limit: float) -> bool:
        """Return whether a value is as good as the limit; NaN is not."""
        return value >= limit if self.higher_is_better else value <= limit

    def loss_of(self, value: float, reference: float) -> float:
        """Return how much worse a value is than the reference; below 0 where it is better."""
        return reference - value if self.higher_is_better else value - reference

    def shown(self, value: float) -> str:
        """Return a value for people: with four decimals where both bounds are known."""
        if math.isnan(value):
            return "undefined"
        return f"{value:.4f}" if all(map(math.isfinite, self.bounds)) else f"{value:.5g}"

    def value(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
        """Return the metric of `predictions` [n, outputs] for `targets` [n].

        Raises:
            ConfigurationError: its function failed, returned something else than a number, or took
                too long.
        """
        return self._in_time(lambda ask: ask(targets, predictions))

    def _in_time(self, compute: "Callable[[_Ask], T]") -> T:
        """Return `compute(ask)`, where each call of `ask`, which returns a value, is in time."""

        def bounded(restart: Callable[[], None]) -> T:
            def ask(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
                restart()
                return self._value(targets, predictions)

            return compute(ask)

        return within(_SECONDS, bounded, what=f"compute the metric {self.name}")

    def _value(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
        try:
            return float(self.compute(targets, predictions))
        except Exception as error:  # It may be a function of the model's file.
            raise ConfigurationError(
                f"could not compute the metric {self.name} of {len(targets)} rows with "
                f"predictions of shape {list(predictions.shape)}: {type(error).__name__}: "
                f"{error}. Correct its function: it must return a number. It also gets rows that "
                "are drawn with replacement, so a class may be missing: return NaN if it is "
                "undefined for its rows"
            ) from error

    def estimate(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> Estimate:
        """Return the value with its interval.

        Raises:
            ConfigurationError: see `value`.
        """

        def compute(ask: _Ask) -> Estimate:
            value = ask(targets, predictions)
            if math.isnan(value):
                return Estimate(value, value, value)
            drawn = [ask(targets[n], predictions[n]) for n in _in_time(_draws(predictions))]
            return Estimate(value, *_interval(drawn, value))

        return self._in_time(compute)

    def compare(
        self, targets: "NDArray[Any]", new: "NDArray[Any]", old: "NDArray[Any]"
    ) -> Comparison:
        """Compare the predictions of two artifacts for the same rows.

        Raises:
            ConfigurationError: see `value`.
        """

        def compute(ask: _Ask) -> Comparison:
            drawn = [
                self.loss_of(ask(targets[n], new[n]), ask(targets[n], old[n]))
                for n in _in_time(_draws(new))
            ]
            return self._comparison(len(targets), ask(targets, new), ask(targets, old), drawn)

        found = self._in_time(compute)
        differing = int((new != old).any(axis=tuple(range(1, new.ndim))).sum())
        # Of few rows that differ, each is as likely a loss as a gain: a sign test bounds p.
        return replace(found, p=max(found.p, 0.5**differing))

    def compare_apart(
        self,
        new: "tuple[NDArray[Any], NDArray[Any]]",
        old: "tuple[NDArray[Any], NDArray[Any]]",
    ) -> Comparison:
        """Compare by the (targets, predictions) of each one's own hold-out set.

        Much weaker than on the same rows: it sees only a large loss.

        Raises:
            ConfigurationError: see `value`.
        """
        (y_new, p_new), (y_old, p_old) = new, old

        def compute(ask: _Ask) -> Comparison:
            draws = zip(_draws(p_new), _draws(p_old, seed=_SEED + 1), strict=False)
            drawn = [
                self.loss_of(ask(y_new[n], p_new[n]), ask(y_old[o], p_old[o]))
                for n, o in _in_time(draws)
            ]
            return self._comparison(len(y_new), ask(*new), ask(*old), drawn)

        return self._in_time(compute)

    def _comparison(
        self, rows: int, value: float, reference: float, drawn: list[float]
    ) -> Comparison:
        loss = self.loss_of(value, reference)
        known = [one for one in drawn if math.isfinite(one)]
        as_good = sum(one <= 0 for one in known)
        enough = len(known) >= _FEWEST_KNOWN  # With fewer, the values alone decide.
        p = (1 + as_good) / (1 + len(known)) if enough else 0.0
        return Comparison(rows, value, reference, loss, *_interval(drawn, loss), p)


def name_of(value: object) -> str:
    """Return the name of a function, of another object that of its class: without an address."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _draws(predictions: "NDArray[Any]", *, seed: int = _SEED) -> "Iterator[NDArray[Any]]":
    """Yield the numbers of rows that are drawn with replacement: as many as there are, bounded."""
    import numpy as np

    drawn = min(len(predictions), MOST_ROWS)
    generator = np.random.default_rng(seed)
    draws = _MOST_DRAWN // max(1, drawn * predictions[:1].size)
    for _ in range(min(max(draws, _FEWEST_DRAWS), _MOST_DRAWS)):
        yield generator.integers(0, len(predictions), drawn)


def _in_time(draws: Iterable[T]) -> Iterator[T]:
    """Yield draws until the time is used up: a slow metric has fewer, and a wider interval."""
    end = MONOTONIC.now() + _SECONDS
    for draw in draws:
        if MONOTONIC.now() >= end:
            return
        yield draw


def _interval(drawn: list[float], value: float) -> tuple[float, float]:
    """Return the 90 % interval of what was drawn, which always has the value itself."""
    import numpy as np

    known = [one for one in drawn if math.isfinite(one)]
    if not known:
        return value, value
    low, high = np.quantile(known, (SIGNIFICANCE, 1 - SIGNIFICANCE))
    return min(float(low), value), max(float(high), value)


@dataclass(frozen=True)
class ShareOfRightRows(Metric):
    """The share of rows that are answered right, 0 to 1: exact tests instead of the bootstrap.

    Only the rows that one artifact answers right and the other wrong tell them apart. Of
    `lost + gained` such rows `lost` is Binomial(lost + gained, 1/2) while neither is better:
    McNemar's exact test. The bounds of the drop are those of Clopper and Pearson for that share,
    scaled to all rows. So the lower bound is above 0 exactly where the test's p is below 0.05.

    Its `compute` returns for each row whether it is right: booleans [n].
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    counts_unanswered = True

    def value(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
        """Return the share of right rows."""
        return float(self.compute(targets, predictions).mean())

    def estimate(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> Estimate:
        """Return the share with Wilson's interval."""
        right, rows = self._count(targets, predictions)
        return Estimate(right / rows, *_wilson(right, rows))

    def compare(
        self, targets: "NDArray[Any]", new: "NDArray[Any]", old: "NDArray[Any]"
    ) -> Comparison:
        """Compare by McNemar's exact test."""
        from scipy.stats import binomtest

        right, before = self.compute(targets, new), self.compute(targets, old)
        rows, lost, gained = len(right), int((before & ~right).sum()), int((right & ~before).sum())
        low = high = 0.0
        p = 1.0
        if changed := lost + gained:
            p = float(binomtest(lost, changed, 0.5, alternative="greater").pvalue)
            bounds = binomtest(lost, changed).proportion_ci(1 - 2 * SIGNIFICANCE, method="exact")
            low, high = ((2 * float(bound) - 1) * changed / rows for bound in bounds)
        value, reference = float(right.mean()), float(before.mean())
        return Comparison(rows, value, reference, reference - value, low, high, p, lost, gained)

    def compare_apart(
        self,
        new: "tuple[NDArray[Any], NDArray[Any]]",
        old: "tuple[NDArray[Any], NDArray[Any]]",
    ) -> Comparison:
        """Compare by Fisher's exact test; the bounds are those of Newcombe (1998, method 10)."""
        from scipy.stats import fisher_exact

        (right, rows), (before, rows_before) = self._count(*new), self._count(*old)
        value, reference = right / rows, before / rows_before
        table = [[before, rows_before - before], [right, rows - right]]
        p = float(fisher_exact(table, alternative="greater")[1])
        least, most = _wilson(right, rows)
        least_before, most_before = _wilson(before, rows_before)
        drop = reference - value
        low = drop - math.hypot(reference - least_before, most - value)
        high = drop + math.hypot(most_before - reference, value - least)
        return Comparison(rows, value, reference, drop, low, high, p)

    def _count(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> tuple[int, int]:
        return int(self.compute(targets, predictions).sum()), len(targets)


def _wilson(right: int, rows: int) -> tuple[float, float]:
    """Return the 90 % interval of a share by Wilson (1927), without SciPy.

    Each `up` estimates what is served, and importing scipy.stats takes longer than all requests.
    """
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE)
    share, weight = right / rows, z * z / rows
    middle = share + weight / 2
    half = z * math.sqrt((share * (1 - share) + weight / 4) / rows)
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return (low if right else 0.0), (high if right < rows else 1.0)
