"""Figures for the UI."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
