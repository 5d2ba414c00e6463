"""Which models there are: of this package, of other packages, of files named in settings."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.settings.models import DEFAULT_NAMESPACE

ENTRY_POINTS = "mlops_pipeline.models"
"""The entry point group under which a package registers its `ModelSpec`s."""
RESERVED = frozenset(
    {
        *("platform", "everything", "supervisor", "object_store", "gateway", "cluster"),
        *("ingress_nginx", "metallb", "istio", "seldon_core", "serving_image"),
    }
)
"""Names of layers and jobs, on any platform: a model of that name would stand in their place."""
_BUILT_IN = ("mlops_pipeline.catalog.iris:IRIS", "mlops_pipeline.catalog.mnist:MNIST")


@dataclass(frozen=True)
class RegisteredModel:
    """A model and where its spec stands, so that a worker process finds it again."""

    spec: ModelSpec
    source: str
    """`package.module:ATTRIBUTE` or `/path/to/file.py:ATTRIBUTE`."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    def source_digest(self) -> str:
        """Return the SHA-256 of the files that hold the loading and the training function.

        Raises:
            ConfigurationError: one of them is not a function of a file.
        """
        functions = (self.spec.dataset.load, self.spec.train)
        files = sorted({str(self._source_file(function)) for function in functions})
        return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()

    def _source_file(self, function: Callable[..., object]) -> Path:
        try:
            return Path(inspect.getfile(inspect.unwrap(function)))
        except TypeError as error:
            raise ConfigurationError(
                f"{function!r} of {self.name} is no function of a .py file; write it as one, so "
                "that a change of it is noticed"
            ) from error


def load_catalog(
    extra: Sequence[str] = (), *, datasets: Iterable[str] = (), namespace: str = DEFAULT_NAMESPACE
) -> tuple[RegisteredModel, ...]:
    """Return every model, sorted by name.

    `extra` names files (`path/to/wine.py`) or modules (`package.module`); every `ModelSpec` at
    their top level is registered. `datasets` names the models whose dataset is configured.
    `namespace` is where those are deployed that name no other one than the default.

    Raises:
        ConfigurationError: one cannot be imported or holds no spec, two share a name or a
            deployment, or a dataset is configured for a model that is not there.
    """
    found = [_resolve(source) for source in _BUILT_IN]
    found += [_resolve(point.value) for point in metadata.entry_points(group=ENTRY_POINTS)]
    for place in extra:
        # A file that imports a spec to derive its own from does not register the other again.
        known = {id(model.spec) for model in found}
        found += [model for model in _specs_in(place) if id(model.spec) not in known]
    models = tuple(_placed(m, namespace) for m in sorted(found, key=lambda model: model.name))
    _refuse_reserved(models)
    _refuse_duplicates(models)
    _refuse_unknown(datasets, models)
    return models


def _placed(model: RegisteredModel, namespace: str) -> RegisteredModel:
    server = model.spec.server
    if server.namespace != DEFAULT_NAMESPACE:
        return model
    server = replace(server, namespace=namespace)
    return replace(model, spec=replace(model.spec, server=server))


def load_model(source: str) -> ModelSpec:
    """Return the spec that `source` (see `RegisteredModel.source`) names.

    Raises:
        ConfigurationError: it cannot be imported, or is no `ModelSpec`.
    """
    return _resolve(source).spec


def _resolve(source: str) -> RegisteredModel:
    place, _, attribute = source.rpartition(":")
    spec = getattr(_import(place), attribute, None)
    if not isinstance(spec, ModelSpec):
        raise ConfigurationError(
            f"{source} is registered as a model, but is {type(spec).__name__} and no ModelSpec"
        )
    return RegisteredModel(spec, source)


def _specs_in(place: str) -> Iterator[RegisteredModel]:
    place = str(Path(place).resolve()) if place.endswith(".py") else place
    specs = {n: v for n, v in vars(_import(place)).items() if isinstance(v, ModelSpec)}
    if not specs:
        raise ConfigurationError(
            f"{place} is named in the setting `models`, but no ModelSpec stands at its top level"
        )
    for attribute, spec in specs.items():
        yield RegisteredModel(spec, f"{place}:{attribute}")


def _import(place: str) -> ModuleType:
    try:
        return (
            _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except (Exception, SystemExit) as error:  # any code may run in somebody's model file
        raise ConfigurationError(
            f"could not import the model file {place}: {type(error).__name__}: {error}; "
            "check the setting `models` and the installed packages"
        ) from error


def _import_file(path: Path) -> ModuleType:
    name = f"mlops_pipeline_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_reserved(models: Sequence[RegisteredModel]) -> None:
    for model in models:
        if model.name in RESERVED:
            raise ConfigurationError(
                f"{model.source} is called {model.name}, which names a part of a platform; "
                f"choose another name than {', '.join(sorted(RESERVED))}"
            )


def _refuse_unknown(datasets: Iterable[str], models: Sequence[RegisteredModel]) -> None:
    names = [model.name for model in models]
    for name in sorted(set(datasets) - set(names)):
        raise ConfigurationError(
            f"the setting `datasets.{name}` is of no model; there are: {', '.join(names)}"
        )


def _refuse_duplicates(models: Sequence[RegisteredModel]) -> None:
    names: dict[str, str] = {}
    for model in models:
        server = model.spec.server
        for key in (
            f"the name {model.name}",
            f"the deployment {server.namespace}/{server.deployment}",
        ):
            if key in names:
                raise ConfigurationError(
                    f"{names[key]} and {model.source} both use {key}; rename one of them"
                )
            names[key] = model.source
