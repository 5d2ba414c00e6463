"""Evaluates a model on its hold-out set: metrics with their uncertainty, tables and plots."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.describing import attempt
from mlops_pipeline.catalog.plotting import new_figure, save
from mlops_pipeline.catalog.spec import Dataset, ModelSpec, TrainedModel
from mlops_pipeline.catalog.tasks.task import Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOLDOUT = "holdout.npz"
PROBE = "probe.npz"
"""In place of the hold-out set of an unevaluated artifact: a row with its predictions."""
TABLES = "tables.json"
TRAINING_CURVES = "training_curves.png"


def evaluate(
    spec: ModelSpec,
    dataset: Dataset,
    predictions: "NDArray[Any]",
    trained: TrainedModel,
    folder: Path,
) -> None:
    """Write the hold-out set with its offline predictions [n, outputs], tables and plots.

    Tables and plots that fail are omitted, and `problems` beside the tables says why.

    Raises:
        ConfigurationError: a metric of a custom task fails.
    """
    import numpy as np

    from mlops_pipeline.serving.cells import pack

    targets, task = dataset.y_test, spec.task
    rows: dict[str, Any] = pack("x", dataset.x_test)
    np.savez_compressed(folder / HOLDOUT, **rows, y=targets, scores=predictions)
    tables = {"metrics": _metrics(spec, targets, predictions)}
    problems: list[str] = []
    attempt(
        "evaluate the predictions",
        problems,
        lambda: tables.update(task.tables(targets, predictions, spec.dataset)),
    )
    plots: dict[str, Callable[[Path], None]] = {
        **task.plots(targets, predictions, spec.dataset),
        TRAINING_CURVES: partial(_plot_curves, trained.history),
    }
    for name, plot in plots.items():
        attempt(f"draw {name}", problems, partial(plot, folder / name))
    report: dict[str, Any] = {"tables": tables} | ({"problems": problems} if problems else {})
    (folder / TABLES).write_text(json.dumps(report))


def _metrics(spec: ModelSpec, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> Records:
    """Return each defined metric with its 90 % interval."""
    rows = []
    for metric in spec.task.metrics:
        found = metric.estimate(targets, predictions)
        if math.isfinite(found.value):
            rows.append(
                {
                    "metric": metric.name,
                    "value": found.value,
                    "from": found.low,
                    "to": found.high,
                    "better": "higher" if metric.higher_is_better else "lower",
                }
            )
    return rows


def _plot_curves(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the training history: one plot for each curve, with its `val_` one; none without."""
    if not history:
        return
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    figure = new_figure(3.5 * max(2, len(metrics)), 3)
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False).flat, metrics, strict=True
    ):
        for name, label in ((metric, "training"), (f"val_{metric}", "hold-out")):
            if name in history:
                axes.plot(range(1, len(history[name]) + 1), history[name], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    save(figure, path)
