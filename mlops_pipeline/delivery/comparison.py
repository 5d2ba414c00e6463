"""Whether one artifact is less accurate than another, and how sure that is.

Both answer the same hold-out rows, so only the rows that one answers right and the other wrong tell
them apart. Of `lost + gained` such rows `lost` is Binomial(lost + gained, 1/2) while neither is
better: McNemar's exact test. The bounds of the drop are those of Clopper and Pearson for that
share, scaled to all rows. So the lower bound is above 0 exactly where the test's p is below 0.05.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_SIGNIFICANCE = 0.05
"""Greatest probability of refusing an artifact that is as good as the other one."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """How accurate a new artifact is beside an older one."""

    rows: int
    """Hold-out rows of the new one."""
    accuracy: float
    """Of the new one, 0 to 1."""
    reference_accuracy: float
    """Of the older one; on the same rows where they are paired."""
    lost: int | None
    """Rows that the older one answers right and the new one wrong; None where not paired."""
    gained: int | None
    """Rows that the new one answers right and the older one wrong."""
    low: float
    """The accuracy has dropped by at least this much, with 95 % confidence."""
    high: float
    """The accuracy has dropped by at most this much, with 95 % confidence."""
    p: float
    """Probability of a drop as large as this one if neither is better."""

    @property
    def drop(self) -> float:
        """How much less accurate the new one is; below 0 where it is more accurate."""
        return self.reference_accuracy - self.accuracy

    def is_loss(self, *, allowed: float) -> bool:
        """Return whether the drop is above `allowed`, and more than chance explains."""
        return self.drop > allowed + _ROUNDING and self.p < _SIGNIFICANCE


def compare_on_same_rows(*, right: "ArrayLike", reference_right: "ArrayLike") -> Comparison:
    """Compare by whether each row was answered right: two arrays of booleans, shape [n]."""
    import numpy as np
    from scipy.stats import binomtest

    new, old = np.asarray(right, dtype=bool), np.asarray(reference_right, dtype=bool)
    rows, lost, gained = len(new), int((old & ~new).sum()), int((new & ~old).sum())
    low = high = 0.0
    p = 1.0
    if changed := lost + gained:
        p = float(binomtest(lost, changed, 0.5, alternative="greater").pvalue)
        bounds = binomtest(lost, changed).proportion_ci(1 - 2 * _SIGNIFICANCE, method="exact")
        low, high = ((2 * float(bound) - 1) * changed / rows for bound in bounds)
    return Comparison(rows, float(new.mean()), float(old.mean()), lost, gained, low, high, p)


def compare_on_other_rows(
    *, right: int, rows: int, reference_right: int, reference_rows: int
) -> Comparison:
    """Compare by the rows that each one answered right of a hold-out set of its own.

    Fisher's exact test; the bounds are those of Newcombe (1998, method 10). Much weaker than on the
    same rows: it sees only a large drop.
    """
    from scipy.stats import binomtest, fisher_exact

    new, old = right / rows, reference_right / reference_rows
    table = [[reference_right, reference_rows - reference_right], [right, rows - right]]
    _, p = fisher_exact(table, alternative="greater")
    level = 1 - 2 * _SIGNIFICANCE
    of_new = binomtest(right, rows).proportion_ci(level, method="wilson")
    of_old = binomtest(reference_right, reference_rows).proportion_ci(level, method="wilson")
    low = old - new - ((old - of_old.low) ** 2 + (of_new.high - new) ** 2) ** 0.5
    high = old - new + ((of_old.high - old) ** 2 + (new - of_new.low) ** 2) ** 0.5
    return Comparison(rows, new, old, None, None, float(low), float(high), float(p))
