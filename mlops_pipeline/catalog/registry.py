"""Finds the models of this package, of other packages, and of files in the settings."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from mlops_pipeline.catalog.spec import InvalidSpecError, ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.serving.frameworks import entry_points
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE

ENTRY_POINTS = "mlops_pipeline.models"
"""The entry point group under which a package registers its `ModelSpec`s."""
RESERVED = frozenset({"platform", "everything"})
"""Names of jobs. A model with that name would replace them."""
_BUILT_IN = ("mlops_pipeline.catalog.iris:IRIS", "mlops_pipeline.catalog.mnist:MNIST")


@dataclass(frozen=True)
class RegisteredModel:
    """A model and the location of its spec, so that a worker process can find it."""

    spec: ModelSpec
    source: str
    """`package.module:ATTRIBUTE` or `/path/to/file.py:ATTRIBUTE`."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    def source_digest(self) -> str:
        """Return the SHA-256 of the files that define the spec's functions, and of its `sources`.

        Raises:
            ConfigurationError: one of them is not defined in a file.
        """
        if (reason := self.describe_sources()) is not None:
            raise ConfigurationError(RefusedModel(self.name, self.source, reason).describe())
        files = sorted({str(_source_file(function)) for function in self._functions})
        code = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files))
        for source in self.spec.sources:
            code.update(_content(source))
        return code.hexdigest()

    @property
    def folder(self) -> Path:
        """The folder of the file that defines how it is trained; the working directory if none."""
        file = _source_file(self.spec.train)
        return file.parent if file is not None else Path.cwd()

    def describe_sources(self) -> str | None:
        """Return why changes in its functions cannot be detected, or None if they can."""
        for function in self._functions:
            if (file := _source_file(function)) is None or not file.is_file():
                return (
                    f"{function!r} is not defined in a .py file; move it to one, so that changes "
                    "are detected"
                )
        return None

    @property
    def _functions(self) -> tuple[Callable[..., object], ...]:
        return (self.spec.dataset.load, self.spec.train, *self.spec.task.functions())


@dataclass(frozen=True)
class RefusedModel:
    """A registered model that cannot be used, and why. It does not affect the others."""

    name: str
    """The model's name; empty if its file fails before it defines the name."""
    source: str
    """Where it is registered: `RegisteredModel.source`, or only the file or module."""
    reason: str
    """The problem, and what is allowed."""

    @property
    def label(self) -> str:
        """The model's name, otherwise the name of its file, module or attribute."""
        place, _, attribute = self.source.partition(":")
        file = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
        return self.name or attribute.lower() or file

    def describe(self) -> str:
        """Return all of this in one sentence."""
        return f"the model {self.label} of {self.source} is refused: {self.reason}"


@dataclass(frozen=True)
class Catalog:
    """The registered models: valid ones and refused ones."""

    models: tuple[RegisteredModel, ...]
    """Sorted by name."""
    refused: tuple[RefusedModel, ...] = ()


def load_catalog(
    extra: Sequence[str] = (),
    *,
    datasets: Iterable[str] = (),
    namespace: str = DEFAULT_NAMESPACE,
    reserved: Iterable[str] = (),
) -> Catalog:
    """Return every model.

    `extra` names files (`path/to/wine.py`) or modules (`package.module`); every `ModelSpec` at
    their top level is registered. `datasets` names the models whose dataset is configured.
    `namespace` replaces the default namespace. `reserved` are the names of layers: like those of
    the jobs, no model may have them.

    A model is refused if its file cannot be imported or defines no spec, if its spec is invalid, or
    if its name or deployment is reserved or belongs to an earlier model. The order is: models of
    this package, then of entry points, then of `extra`.

    Raises:
        ConfigurationError: a dataset is configured for a model that does not exist.
    """
    found: list[RegisteredModel] = []
    refused: list[RefusedModel] = []
    for place in (*_BUILT_IN, *_entry_points(), *extra):
        # A file may import a spec to derive its own from it. That does not register it again.
        known = {id(model.spec) for model in found}
        try:
            found += [model for model in _registered_by(place) if id(model.spec) not in known]
        except _RefusedError as error:
            refused.append(error.model)
    taken: dict[str, str] = {}
    usable: list[RegisteredModel] = []
    kept = RESERVED | frozenset(reserved)
    for model in [_placed(model, namespace) for model in found]:
        if reason := _describe_clash(model, taken, kept) or model.describe_sources():
            refused.append(RefusedModel(model.name, model.source, reason))
        else:
            usable.append(model)
    models = tuple(sorted(usable, key=lambda model: model.name))
    if all(model.name for model in refused):  # Otherwise it may be the model with the unknown name.
        _refuse_unknown(datasets, [*(m.name for m in models), *(m.name for m in refused)])
    return Catalog(models, tuple(refused))


