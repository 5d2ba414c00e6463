"""The model frameworks: for each, its kind of artifacts and what serves them.

Only this table names them. A package adds a row by an entry point of the group
`mlops_pipeline.frameworks` that names a `Framework`. Standard library only.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlops_pipeline.serving.artifact import (
    LIGHTGBM_FILES,
    MLMODEL,
    ONNX_FILES,
    SAVED_MODEL,
    SKLEARN_FILES,
    XGBOOST_FILES,
    find_file,
    saved_models,
)
from mlops_pipeline.serving.custom.folder import FOUND_BY as COMPONENT_FOUND_BY
from mlops_pipeline.serving.custom.folder import find_version as find_component
from mlops_pipeline.serving.schema import ARRAY, FORMS, INPUTS, TABLE

ENTRY_POINTS = "mlops_pipeline.frameworks"
IMPLEMENTATION = "PREDICTIVE_UNIT_IMPLEMENTATION"
"""A server's variable with its unit's implementation. Seldon's operator does not set it, but our
manifests do: without it, the files of the folder say what loads them."""


@dataclass(frozen=True)
class Quantities:
    """A container's default resources, as Kubernetes writes quantities: `500m`, `1Gi`."""

    cpu: str = "50m"
    memory: str = "256Mi"
    memory_limit: str = "1Gi"


@dataclass(frozen=True)
class Framework:
    """A framework whose models this project trains and serves."""

    name: str
    """`framework` of a ModelSpec and of an artifact's manifest; also a table of settings."""
    implementation: str
    """`implementation` of a SeldonDeployment's graph."""
    title: str
    """Its name in messages."""
    icon: str
    """The asset kind that Dagster's UI shows."""
    loader: str
    """`module:function`: (folder, manifest) → signatures. Imported only if a model is loaded."""
    find: Callable[[Path], int | None]
    """Folder without a manifest → version of its model (1 if it has none); None: no model."""
    found_by: str
    """The file that `find` looks for, for messages."""
    libraries: tuple[str, ...]
    """Distributions whose versions affect an artifact."""
    image: str = "serving"
    """Stage of deploy/Dockerfile; or the full reference (`registry/name:tag`) of an image with
    the model server and the framework. Several frameworks may share one."""
    protocols: tuple[str, ...] = ("seldon", "v2")
    """Values of `spec.protocol` for which Seldon's operator gets an image."""
    is_upstream: bool = False
    """Seldon's chart has an image of its own for the implementation."""
    behind_forwarder: bool = False
    """Under `seldon`, the operator creates two containers: one that speaks it, before the
    server."""
    forms: tuple[str, ...] = (ARRAY,)
    """What its loader can give a model: forms of a `Schema`. Of MLflow: some flavour's loader."""
    resources: Quantities = Quantities()
    find_hint: Callable[[Path], str | None] = lambda folder: None
    """Folder in which `find` finds nothing → what it contains instead, and what to do."""
    files: tuple[str, ...] = ()
    """Names of a model that is one file, of which one is enough; empty: it is a folder."""
    content: str = ""
    """`module:function`: folder → name of a weight → SHA-256, without the bytes around it in the
    files. Called only after a training; empty: the files themselves."""
    training: str = ""
    """`module:ATTRIBUTE` of a `catalog.starting.Training`, which `mlops-pipeline new` writes;
    empty: there is no example."""
    reproducible: str = "unknown"
    """Whether the same inputs train to the same `bytes`, only to the same `content`, or to
    `neither`, on one machine with all seeds set; `unknown` where nobody measured it."""
    module: str = ""
    """Module of an optional library; empty: the library is always installed."""
    extra: str = ""
    """Extra of this package that installs that library."""

    def describe_missing(self) -> str | None:
        """Return which library is not installed here and what installs it, or None."""
        if not self.module or find_spec(self.module) is not None:
            return None
        return f"{self.title} is not installed here; install it: {self.installation()}"

    def installation(self) -> str:
        """Return the command that installs the optional library in this environment."""
        return f"`{sys.executable} -m pip install 'mlops-pipeline[{self.extra}]'`"


def _found(names: Sequence[str]) -> Callable[[Path], int | None]:
    """Return the function that looks for these files."""
    return lambda folder: 1 if find_file(folder, names) else None


