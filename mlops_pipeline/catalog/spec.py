"""The `ModelSpec`: everything that the life cycle needs to know about a model.

The functions of a spec run in a separate worker process (`catalog/worker.py`). Import scikit-learn
or TensorFlow inside them, so that the definitions can be imported quickly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import faults
from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.catalog.tasks import Classification, Metric, Task
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.schema import ARRAY, Schema
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE, check_resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

Hyperparameters = Mapping[str, float | int | str]


class InvalidSpecError(ValueError):
    """An invalid `ModelSpec`; names the model, each invalid field and what is allowed."""

    def __init__(self, name: object, reasons: Sequence[str]) -> None:
        super().__init__(f"the ModelSpec {name!r} is invalid: {'; '.join(reasons)}")
        self.name = name if isinstance(name, str) else ""
        """The model's name; empty if it is invalid too."""
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Dataset:
    """Training rows and hold-out rows."""

    x_train: Any
    """Features, float, shape [n, features]. With a schema also a data frame, strings [n], or a dict
    of an array [n, …] for each of several inputs."""
    y_train: "NDArray[Any]"
    """Targets, shape [n]: class numbers (integers), or numbers."""
    x_test: Any
    """Hold-out features, as `x_train`; never seen in training."""
    y_test: "NDArray[Any]"
    """Hold-out targets, shape [m]."""


@dataclass(frozen=True)
class DatasetSpec:
    """Source of a dataset, and its required properties."""

    load: Callable[[Path | None], Dataset]
    """Configured file or folder (None: the model's default) → the data."""
    features: int = 0
    """Columns of x; 0: those of the schema."""
    classes: tuple[str, ...] = ()
    """Of a classification: name of each class number."""
    value_range: tuple[float, float] | None = None
    """Minimum and maximum of every feature; None: any finite number."""
    feature_names: tuple[str, ...] = ()
    """Name of each column of x, for the UI and data files; empty: `x0`, `x1` …"""
    target_range: tuple[float, float] | None = None
    """Minimum and maximum of a target that is a number; None: any finite number."""
    schema: Schema | None = None
    """Columns of x, checked when the data are loaded and in each request; None: numbers."""

    def __post_init__(self) -> None:
        if isinstance(self.schema, Schema) and isinstance(self.schema.columns, tuple):
            if self.features == 0:
                object.__setattr__(self, "features", len(self.schema.columns))
            if not self.feature_names and not any(self.schema.faults()):
                object.__setattr__(self, "feature_names", self.schema.names)

    @property
    def has_cells(self) -> bool:
        """Whether rows are of a table or strings, and not arrays of numbers."""
        return self.schema is not None and self.schema.form != ARRAY

    def names(self) -> tuple[str, ...]:
        """Return a name for each column of x."""
        return self.feature_names or tuple(f"x{number}" for number in range(self.features))


@dataclass(frozen=True)
class TrainedModel:
    """Result of a training function, after it has written its files."""

    predict: "Callable[[NDArray[Any]], NDArray[Any]]"
    """The model in memory: rows [n, features] → predictions [n, outputs] or [n], as the server
    returns them. Rows are of the type of `Dataset.x_test`."""
    inputs: tuple[Tensor, ...]
    """Of a dataset with a schema: may be empty; it has the tensors of its columns."""
    outputs: tuple[Tensor, ...]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Name of a curve → its value after each epoch."""


def trained_elsewhere(
    dataset: Dataset, hyperparameters: Hyperparameters, folder: Path
) -> TrainedModel:
    """Stand for `train` in the spec of a model that is only published or imported.

    `up` then deploys the artifact that was published last.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "this model is trained elsewhere; publish its files with `mlops-pipeline publish`"
    )


@dataclass(frozen=True)
class AnswersSpec:
    """How the answers of a model are recorded, if the settings enable `answers`."""

    record: bool = True
    """Whether rows are recorded at all."""
    sample: float | None = None
    """Share of the successful answers that is recorded, 0 to 1; None: that of the settings."""
    per_second: int | None = None
    """Maximum of recorded answers per second and server; None: that of the settings."""
    mask: tuple[str, ...] = ()
    """Columns of the dataset that never leave the server; those that the settings mask are masked
    too."""


