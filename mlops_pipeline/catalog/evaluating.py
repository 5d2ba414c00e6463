"""Evaluates a model on its hold-out set: metrics per class, and plots."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.describing import attempt, new_figure, save
from mlops_pipeline.catalog.spec import Dataset, ModelSpec, TrainedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOLDOUT = "holdout.npz"
CLASSES = "classes.json"
CONFUSION_MATRIX = "confusion_matrix.png"
ROC_AND_CALIBRATION = "roc_and_calibration.png"
TRAINING_CURVES = "training_curves.png"
PLOTS = (CONFUSION_MATRIX, ROC_AND_CALIBRATION, TRAINING_CURVES)
_CALIBRATION_BINS = 10
_MOST_COUNTED = 30
"""Maximum number of classes for numbers in the confusion matrix."""
_MOST_NAMED = 10
"""Maximum number of classes for a legend of the ROC curves."""


def evaluate(
    spec: ModelSpec, dataset: Dataset, scores: "NDArray[Any]", trained: TrainedModel, folder: Path
) -> None:
    """Write the hold-out set with its offline scores, the metrics per class, and the plots.

    Metrics and plots that fail are omitted, and `problems` beside the metrics says why.
    """
    import numpy as np

    labels = dataset.y_test
    np.savez_compressed(folder / HOLDOUT, x=dataset.x_test, y=labels, scores=scores)
    report: dict[str, Any] = {"classes": [], "confusion": []}
    problems: list[str] = []
    draw: dict[str, Callable[[Path], None]] = {
        CONFUSION_MATRIX: lambda path: _plot_confusion(spec, labels, scores.argmax(axis=1), path),
        ROC_AND_CALIBRATION: lambda path: _plot_roc_and_calibration(spec, labels, scores, path),
        TRAINING_CURVES: lambda path: _plot_curves(trained.history, path),
    }
    attempt(
        "evaluate each class",
        problems,
        lambda: report.update(classification(spec, labels, scores)),
    )
    for name, plot in draw.items():
        attempt(f"draw {name}", problems, partial(plot, folder / name))
    if problems:
        report["problems"] = problems
    (folder / CLASSES).write_text(json.dumps(report))


def classification(
    spec: ModelSpec, labels: "NDArray[Any]", scores: "NDArray[Any]"
) -> dict[str, Any]:
    """Return the metrics per class, and the confusion matrix by true class.

    Per class: precision, recall, F1, rows, and the area under its ROC curve against the rest. A
    class that is never predicted has precision 0. A class without others has no ROC curve.
    """
    from sklearn.metrics import (
        confusion_matrix,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    numbers, predicted = list(range(len(spec.dataset.classes))), scores.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    classes = [
        {
            "class": spec.dataset.classes[number],
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "roc_auc": float(roc_auc_score(labels == number, scores[:, number]))
            if 0 < support < len(labels)
            else None,
            "rows": int(support),
        }
        for number, precision, recall, f1, support in zip(numbers, *columns, strict=True)
    ]
    matrix = confusion_matrix(labels, predicted, labels=numbers)
    return {"classes": classes, "confusion": matrix.tolist()}


def _plot_confusion(
    spec: ModelSpec, labels: "NDArray[Any]", predicted: "NDArray[Any]", path: Path
) -> None:
    figure = new_figure(5.2, 4.6)  # Before pyplot is imported, which selects the backend.
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    numbers = range(len(spec.dataset.classes))
    axes = figure.subplots()
    matrix = confusion_matrix(labels, predicted, labels=list(numbers))
    ConfusionMatrixDisplay(matrix, display_labels=spec.dataset.classes).plot(
        ax=axes, cmap="Blues", colorbar=False, include_values=len(numbers) <= _MOST_COUNTED
    )
    axes.set_title(f"{spec.name}: {len(labels)} hold-out rows")
    save(figure, path)


def _plot_roc_and_calibration(
    spec: ModelSpec, labels: "NDArray[Any]", scores: "NDArray[Any]", path: Path
) -> None:
    """Draw ROC curves, each class against the rest, and the calibration of the predicted class."""
    import numpy as np
    from sklearn.metrics import roc_curve

    figure = new_figure(8.4, 4.0)
    roc, calibration = figure.subplots(1, 2)
    for number, name in enumerate(spec.dataset.classes):
        if 0 < (labels == number).sum() < len(labels):
            wrong, right, _ = roc_curve(labels == number, scores[:, number])
            roc.plot(wrong, right, label=name, linewidth=1)
    roc.set(
        xlabel="false positive rate", ylabel="true positive rate", title="ROC, one against rest"
    )
    if len(spec.dataset.classes) <= _MOST_NAMED and roc.lines:
        roc.legend(fontsize=7, loc="lower right")
    sure, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    which = np.clip((sure * _CALIBRATION_BINS).astype(int), 0, _CALIBRATION_BINS - 1)
    filled = np.unique(which)
    means = [[part[which == n].mean() for n in filled] for part in (sure, correct)]
    calibration.plot([0, 1], [0, 1], color="grey", linestyle=":")
    calibration.plot(*means, marker="o", linewidth=1)
    calibration.set(xlabel="score of the predicted class", ylabel="accuracy", title="Calibration")
    for axes in (roc, calibration):
        axes.grid(visible=True, alpha=0.3)
    save(figure, path)


def _plot_curves(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the training history; nothing without one."""
    if not history:
        return
    figure = new_figure(7, 3)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((metric, "training"), (f"val_{metric}", "hold-out")):
            if name in history:
                axes.plot(range(1, len(history[name]) + 1), history[name], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(visible=True, alpha=0.3)
        if axes.lines:
            axes.legend()
    save(figure, path)