def _find_unexported(folder: Path) -> str | None:
    """Say how a file of Keras, or a SavedModel without a number, becomes what is served."""
    for pattern in ("*.keras", "*.h5", "*.hdf5"):
        for file in sorted(folder.glob(pattern)):
            return (
                f"{file.name} is a file of Keras for training; export it there with `python -c "
                f"\"import keras; keras.saving.load_model('{file.name}').export('1')\"`, and use "
                "the folder 1 instead of the file"
            )
    if (folder / SAVED_MODEL).exists():
        return f"{SAVED_MODEL} must be in a numbered folder; move it and what is beside it to 1"
    return None


def _find_unnamed_class(folder: Path) -> str | None:
    """Say which class of a Python file may be meant, and how the folder names it."""
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if names := _CLASS.findall(text):
            return (
                f"{file.name} defines {', '.join(names)}: give the file the name of the class, "
                f'{names[0]}.py, or write {{"class": "{file.stem}:{names[0]}"}} to component.json '
                "beside it"
            )
    return None


_CLASS = re.compile(r"^class\s+(\w+)", re.MULTILINE)


SKLEARN = Framework(
    name="sklearn",
    implementation="SKLEARN_SERVER",
    title="scikit-learn",
    icon="scikitlearn",
    is_upstream=True,
    loader="mlops_pipeline.serving.sklearn_loader:load_sklearn",
    content="mlops_pipeline.catalog.contents:of_sklearn",
    training="mlops_pipeline.catalog.starting:SKLEARN",
    find=_found(SKLEARN_FILES),
    found_by=" or ".join(SKLEARN_FILES),
    files=SKLEARN_FILES,
    libraries=("scikit-learn", "numpy", "joblib"),
    forms=tuple(form for form in FORMS if form != INPUTS),
    reproducible="bytes",
)
TENSORFLOW = Framework(
    name="tensorflow",
    implementation="TENSORFLOW_SERVER",
    title="TensorFlow",
    icon="tensorflow",
    is_upstream=True,
    loader="mlops_pipeline.serving.tensorflow_loader:load_tensorflow",
    content="mlops_pipeline.catalog.contents:of_saved_models",
    training="mlops_pipeline.catalog.starting:TENSORFLOW",
    find=lambda folder: max(saved_models(folder), default=None),
    found_by=f"a numbered folder with {SAVED_MODEL}",
    find_hint=_find_unexported,
    libraries=("tensorflow", "tensorflow-cpu", "keras", "numpy"),
    reproducible="bytes",
    image="serving-tensorflow",
    protocols=("seldon", "tensorflow"),
    behind_forwarder=True,
    forms=FORMS,
    resources=Quantities(cpu="100m", memory="512Mi", memory_limit="2Gi"),
)
_SMALL = Quantities(memory="128Mi")
"""A server with a small model uses 86 to 98 MB."""
XGBOOST = Framework(
    name="xgboost",
    implementation="XGBOOST_SERVER",
    title="XGBoost",
    icon="xgboost",
    is_upstream=True,
    loader="mlops_pipeline.serving.xgboost_loader:load_xgboost",
    training="mlops_pipeline.catalog.starting:XGBOOST",
    find=_found(XGBOOST_FILES),
    found_by=" or ".join(XGBOOST_FILES),
    files=XGBOOST_FILES,
    libraries=("xgboost-cpu", "xgboost", "numpy"),
    forms=(ARRAY, TABLE),
    reproducible="bytes",
    module="xgboost",
    extra="xgboost",
    resources=_SMALL,
)
LIGHTGBM = Framework(
    name="lightgbm",
    implementation="LIGHTGBM_SERVER",
    title="LightGBM",
    icon="lightgbm",
    loader="mlops_pipeline.serving.lightgbm_loader:load_lightgbm",
    training="mlops_pipeline.catalog.starting:LIGHTGBM",
    find=_found(LIGHTGBM_FILES),
    found_by=" or ".join(LIGHTGBM_FILES),
    files=LIGHTGBM_FILES,
    libraries=("lightgbm", "numpy"),
    forms=(ARRAY, TABLE),
    reproducible="bytes",
    module="lightgbm",
    extra="lightgbm",
    resources=_SMALL,
)
ONNX = Framework(
    name="onnx",
    implementation="ONNX_SERVER",
    title="ONNX Runtime",
    icon="onnx",
    loader="mlops_pipeline.serving.onnx_loader:load_onnx",
    training="mlops_pipeline.catalog.starting:ONNX",
    find=_found(ONNX_FILES),
    found_by=" or ".join(ONNX_FILES),
    files=ONNX_FILES,
    libraries=("onnxruntime", "onnx", "numpy"),
    forms=(ARRAY, TABLE),
    reproducible="bytes",
    module="onnxruntime",
    extra="onnx",
    resources=_SMALL,
)
PYTHON = Framework(
    name="python",
    implementation="PYTHON_SERVER",
    title="Python component",
    icon="python",
    loader="mlops_pipeline.serving.python_loader:load_python",
    find=find_component,
    found_by=COMPONENT_FOUND_BY,
    find_hint=_find_unnamed_class,
    libraries=("numpy",),
)
_FLAVOURS = (SKLEARN, TENSORFLOW, XGBOOST, LIGHTGBM, ONNX)
"""What MLflow's models may be, each loaded by its own row's loader."""
MLFLOW = Framework(
    name="mlflow",
    implementation="MLFLOW_SERVER",
    title="MLflow",
    icon="mlflow",
    is_upstream=True,
    loader="mlops_pipeline.serving.mlflow_loader:load_mlflow",
    find=lambda folder: 1 if (folder / MLMODEL).is_file() else None,
    found_by=MLMODEL,
    libraries=(
        *("mlflow-skinny", "mlflow", "skops"),
        *dict.fromkeys(name for row in _FLAVOURS for name in row.libraries),
    ),
    forms=FORMS,
    content="mlops_pipeline.catalog.contents:of_mlflow",
    reproducible="content",
    extra="mlflow",
)
_OWN = (SKLEARN, TENSORFLOW, XGBOOST, LIGHTGBM, ONNX, MLFLOW, PYTHON)
FORWARDER = SKLEARN.implementation
"""The implementation whose image also forwards requests to a server behind it."""