@dataclass(frozen=True)
class ServerSpec:
    """How the model is served: its SeldonDeployment.

    Raises:
        ValueError: its CPU or memory is invalid.
    """

    implementation: str
    """Implementation of the framework in `serving/frameworks.py`."""
    deployment: str
    """`metadata.name` of the SeldonDeployment."""
    graph: str
    """Name of the graph's unit: the model's name in V2 and TF Serving URLs."""
    namespace: str = DEFAULT_NAMESPACE
    predictor: str = "default"
    replicas: int = 1
    parameters: tuple[tuple[str, str], ...] = ()
    max_batch_size: int | None = None
    """Maximum of rows in a call of the model that several requests share; 0 or 1: each request is
    computed alone; None: the server's default. It is the graph parameter of that name."""
    max_batch_time: float | None = None
    """Time in seconds for which a request waits for others to share its call; None: the server's
    default, 0. It is the graph parameter of that name."""
    cpu: str = ""
    """CPU request of a server that runs as a pod: `0.5`, `500m`; empty: the platform's default."""
    memory: str = ""
    """Memory request: `512Mi`; empty: the platform's default."""
    memory_limit: str = ""
    """Memory limit: a server that exceeds it is killed; empty: the platform's default."""
    answers: AnswersSpec = field(default_factory=AnswersSpec)
    """How its answers are recorded, where that differs from the settings."""

    def __post_init__(self) -> None:
        try:
            check_resources(cpu=self.cpu, memory=self.memory, memory_limit=self.memory_limit)
        except ValueError as error:
            raise ValueError(f"the server of {self.deployment}: {error}") from error

    def graph_parameters(self) -> tuple[tuple[str, str], ...]:
        """Return (name, value) of every parameter of the graph's unit."""
        limits = {"max_batch_size": self.max_batch_size, "max_batch_time": self.max_batch_time}
        given = tuple((name, f"{value:g}") for name, value in limits.items() if value is not None)
        return (*self.parameters, *given)


@dataclass(frozen=True)
class Thresholds:
    """Required quality of a model."""

    limits: Mapping[str, float] = field(default_factory=dict)
    """Name of a metric of the task → the worst value on the hold-out set that passes: a minimum if
    higher is better, else a maximum. The first metric is the one that tables show, and by which
    the model is compared with the deployed version."""
    max_loss: float | None = None
    """Maximum loss of the first metric, compared with the deployed version; None: the metric's
    default, 0.02 for accuracy and R², else 0."""
    max_p99_ms: float = 100.0
    """Maximum 99th percentile of the latency of single-row requests through the gateway, ms."""
    tolerance: float = 1e-4
    """Maximum difference between a served and an offline score, divided by that score's
    size, which counts as at least 1, or as the largest of the hold-out set if that is smaller."""
    min_accuracy: InitVar[float | None] = None
    """Short for `limits={"accuracy": …}`."""
    max_accuracy_drop: InitVar[float | None] = None
    """Short for `max_loss`."""

    def __post_init__(self, min_accuracy: float | None, max_accuracy_drop: float | None) -> None:
        if min_accuracy is not None:
            object.__setattr__(self, "limits", {**self.limits, "accuracy": min_accuracy})
        if max_accuracy_drop is not None:
            object.__setattr__(self, "max_loss", max_accuracy_drop)


@dataclass(frozen=True)
class ModelSpec:
    """One model of the catalog.

    A registered spec gets assets, checks, jobs, a schedule and a deployment on every platform.

    Raises:
        InvalidSpecError: a field is invalid; names every such field.
    """

    name: str
    description: str
    framework: str
    """Name of a row of `serving/frameworks.py`."""
    dataset: DatasetSpec
    train: Callable[[Dataset, Hyperparameters, Path], TrainedModel]
    """Trains, writes the files for serving to the empty folder, returns the model in memory.
    `trained_elsewhere`: artifacts are only published."""
    server: ServerSpec
    thresholds: Thresholds
    task: Task = field(default_factory=Classification)
    """What it predicts: `Classification`, `Regression` or `Custom` of `catalog.tasks`."""
    hyperparameters: Hyperparameters = field(default_factory=dict)
    training_timeout: float = 600.0
    """Timeout of a training in seconds."""
    output_names: tuple[str, ...] = ()
    """`data.names` of an answer; empty: `t:0`, `t:1` …"""
    sources: tuple[Path, ...] = ()
    """Further files and folders that the training uses, such as the code of a custom component: if
    one of them changes, the model is trained again."""
    example: tuple[Any, ...] = ()
    """A row for `curl`; empty: the first row of the hold-out set."""
    trains_reproducibly: bool = False
    """Whether the check of that name trains each artifact a second time and compares both."""
    release: ReleaseSpec = field(default_factory=ReleaseSpec)
    """How a new version gets the traffic."""

    def __post_init__(self) -> None:
        parts = {
            "dataset": DatasetSpec,
            "server": ServerSpec,
            "task": Task,
            "thresholds": Thresholds,
            "release": ReleaseSpec,
        }
        reasons = [
            f"{field} is {getattr(self, field)!r}; it must be a {kind.__name__}"
            for field, kind in parts.items()
            if not isinstance(getattr(self, field), kind)
        ]
        if reasons := reasons or list(faults.of_model(self)):
            raise InvalidSpecError(self.name, reasons)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that have a threshold; the first one is the main metric."""
        found = (self.task.find_metric(name) for name in self.thresholds.limits)
        return tuple(metric for metric in found if metric is not None)

    @property
    def metric(self) -> Metric:
        """The main metric: tables show it, and versions are compared by it."""
        return self.metrics[0]

    @property
    def max_loss(self) -> float:
        """Maximum loss of the main metric beside the deployed version, in the metric's unit."""
        given = self.thresholds.max_loss
        return self.metric.usual_loss if given is None else given
