"""Classification: the prediction is one of the dataset's classes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import faults
from mlops_pipeline.catalog.plotting import new_figure, save
from mlops_pipeline.catalog.tasks.metric import Metric, ShareOfRightRows
from mlops_pipeline.catalog.tasks.task import Profiles, Records, TargetCheck, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_pipeline.catalog.spec import DatasetSpec

CONFUSION_MATRIX = "confusion_matrix.png"
ROC_AND_CALIBRATION = "roc_and_calibration.png"
_LEAST_CLASSES = 2
_CALIBRATION_BINS = 10
_MOST_COUNTED = 30
"""Maximum number of classes for numbers in the confusion matrix."""
_MOST_NAMED = 10
"""Maximum number of classes for a legend."""


@dataclass(frozen=True)
class Classification(Task):
    """The prediction has a score for each class, the greatest wins; or one column.

    Metrics: `accuracy`, and `log_loss` (nats) if the scores are probabilities.
    """

    threshold: float | None = None
    """For predictions of one column. None: it holds the number of the class, as `predict` returns
    it. A number: it holds the score of the second of two classes, which is predicted above this
    number: 0.5 for a probability, 0.0 for a `decision_function`."""
    metrics: tuple[Metric, ...] = field(init=False, repr=False, compare=False)
    name = "classification"
    target = "class"

    def __post_init__(self) -> None:
        accuracy = ShareOfRightRows("accuracy", self._right, higher_is_better=True, usual_loss=0.02)
        log_loss = Metric(
            *("log_loss", _log_loss),
            higher_is_better=False,
            title="log loss",
            bounds=(0.0, math.inf),
        )
        object.__setattr__(self, "metrics", (accuracy, log_loss))

    def predicted(self, predictions: "NDArray[Any]") -> "NDArray[Any]":
        """Return the number of the class that each row is predicted to be, shape [n]."""
        found: NDArray[Any] = predictions[:, 0]
        if predictions.shape[1] > 1:
            found = predictions.argmax(axis=1)
        elif self.threshold is not None:
            found = (found > self.threshold).astype(int)
        return found

    def _right(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> "NDArray[Any]":
        """Return whether each row is right; one that was not answered (NaN) is not."""
        import numpy as np

        answered = np.isfinite(predictions).all(axis=1)
        right: NDArray[Any] = answered & (self.predicted(predictions) == targets)
        return right

    def faults(self, dataset: "DatasetSpec") -> Iterator[str]:
        """Require two classes, and a usable threshold."""
        if problems := list(
            faults.of_names("dataset.classes", dataset.classes, least=_LEAST_CLASSES)
        ):
            yield from problems
            return
        if self.threshold is None:
            return
        if not faults.is_number(self.threshold):
            yield f"task.threshold is {self.threshold!r}; it must be a finite number or None"
        elif len(dataset.classes) > _LEAST_CLASSES:
            yield f"task.threshold is for two classes, the dataset has {len(dataset.classes)}"

    def count_outputs(self, dataset: "DatasetSpec") -> tuple[int, str]:
        """One for each class."""
        return len(dataset.classes), "classes"

    # The dataset

    def expected_targets(self, dataset: "DatasetSpec") -> str:
        """Return the names of the classes too."""
        return f"numbers, or {dataset.classes}"

    def encode(self, targets: "NDArray[Any]", dataset: "DatasetSpec") -> "NDArray[Any]":
        """Return the numbers of classes that are given by number or by name.

        Fractions stay as they are: the checks find them.

        Raises:
            ValueError: one is neither a number nor a class.
        """
        import numpy as np

        if targets.dtype.kind not in "biuf":
            known = {text: number for number, text in enumerate(dataset.classes)}
            if targets.ndim == 1 and set(targets.tolist()) <= known.keys():
                return np.array([known[label] for label in targets.tolist()])
            targets = targets.astype(np.float64)
        is_whole = targets.ndim == 1 and np.isfinite(targets).all()
        is_whole = is_whole and bool((targets == targets // 1).all())
        return targets.astype(np.int64) if is_whole else targets

    def profile(self, targets: "NDArray[Any]", dataset: "DatasetSpec") -> dict[str, Any]:
        """Count the rows of each class."""
        import numpy as np

        numbers = range(len(dataset.classes))
        counted = {c: int((targets == n).sum()) for n, c in enumerate(dataset.classes)}
        unknown = int((~np.isin(targets, numbers)).sum())
        return {"rows_per_class": counted, "unknown_labels": unknown}

    def target_check(self, dataset: "DatasetSpec") -> TargetCheck:
        """Require rows of each class, and no others."""

        def find_problems(profiles: Profiles) -> list[str]:
            return [
                f"{split}: no row of the class {name}"
                for split, part in profiles.items()
                for name, rows in part["rows_per_class"].items()
                if not rows
            ]

        described = f"Each of the {len(dataset.classes)} classes is in both splits."
        return TargetCheck("has_all_classes", described, find_problems)

    def target_tables(self, profiles: Profiles, dataset: "DatasetSpec") -> dict[str, Records]:
        """Return the rows of each class in each split."""
        counted, held_out = (profiles[split]["rows_per_class"] for split in ("train", "test"))
        total = max(1, sum(counted.values()))
        return {
            "classes": [
                {
                    "class": name,
                    "training rows": counted[name],
                    "hold-out rows": held_out[name],
                    "% of training rows": round(100 * counted[name] / total, 1),
                }
                for name in dataset.classes
            ]
        }

    def shown_target(self, target: Any, dataset: "DatasetSpec") -> str:
        """Return the name of a class."""
        classes = dataset.classes
        return classes[int(target)] if 0 <= target < len(classes) else str(target)

    def groups(
        self, targets: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> "Mapping[str, NDArray[Any]]":
        """Return the rows of each class."""
        return {name: targets == number for number, name in enumerate(dataset.classes)}

    def typical_rows(self, targets: "NDArray[Any]", *, most: int) -> "NDArray[Any]":
        """Return the first row of each class."""
        import numpy as np

        firsts: NDArray[Any] = np.unique(targets, return_index=True)[1]
        return firsts[:most]

    # The model

    def describe_misfit(
        self, predictions: "NDArray[Any]", rows: int, dataset: "DatasetSpec"
    ) -> str:
        """Require a score for each class, or one column that is read as `threshold` says."""
        import numpy as np

        wanted, seen = (rows, len(dataset.classes)), predictions.shape
        if seen not in (wanted, (rows, 1)) or not np.isfinite(predictions).all():
            return (
                f"scores of shape {seen}; expected finite numbers of shape {wanted}, one column "
                "per class"
            )
        if seen[1] > 1:
            return ""
        if self.threshold is None and not np.isin(predictions, range(wanted[1])).all():
            return (
                "one column that does not have numbers of classes; if it has scores of the second "
                "class, write task=Classification(threshold=0.5) for probabilities, threshold=0.0 "
                "for a decision_function"
            )
        return ""

    def tables(
        self, targets: "NDArray[Any]", predictions: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> dict[str, Records]:
        """Return the metrics per class, and the confusion matrix by true class.

        Per class: precision, recall, F1, rows, and with scores per class the area under its ROC
        curve against the rest. A class that is never predicted has precision 0. A class without
        others has no ROC curve.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        numbers, predicted = list(range(len(dataset.classes))), self.predicted(predictions)
        columns = precision_recall_fscore_support(
            targets, predicted, labels=numbers, zero_division=0
        )
        per_class = [
            {
                "class": dataset.classes[number],
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "roc_auc": _area(targets == number, predictions, number),
                "rows": int(support),
            }
            for number, precision, recall, f1, support in zip(numbers, *columns, strict=True)
        ]
        names = [f"predicted {name}" for name in dataset.classes]
        confusion = [
            {"true class": name, **dict(zip(names, counts, strict=True))}
            for name, counts in zip(
                dataset.classes,
                confusion_matrix(targets, predicted, labels=numbers).tolist(),
                strict=True,
            )
        ]
        return {"per_class": per_class, "confusion": confusion}

    def plots(
        self, targets: "NDArray[Any]", predictions: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> Mapping[str, Callable[[Path], None]]:
        """Return the confusion matrix; with scores per class, ROC curves and calibration too."""
        confusion = partial(_plot_confusion, dataset.classes, targets, self.predicted(predictions))
        if predictions.shape[1] == 1:
            return {CONFUSION_MATRIX: confusion}
        curves = partial(_plot_roc_and_calibration, dataset.classes, targets, predictions)
        return {CONFUSION_MATRIX: confusion, ROC_AND_CALIBRATION: curves}

    # Answers

    def answer_table(
        self, scores: Sequence[Sequence[float]], names: Sequence[str], dataset: "DatasetSpec"
    ) -> tuple[list[str], list[list[str]]]:
        """Return the predicted class and the scores, if they are those of the classes."""
        import numpy as np

        classes, width = dataset.classes, len(scores[0])
        numbers = self.predicted(np.asarray(scores)).tolist()
        if width not in (1, len(classes)) or not set(numbers) <= set(range(len(classes))):
            return super().answer_table(scores, names, dataset)
        best = [classes[int(number)] for number in numbers]
        if width == 1 and self.threshold is None:
            return ["class"], [[name] for name in best]
        cells = [[f"{score:.4f}" for score in row] for row in scores]
        header = list(classes) if width > 1 else ["score"]
        return ["class", *header], [[name, *row] for name, row in zip(best, cells, strict=True)]


def _log_loss(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    """Return the mean of -ln(probability of the true class); NaN if there are no probabilities."""
    import numpy as np

    sums = predictions.sum(axis=1)
    is_sure = predictions.shape[1] > 1 and predictions.min() >= 0 and abs(sums - 1).max() < 0.01
    if not is_sure:
        return math.nan
    likelihood = np.clip(predictions[np.arange(len(targets)), targets], 1e-15, 1.0)
    return float(-np.log(likelihood).mean())


def _area(is_class: "NDArray[Any]", predictions: "NDArray[Any]", number: int) -> float | None:
    from sklearn.metrics import roc_auc_score

    if predictions.shape[1] == 1 or not 0 < is_class.sum() < len(is_class):
        return None
    return float(roc_auc_score(is_class, predictions[:, number]))


def _plot_confusion(
    classes: Sequence[str], targets: "NDArray[Any]", predicted: "NDArray[Any]", path: Path
) -> None:
    figure = new_figure(5.2, 4.6)  # Before pyplot is imported, which selects the backend.
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    axes = figure.subplots()
    matrix = confusion_matrix(targets, predicted, labels=list(range(len(classes))))
    ConfusionMatrixDisplay(matrix, display_labels=classes).plot(
        ax=axes, cmap="Blues", colorbar=False, include_values=len(classes) <= _MOST_COUNTED
    )
    axes.set_title(f"{len(targets)} hold-out rows")
    save(figure, path)


def _plot_roc_and_calibration(
    classes: Sequence[str], targets: "NDArray[Any]", scores: "NDArray[Any]", path: Path
) -> None:
    """Draw ROC curves, each class against the rest, and the calibration of the predicted class."""
    import numpy as np
    from sklearn.metrics import roc_curve

    figure = new_figure(8.4, 4.0)
    roc, calibration = figure.subplots(1, 2)
    for number, name in enumerate(classes):
        if 0 < (targets == number).sum() < len(targets):
            wrong, right, _ = roc_curve(targets == number, scores[:, number])
            roc.plot(wrong, right, label=name, linewidth=1)
    roc.set(
        xlabel="false positive rate", ylabel="true positive rate", title="ROC, one against rest"
    )
    if len(classes) <= _MOST_NAMED and roc.lines:
        roc.legend(fontsize=7, loc="lower right")
    sure, correct = scores.max(axis=1), scores.argmax(axis=1) == targets
    which = np.clip((sure * _CALIBRATION_BINS).astype(int), 0, _CALIBRATION_BINS - 1)
    filled = np.unique(which)
    means = [[part[which == n].mean() for n in filled] for part in (sure, correct)]
    calibration.plot([0, 1], [0, 1], color="grey", linestyle=":")
    calibration.plot(*means, marker="o", linewidth=1)
    calibration.set(xlabel="score of the predicted class", ylabel="accuracy", title="Calibration")
    for axes in (roc, calibration):
        axes.grid(visible=True, alpha=0.3)
    save(figure, path)
