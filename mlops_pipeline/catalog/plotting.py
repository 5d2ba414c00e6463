"""Figures for the UI."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LARGEST_DRAWN, _SMALLEST_DRAWN = 1e300, 1e-300
"""Limits beyond which matplotlib finds no ticks for an axis."""
_RESOLUTION = 1e-12
"""Minimum range of drawn numbers, relative to their size: below it, bins have no width."""


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure of that size in inches, in which `$` is a plain character."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg")
    mpl.rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    """Write a plot atomically, small enough for the event log: about 20 kB."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80, pil_kwargs={"optimize": True})
    path.write_bytes(content.getvalue())


def draw_histogram(
    axes: "Axes", parts: "Sequence[NDArray[Any]]", *, bins: int, labels: Sequence[str] = ()
) -> None:
    """Draw a histogram of each group's numbers, or write a range that has no bins."""
    import numpy as np

    numbers = np.concatenate(parts)
    least, greatest = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    if _can_be_drawn(least, greatest):
        axes.hist(list(parts), bins=bins, stacked=True, label=list(labels) or None)
    else:
        axes.text(0.5, 0.5, f"{least:.6g}\nto {greatest:.6g}", ha="center", va="center")


def _can_be_drawn(least: float, greatest: float) -> bool:
    size, spread = max(abs(least), abs(greatest)), greatest - least
    if not spread:
        return size * _RESOLUTION < 1  # numpy.histogram makes it 1.
    return _SMALLEST_DRAWN < spread < _LARGEST_DRAWN and spread > size * _RESOLUTION
