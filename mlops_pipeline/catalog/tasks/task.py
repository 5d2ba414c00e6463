"""The protocol of tasks: everything that depends on what a model predicts.

The methods of `Task` fit every target that is a number. A task overrides those that differ.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_pipeline.catalog.tasks.metric import Metric, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_pipeline.catalog.spec import DatasetSpec

Records = list[dict[str, Any]]
"""Rows of a table in the UI, with the same keys."""
Profiles = Mapping[str, Mapping[str, Any]]
"""`train` and `test` → what `catalog.worker.profile` says of them."""


@dataclass(frozen=True)
class TargetCheck:
    """The check of a dataset's targets."""

    name: str
    description: str
    find_problems: Callable[[Profiles], list[str]]


class Task:
    """What a model predicts. Arrays: targets [n], predictions [n, outputs], both numbers."""

    name: ClassVar[str]
    """In the artifact's manifest."""
    metrics: tuple[Metric, ...]
    """The metrics of every artifact, the most important first."""
    target: ClassVar[str] = "target"
    """Column of the targets in tables."""

    def find_metric(self, name: object) -> Metric | None:
        """Return the metric of that name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def functions(self) -> tuple[Callable[..., object], ...]:
        """Return the functions that the model's file brings: a change in one trains again."""
        return ()

    def settings(self) -> str:
        """Return its name and fields as JSON: a change in them loads the data and trains again."""
        fields = {name: value for name, value in vars(self).items() if name != "metrics"}
        metrics = [metric.settings() for metric in self.metrics]
        return json.dumps([self.name, fields, metrics], default=name_of, skipkeys=True)

    def faults(self, dataset: "DatasetSpec") -> Iterator[str]:
        """Yield what of a DatasetSpec does not fit the task."""
        classes: object = dataset.classes
        if not isinstance(classes, tuple) or classes:
            yield f"dataset.classes is {classes!r}; only a classification has classes"

    def count_outputs(self, dataset: "DatasetSpec") -> tuple[int, str] | None:
        """Return how many names its answers have and for what; None: it depends on the model."""
        return None

    # The dataset

    def expected_targets(self, dataset: "DatasetSpec") -> str:
        """Return what `encode` accepts, for messages."""
        return "numbers"

    def encode(self, targets: "NDArray[Any]", dataset: "DatasetSpec") -> "NDArray[Any]":
        """Return the targets that `load` returned as numbers.

        Raises:
            ValueError: one is not a number.
        """
        import numpy as np

        return targets if targets.dtype.kind in "biuf" else targets.astype(np.float64)

    def profile(self, targets: "NDArray[Any]", dataset: "DatasetSpec") -> dict[str, Any]:
        """Describe the targets of a split for checks."""
        import numpy as np

        finite = targets[np.isfinite(targets)].astype(np.float64)
        numbers = {
            name: float(of(finite)) if finite.size else None
            for name, of in (("min", np.min), ("mean", np.mean), ("std", np.std), ("max", np.max))
        }
        missing = int(targets.size - finite.size)
        return {"targets": {**numbers, "missing": missing, "distinct": len(np.unique(finite))}}

    def target_check(self, dataset: "DatasetSpec") -> TargetCheck:
        """Return the check of the targets."""
        least, most = dataset.target_range or (-math.inf, math.inf)
        between = f", from {least:g} to {most:g}" if dataset.target_range else ""

        def find_problems(profiles: Profiles) -> list[str]:
            problems = []
            for split, part in profiles.items():
                seen = part["targets"]
                if seen["missing"]:
                    problems.append(f"{split}: {seen['missing']} targets are missing or infinite")
                if seen["distinct"] == 1:
                    problems.append(f"{split}: every target is {seen['min']:g}")
                if seen["distinct"] and not least <= seen["min"] <= seen["max"] <= most:
                    problems.append(
                        f"{split}: expected targets from {least:g} to {most:g}, "
                        f"got {seen['min']:g} to {seen['max']:g}"
                    )
            return problems

        return TargetCheck(
            "has_usable_targets",
            f"In both splits, the targets are finite numbers{between}, and not all the same.",
            find_problems,
        )

    def target_tables(self, profiles: Profiles, dataset: "DatasetSpec") -> dict[str, Records]:
        """Return tables about the targets: name → rows."""
        names = {"train": "training", "test": "hold-out"}
        return {
            "targets": [
                {"split": name, "rows": profiles[split]["shape"][0], **profiles[split]["targets"]}
                for split, name in names.items()
            ]
        }

    def shown_target(self, target: Any, dataset: "DatasetSpec") -> Any:
        """Return a target of a sample row for people."""
        return float(target) if math.isfinite(target) else None

    def groups(
        self, targets: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> "Mapping[str, NDArray[Any]]":
        """Return the groups of rows that are drawn apart: name → booleans [n]."""
        import numpy as np

        return {"all rows": np.ones(len(targets), dtype=bool)}

    def typical_rows(self, targets: "NDArray[Any]", *, most: int) -> "NDArray[Any]":
        """Return the numbers of at most `most` different rows, in the order of their targets."""
        import numpy as np

        places = np.linspace(0, len(targets) - 1, min(most, len(targets))).astype(np.int64)
        return np.argsort(targets, kind="stable")[places]

    # The model

    def describe_misfit(
        self, predictions: "NDArray[Any]", rows: int, dataset: "DatasetSpec"
    ) -> str:
        """Return what is wrong with a model's predictions for so many rows; empty if nothing."""
        import numpy as np

        if predictions.shape[:1] == (rows,) and np.isfinite(predictions).all():
            return ""
        return (
            f"predictions of shape {predictions.shape}; expected finite numbers, "
            f"one row for each of {rows}"
        )

    def measure(self, targets: "NDArray[Any]", predictions: "NDArray[Any]") -> dict[str, float]:
        """Return the metrics that are defined for these predictions."""
        values = {m.name: m.value(targets, predictions) for m in self.metrics}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def tables(
        self, targets: "NDArray[Any]", predictions: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> dict[str, Records]:
        """Return the task's own tables of an evaluation: name → rows."""
        return {}

    def plots(
        self, targets: "NDArray[Any]", predictions: "NDArray[Any]", dataset: "DatasetSpec"
    ) -> Mapping[str, Callable[[Path], None]]:
        """Return the plots of an evaluation: name of a PNG → function that writes it."""
        return {}

    # Answers

    def answer_table(
        self, scores: Sequence[Sequence[float]], names: Sequence[str], dataset: "DatasetSpec"
    ) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of a table of answers; `names` are the server's."""
        width = len(scores[0])
        header = list(names) if len(names) == width else [f"column {n}" for n in range(width)]
        return header, [[_shown(score) for score in row] for row in scores]


def _shown(score: float) -> str:
    is_usual = 1e-3 <= abs(score) < 1e5 or not score
    return f"{score:.4f}" if is_usual else f"{score:.8g}"