class _RefusedError(Exception):
    """The content of a source cannot be used."""

    def __init__(self, place: str, reason: str, *, name: str = "") -> None:
        super().__init__(reason)
        self.model = RefusedModel(name, place, reason)


def _entry_points() -> list[str]:
    """Return the entries of packages, in an order that does not depend on their folders."""
    points = [(p.name, p.value) for p in entry_points(ENTRY_POINTS)]
    return [value for _, value in sorted(points)]


def _registered_by(place: str) -> list[RegisteredModel]:
    """Return the models of a file, a module, or the one of `package.module:ATTRIBUTE`."""
    return [_resolve(place)] if ":" in Path(place).name else list(_specs_in(place))


def _source_file(function: Callable[..., object]) -> Path | None:
    try:
        return Path(inspect.getfile(inspect.unwrap(function)))
    except TypeError:
        return None


def _content(source: Path) -> bytes:
    """Return the names and contents of a file, or of every file in a folder.

    Raises:
        ConfigurationError: it cannot be read.
    """
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    try:
        return b"".join(
            path.relative_to(source.parent).as_posix().encode() + b"\0" + path.read_bytes()
            for path in files
            if path.is_file() and "__pycache__" not in path.parts
        )
    except OSError as error:
        raise ConfigurationError(
            f"could not read the source {source} of a model: {error}"
        ) from error


def _placed(model: RegisteredModel, namespace: str) -> RegisteredModel:
    server = model.spec.server
    if server.namespace != DEFAULT_NAMESPACE:
        return model
    server = replace(server, namespace=namespace)
    return replace(model, spec=replace(model.spec, server=server))


def load_model(source: str) -> ModelSpec:
    """Return the spec that `source` (see `RegisteredModel.source`) names.

    Raises:
        ConfigurationError: it cannot be imported, or is not a `ModelSpec`.
    """
    try:
        return _resolve(source).spec
    except _RefusedError as error:
        raise ConfigurationError(error.model.describe()) from error


def _resolve(source: str) -> RegisteredModel:
    place, _, attribute = source.rpartition(":")
    spec = getattr(_import(place, registered=source), attribute, None)
    if not isinstance(spec, ModelSpec):
        raise _RefusedError(
            source, f"{attribute} of {place} is {type(spec).__name__}; it must be a ModelSpec"
        )
    return RegisteredModel(spec, source)


def _specs_in(place: str) -> Iterator[RegisteredModel]:
    place = str(Path(place).resolve()) if place.endswith(".py") else place
    specs = {n: v for n, v in vars(_import(place)).items() if isinstance(v, ModelSpec)}
    if not specs:
        raise _RefusedError(place, "the setting `models` names it, but it defines no ModelSpec")
    for attribute, spec in specs.items():
        yield RegisteredModel(spec, f"{place}:{attribute}")


def _import(place: str, *, registered: str = "") -> ModuleType:
    try:
        return (
            _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except InvalidSpecError as error:
        reason = f"{'; '.join(error.reasons)}{_line_of(error, place)}"
        raise _RefusedError(registered or place, reason, name=error.name) from error
    except (Exception, SystemExit) as error:  # A model file may run any code.
        raise _RefusedError(
            registered or place,
            f"could not import it: {type(error).__name__}: {error}{_line_of(error, place)}; "
            "correct the file, the setting `models` or the installed packages",
        ) from error


def _line_of(error: BaseException, place: str) -> str:
    """Return ` (line 7)`: the last line of the model's own file in the traceback."""
    file = Path(place).name if place.endswith(".py") else f"{place.rpartition('.')[2]}.py"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == file]
    return f" (line {lines[-1]})" if lines else ""


def _import_file(path: Path) -> ModuleType:
    name = f"mlops_pipeline_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("the file does not exist")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _describe_clash(
    model: RegisteredModel, taken: dict[str, str], reserved: frozenset[str]
) -> str | None:
    """Return which of its names is reserved or in use; otherwise register its names."""
    if model.name in reserved:
        return (
            f"the name {model.name} is reserved for a part of a platform; choose a name other "
            f"than {', '.join(sorted(reserved))}"
        )
    server = model.spec.server
    names = (f"name {model.name}", f"deployment {server.namespace}/{server.deployment}")
    for name in names:
        if name in taken:
            return f"{taken[name]} already has the {name}; rename one of them"
    taken.update(dict.fromkeys(names, model.source))
    return None


def _refuse_unknown(datasets: Iterable[str], names: Sequence[str]) -> None:
    for name in sorted(set(datasets) - set(names)):
        raise ConfigurationError(
            f"unknown model in the setting `datasets.{name}`; models: {', '.join(names)}"
        )
