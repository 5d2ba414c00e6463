"""The tasks: what a model predicts, how good that is, and what people see of it."""

from mlops_pipeline.catalog.tasks.classification import Classification
from mlops_pipeline.catalog.tasks.custom import Custom
from mlops_pipeline.catalog.tasks.metric import Comparison, Estimate, Metric
from mlops_pipeline.catalog.tasks.regression import Regression
from mlops_pipeline.catalog.tasks.task import TargetCheck, Task


def recorded(task: str) -> str:
    """Return the name of the task that a manifest records; without tasks, all models classified."""
    return task or Classification.name


__all__ = [
    "Classification",
    "Comparison",
    "Custom",
    "Estimate",
    "Metric",
    "Regression",
    "TargetCheck",
    "Task",
    "recorded",
]
