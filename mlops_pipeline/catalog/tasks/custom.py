"""A task whose metrics are defined in the model's file."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mlops_pipeline.catalog.tasks.metric import Metric
from mlops_pipeline.catalog.tasks.task import Task


@dataclass(frozen=True)
class Custom(Task):
    """The targets are numbers. Only the metrics interpret the predictions.

    The functions of the metrics run in the training process and in the checks: write them with
    NumPy, and import other libraries inside of them.

    Raises:
        ValueError: the metrics are not a tuple of `Metric` with different names.
    """

    metrics: tuple[Metric, ...] = field(repr=False)
    """The most important first; their names differ."""
    name = "custom"

    def __post_init__(self) -> None:
        given: object = self.metrics
        is_tuple = isinstance(given, tuple) and all(isinstance(one, Metric) for one in given)
        if not is_tuple or not given:
            raise ValueError(
                f"the metrics of a Custom task must be a tuple of Metric, not {given!r}"
            )
        if len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise ValueError("two metrics of a Custom task have the same name; rename one of them")

    def functions(self) -> tuple[Callable[..., object], ...]:
        """Return the functions of the metrics."""
        return tuple(metric.compute for metric in self.metrics)