@cache
def frameworks() -> tuple[Framework, ...]:
    """Return every framework: first those of this package, then those of entry points, by name."""
    return (*_OWN, *(row for row in _registered().values() if not isinstance(row, str)))


def find_framework(name: object) -> Framework | None:
    """Return the framework of that name, or None."""
    return next((row for row in frameworks() if row.name == name), None)


def find_served(implementation: object) -> Framework | None:
    """Return the framework that an implementation serves, or None."""
    return next((row for row in frameworks() if row.implementation == implementation), None)


def get_framework(name: object) -> Framework:
    """Return the framework of that name.

    Raises:
        LookupError: it is unknown; has the known names.
    """
    if (found := find_framework(name)) is None:
        raise LookupError(f"unknown framework {name!r}; known are {names()}")
    return found


def get_served(implementation: object) -> Framework:
    """Return the framework that an implementation serves.

    Raises:
        LookupError: it serves none; has the known implementations.
    """
    if (found := find_served(implementation)) is None:
        known = ", ".join(implementations())
        raise LookupError(f"{implementation!r} serves no framework; known are {known}")
    return found


def names() -> str:
    """Return the names of all frameworks, for messages, and which ones could not be loaded."""
    return "; ".join([", ".join(row.name for row in frameworks()), *_failures()])


def implementations() -> tuple[str, ...]:
    """Return the implementations of all frameworks."""
    return tuple(row.implementation for row in frameworks())


def _failures() -> Iterator[str]:
    for point, row in _registered().items():
        if isinstance(row, str):
            yield f"the entry point {point} of {ENTRY_POINTS} could not be used ({row})"


def entry_points(group: str) -> metadata.EntryPoints:
    """Return the entry points of a group. A search reads a file of every installed package."""
    found: metadata.EntryPoints = _all_entry_points(tuple(sys.path)).select(group=group)
    return found


@lru_cache(maxsize=1)
def _all_entry_points(_folders: tuple[str, ...]) -> Any:
    """Return all of them, in a class that depends on Python's version."""
    return metadata.entry_points()


@cache
def _registered() -> Mapping[str, Framework | str]:
    """Return entry point → its framework, or why it cannot be used."""
    found: dict[str, Framework | str] = {}
    taken = {word for row in _OWN for word in (row.name, row.implementation)}
    for point in sorted(entry_points(ENTRY_POINTS), key=lambda point: point.name):
        try:
            row = point.load()
        except Exception as error:  # noqa: BLE001  # another package's code
            found[point.name] = f"{type(error).__name__}: {error}"
            continue
        if not isinstance(row, Framework):
            found[point.name] = f"expected a Framework in {point.value}, got {type(row).__name__}"
        elif clash := taken & {row.name, row.implementation}:
            found[point.name] = f"another framework already uses {', '.join(sorted(clash))}"
        else:
            taken |= {row.name, row.implementation}
            found[point.name] = row
    return found
