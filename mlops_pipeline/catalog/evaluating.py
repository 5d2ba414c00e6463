"""How good a model is on its hold-out set: numbers for each class, and plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.describing import save
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


def evaluate(
    spec: ModelSpec, dataset: Dataset, scores: "NDArray[Any]", trained: TrainedModel, folder: Path
) -> None:
    """Write the hold-out set with its offline scores, the numbers for each class, and the plots."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    labels, predicted = dataset.y_test, scores.argmax(axis=1)
    np.savez_compressed(folder / HOLDOUT, x=dataset.x_test, y=labels, scores=scores)
    report = classification(spec, labels, scores)
    (folder / CLASSES).write_text(json.dumps(report))
    _plot_confusion(spec, labels, predicted, folder / CONFUSION_MATRIX)
    _plot_roc_and_calibration(spec, labels, scores, folder / ROC_AND_CALIBRATION)
    if trained.history:
        _plot_curves(trained.history, folder / TRAINING_CURVES)


def classification(
    spec: ModelSpec, labels: "NDArray[Any]", scores: "NDArray[Any]"
) -> dict[str, Any]:
    """Return what is right and wrong for each class, and the confusion matrix by true class.

    For each class: precision, recall, F1, rows, and the area under its ROC curve against the rest.
    A class that is never predicted has precision 0; one that is the only one, no ROC curve.
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
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    numbers = range(len(spec.dataset.classes))
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    matrix = confusion_matrix(labels, predicted, labels=list(numbers))
    ConfusionMatrixDisplay(matrix, display_labels=spec.dataset.classes).plot(
        ax=axes, cmap="Blues", colorbar=False
    )
    axes.set_title(f"{spec.name}: {len(labels)} hold-out rows")
    save(figure, path)


def _plot_roc_and_calibration(
    spec: ModelSpec, labels: "NDArray[Any]", scores: "NDArray[Any]", path: Path
) -> None:
    """Draw ROC curves, each class against the rest; and how often the surest answers are right."""
    import numpy as np
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(8.4, 4.0), layout="constrained")
    roc, calibration = figure.subplots(1, 2)
    for number, name in enumerate(spec.dataset.classes):
        if 0 < (labels == number).sum() < len(labels):
            wrong, right, _ = roc_curve(labels == number, scores[:, number])
            roc.plot(wrong, right, label=name, linewidth=1)
    roc.set(
        xlabel="false positive rate", ylabel="true positive rate", title="ROC, one against rest"
    )
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((metric, "training"), (f"val_{metric}", "hold-out")):
            if name in history:
                axes.plot(range(1, len(history[name]) + 1), history[name], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    save(figure, path)
