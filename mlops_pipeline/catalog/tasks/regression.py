"""Regression: the prediction is a number, in the unit of the target."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.plotting import draw_histogram, new_figure, save
from mlops_pipeline.catalog.tasks.metric import Metric
from mlops_pipeline.catalog.tasks.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_pipeline.catalog.spec import DatasetSpec

_MOST_DOTS = 2_000
"""Maximum number of rows in a plot: more only cost bytes of the event log."""


def _errors(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    errors: NDArray[Any] = predictions[:, 0].astype(np.float64) - targets
    return errors


def _mean_absolute_error(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    return float(abs(_errors(targets, predictions)).mean())


def _root_mean_squared_error(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    return math.sqrt((_errors(targets, predictions) ** 2).mean())


def _determination(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    """Return R²: 1 - squared errors / squared distances from the mean of these targets.

    NaN if all targets are the same.
    """
    total = float(((targets - targets.mean()) ** 2).sum())
    return 1 - float((_errors(targets, predictions) ** 2).sum()) / total if total else math.nan


def _error(
    name: str, compute: "Callable[[NDArray[Any], NDArray[Any]], Any]", *, title: str
) -> Metric:
    return Metric(name, compute, higher_is_better=False, title=title, bounds=(0.0, math.inf))


@dataclass(frozen=True)
class Regression(Task):
    """The prediction is one number for each row.

    Metrics: `rmse` and `mae` in the target's unit, and `r2`, at most 1.
    """

    name = "regression"
    metrics = (
        _error("rmse", _root_mean_squared_error, title="RMSE"),
        _error("mae", _mean_absolute_error, title="MAE"),
        Metric(
            *("r2", _determination),
            higher_is_better=True,
            title="R²",
            bounds=(-math.inf, 1.0),
            usual_loss=0.02,
        ),
    )

    def count_outputs(self, dataset: "DatasetSpec") -> tuple[int, str]:
        """One."""
        return 1, "prediction"

    def describe_misfit(
        self, predictions: "NDArray[Any]", rows: int, dataset: "DatasetSpec"
    ) -> str:
        """Require one finite number for each row."""
        import numpy as np

        if predictions.shape == (rows, 1) and np.isfinite(predictions).all():
            return ""
        return (
            f"predictions of shape {predictions.shape}; expected finite numbers of shape "
            f"{(rows, 1)} or {(rows,)}, one for each row"
        )

    def plots(
        self, targets: "NDArray[Any]", predictions: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> Mapping[str, Callable[[Path], None]]:
        """Return predicted against true, and the residuals."""
        shown = self.typical_rows(targets, most=_MOST_DOTS)
        data = (targets[shown], predictions[shown, 0])
        return {
            "predicted_against_true.png": partial(_plot_predicted, *data, rows=len(targets)),
            "residuals.png": partial(_plot_residuals, *data),
        }

    def answer_table(
        self, scores: Sequence[Sequence[float]], names: Sequence[str], dataset: "DatasetSpec"
    ) -> tuple[list[str], list[list[str]]]:
        """Return a column `prediction`, unless the server has another name for it."""
        return super().answer_table(scores, names or ["prediction"], dataset)


def _plot_predicted(
    true: "NDArray[Any]", predicted: "NDArray[Any]", path: Path, *, rows: int
) -> None:
    """Draw a dot for each row; a perfect model's dots are on the line."""
    figure = new_figure(5.2, 4.6)
    axes = figure.subplots()
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color="grey", linestyle=":")
    axes.plot(true, predicted, ".", markersize=3)
    shown = f"{rows} hold-out rows" if len(true) == rows else f"{len(true)} of {rows} hold-out rows"
    axes.set(xlabel="true", ylabel="predicted", title=shown)
    axes.grid(visible=True, alpha=0.3)
    save(figure, path)


def _plot_residuals(true: "NDArray[Any]", predicted: "NDArray[Any]", path: Path) -> None:
    """Draw predicted - true: against the prediction, and as a histogram."""
    import numpy as np

    # Rounding errors of equal differences must not be drawn as a distribution.
    unit = 1e-12 * max(float(np.abs(true).max()), float(np.abs(predicted).max())) or 1.0
    excess = np.round((predicted - true) / unit) * unit
    figure = new_figure(8.4, 4.0)
    against, often = figure.subplots(1, 2)
    against.axhline(0, color="grey", linestyle=":")
    against.plot(predicted, excess, ".", markersize=3)
    against.set(xlabel="predicted", ylabel="predicted - true", title="Residuals")
    draw_histogram(often, [excess], bins=30)
    often.set(xlabel="predicted - true", ylabel="rows", title="Distribution")
    for axes in (against, often):
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=True, alpha=0.3)
    save(figure, path)
