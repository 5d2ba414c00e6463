"""What a model is: everything the life cycle needs to know of it, in one `ModelSpec`.

The functions of a spec run in a worker process of their own (`catalog/worker.py`); import
scikit-learn or TensorFlow inside them, so that the definitions stay quick to import.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import faults
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE, check_resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

Hyperparameters = Mapping[str, float | int | str]


class InvalidSpecError(ValueError):
    """A `ModelSpec` that cannot work; names the model, each wrong field and what is allowed."""

    def __init__(self, name: object, reasons: Sequence[str]) -> None:
        super().__init__(f"the ModelSpec {name!r} is invalid: {'; '.join(reasons)}")
        self.name = name if isinstance(name, str) else ""
        """The model's name; empty where that is wrong too."""
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Dataset:
    """Training rows and hold-out rows of a classification task."""

    x_train: "NDArray[Any]"
    """Features, float, shape [n, features]."""
    y_train: "NDArray[Any]"
    """Class numbers, integer, shape [n]."""
    x_test: "NDArray[Any]"
    """Hold-out features, shape [m, features]; never seen in training."""
    y_test: "NDArray[Any]"
    """Hold-out class numbers, shape [m]."""


@dataclass(frozen=True)
class DatasetSpec:
    """Where a dataset comes from and what it must look like."""

    load: Callable[[Path | None], Dataset]
    """File or folder configured for it (None: the one that comes with the model) → the data."""
    features: int
    """Columns of x."""
    classes: tuple[str, ...]
    """Name of each class number."""
    value_range: tuple[float, float] | None = None
    """Least and greatest value that a feature may have; None: any finite number."""
    feature_names: tuple[str, ...] = ()
    """Name of each column of x, for people and their files; empty: `x0`, `x1` …"""

    def names(self) -> tuple[str, ...]:
        """Return a name for each column of x."""
        return self.feature_names or tuple(f"x{number}" for number in range(self.features))


@dataclass(frozen=True)
class TrainedModel:
    """What a training function hands back, its files being written."""

    predict: "Callable[[NDArray[Any]], NDArray[Any]]"
    """The model in memory: rows [n, features] → scores [n, outputs], as its server will answer."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Name of a curve → its value after each epoch."""


@dataclass(frozen=True)
class ServerSpec:
    """How the model is served: the parts of its SeldonDeployment.

    Raises:
        ValueError: its processors or memory are what no cluster takes.
    """

    implementation: str
    """That of the framework in `serving/frameworks.py`."""
    deployment: str
    """`metadata.name` of the SeldonDeployment."""
    graph: str
    """Name of the graph's unit: the model's name in V2 and TF Serving URLs."""
    namespace: str = DEFAULT_NAMESPACE
    predictor: str = "default"
    replicas: int = 1
    parameters: tuple[tuple[str, str], ...] = ()
    cpu: str = ""
    """Processors kept for each server that is a pod: `0.5`, `500m`; empty: the platform's usual."""
    memory: str = ""
    """Memory kept for it: `512Mi`."""
    memory_limit: str = ""
    """Memory that it is ended at."""

    def __post_init__(self) -> None:
        try:
            check_resources(cpu=self.cpu, memory=self.memory, memory_limit=self.memory_limit)
        except ValueError as error:
            raise ValueError(f"the server of {self.deployment}: {error}") from error


@dataclass(frozen=True)
class Thresholds:
    """When a model is good enough."""

    min_accuracy: float
    """Least accuracy on the hold-out set, 0 to 1."""
    max_accuracy_drop: float = 0.02
    """How much less accurate than the deployed version it may be."""
    max_p99_ms: float = 100.0
    """Greatest 99th percentile of the latency of single-row requests through the gateway, ms."""
    tolerance: float = 1e-4
    """Greatest difference between a served and an offline score."""


@dataclass(frozen=True)
class ModelSpec:
    """One model of the catalog.

    Registering a spec gives it its assets, checks, jobs, schedule and deployment on every platform.

    Raises:
        InvalidSpecError: a field holds what cannot work; names every such field.
    """

    name: str
    description: str
    framework: str
    """Name of a row of `serving/frameworks.py`."""
    dataset: DatasetSpec
    train: Callable[[Dataset, Hyperparameters, Path], TrainedModel]
    """Trains, writes the served files into the (empty) folder, returns the model in memory."""
    server: ServerSpec
    thresholds: Thresholds
    hyperparameters: Hyperparameters = field(default_factory=dict)
    training_timeout: float = 600.0
    """Seconds after which a training is ended."""
    output_names: tuple[str, ...] = ()
    """`data.names` of an answer; empty: `t:0`, `t:1` …"""
    example: tuple[float, ...] = ()
    """A row for `curl`; empty: the first row of the hold-out set."""

    def __post_init__(self) -> None:
        parts = {"dataset": DatasetSpec, "server": ServerSpec, "thresholds": Thresholds}
        reasons = [
            f"{field} is {getattr(self, field)!r}; it must be a {kind.__name__}"
            for field, kind in parts.items()
            if not isinstance(getattr(self, field), kind)
        ]
        if reasons := reasons or list(faults.of_model(self)):
            raise InvalidSpecError(self.name, reasons)
