"""MLflow models: a folder with `MLmodel`, loaded by the loader of its flavour.

The flavours sklearn, xgboost, lightgbm, onnx and tensorflow need no MLflow. `python_function` is
loaded by MLflow in a process of its own, like a custom component, because it may run any code.

https://mlflow.org/docs/latest/ml/model/
"""

import importlib
import platform
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.serving import frameworks
from mlops_pipeline.serving.artifact import MLMODEL, SAVED_MODEL, Manifest
from mlops_pipeline.serving.custom import options
from mlops_pipeline.serving.custom.process import ComponentProcess
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.mlflow_versions import check_versions
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.python_loader import signature_of
from mlops_pipeline.serving.schema import ARRAY
from mlops_pipeline.serving.settings import Parameter
from mlops_pipeline.serving.signatures import DEFAULT, Signatures, by_method

PYTHON_FUNCTION = "python_function"
IGNORE = "ignore_versions"
"""Parameter: serve the model although it was trained with other versions."""
_XTYPE = "xtype"
_PICKLES = (".pkl", ".pickle", ".joblib")
Flavour = Mapping[str, Any]


def load_mlflow(folder: Path, manifest: Manifest) -> Signatures:
    """Load the model in `folder` by the first of its flavours that can be served.

    The default method of an estimator is `predict`, as in MLflow, unless the manifest names
    another one; a Booster of a classification answers with probabilities. The parameter
    `ignore_versions` disables the comparison of library versions.

    Raises:
        StartError: `MLmodel` cannot be read, no flavour can be served, or the model does not load.
    """
    flavours = read_flavours(folder)
    reasons = []
    for name, open_flavour in _FLAVOURS.items():
        if name not in flavours:
            continue
        flavour = flavours[name]
        reason = _describe_unservable(name, flavour, folder) or _describe_form(name, manifest)
        if reason:
            reasons.append(f"{name} {reason}")
            continue
        loaded = open_flavour(folder, flavour, manifest)
        return _checked(loaded, folder, name, flavours)
    known = ", ".join(_FLAVOURS)
    there = "; ".join(reasons) or f"it has {', '.join(flavours) or 'none'}"
    raise _invalid(f"{folder / MLMODEL} has no flavour that can be served ({known}): {there}")


def read_flavours(folder: Path) -> Mapping[str, Flavour]:
    """Return the flavours in `MLmodel`: name → its fields.

    Raises:
        StartError: the file is missing, not YAML, or has no flavours.
    """
    file = folder / MLMODEL
    try:
        document = yaml.safe_load(file.read_bytes())
        flavours = {name: dict(fields) for name, fields in document["flavors"].items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        problem = " ".join(str(error).split())[:300]
        raise _invalid(
            f"{file} is not the description of an MLflow model, which has `flavors`: {problem}"
        ) from error
    return flavours


def _describe_unservable(name: str, flavour: Flavour, folder: Path) -> str | None:
    """Return why the flavour is not loaded by our loader, or by MLflow."""
    if name == PYTHON_FUNCTION:
        if find_spec("mlflow") is None:
            return f"needs MLflow; install it: {frameworks.MLFLOW.installation()}"
        return None
    if flavour.get("code"):
        return "has modules of its own, which only python_function imports"
    try:
        file = _data(folder, name, flavour)
    except StartError as error:
        return f"is incomplete: {error}".rstrip(".")
    if name == "tensorflow" and not (file / SAVED_MODEL).is_file():
        return (
            f"is a Keras model ({file.name}), not a SavedModel; write it with "
            "model.export(FOLDER) and log that SavedModel"
        )
    if file.suffix == ".skops" and find_spec("skops") is None:
        return f"needs skops; install it: {frameworks.MLFLOW.installation()}"
    own = frameworks.find_framework(name)
    missing = own.describe_missing() if own else None
    return f"cannot be loaded: {missing}" if missing else None


def _describe_form(name: str, manifest: Manifest) -> str | None:
    """Return why the flavour does not take the rows of the schema; None: it does."""
    form = manifest.schema.form if manifest.schema else ARRAY
    own = frameworks.find_framework(name)
    forms = own.forms if own else (ARRAY,)
    return None if form in forms else f"does not take a {form}; it takes: {', '.join(forms)}"


_FILES = {
    "sklearn": ("pickled_model", "model.pkl"),
    "tensorflow": ("saved_model_dir", "tfmodel"),
    "xgboost": ("data", "model.ubj"),
    "lightgbm": ("data", "model.lgb"),
    "onnx": ("data", "model.onnx"),
}
"""Flavour → its field with the path of the model, and MLflow's default."""


def _data(folder: Path, name: str, flavour: Flavour) -> Path:
    """Return the file or folder of a flavour's model.

    Raises:
        StartError: it does not exist, or is outside of the model's folder.
    """
    field, usual = _FILES[name]
    path = folder / str(flavour.get(field, usual))
    if not path.resolve().is_relative_to(folder.resolve()) or not path.exists():
        raise _invalid(f"{MLMODEL} names {flavour.get(field, usual)!r}, which is not in {folder}")
    return path


def _estimator(name: str) -> Callable[[Path, Flavour, Manifest], Signatures]:
    """Return the function that opens the flavour of a library with estimators."""

    def open_flavour(folder: Path, flavour: Flavour, manifest: Manifest) -> Signatures:
        file = _data(folder, name, flavour)
        preferred = "predict"
        if file.suffix == ".skops" or name == "sklearn" or file.suffix in _PICKLES:
            from mlops_pipeline.serving import sklearn_loader

            trusted = list(flavour.get("skops_trusted_types") or [])
            read = _skops(trusted) if file.suffix == ".skops" else sklearn_loader.load_pickle
            return sklearn_loader.read_estimator(file, manifest, read=read, preferred=preferred)
        signatures, choose = _own(name)(file, manifest)
        evaluated = [output.name for output in manifest.outputs[:1]]
        if not evaluated and str(flavour.get("model_class", "")).endswith("Booster"):
            return signatures, choose
        own = signatures[DEFAULT]
        first = next((n for n in (*evaluated, preferred) if n in own.outputs), None)
        return signatures, lambda parameters: by_method(own, parameters, first)

    return open_flavour


def _skops(trusted: list[str]) -> Callable[[Path], object]:
    """Return the function that reads a file of skops.

    It makes objects only of types that skops trusts, or the model names: so a model that names
    others may run their code.
    """

    def read(file: Path) -> object:
        io: Any = importlib.import_module("skops.io")
        return io.load(file, trusted=trusted)

    return read


def _tensors(name: str) -> Callable[[Path, Flavour, Manifest], Signatures]:
    """Return the function that opens a flavour whose model has named inputs and outputs."""
    return lambda folder, flavour, manifest: _own(name)(_data(folder, name, flavour), manifest)


def _own(name: str) -> Callable[[Path, Manifest], Signatures]:
    """Return our loader of a framework.

    Raises:
        StartError: its library is not installed here.
    """
    module, _, function = frameworks.get_framework(name).loader.partition(":")
    try:
        loader: Callable[[Path, Manifest], Signatures] = getattr(
            importlib.import_module(module), function
        )
    except ImportError as error:
        raise _invalid(
            f"The MLflow model has the flavour {name}, which cannot be loaded here: {error}; serve "
            f"it where this library is installed"
        ) from error
    return loader


def _python_function(folder: Path, flavour: Flavour, manifest: Manifest) -> Signatures:
    """Load the model by MLflow, in a process of its own."""
    wanted = str(flavour.get("python_version", "")).split(".")[:2]
    here = platform.python_version_tuple()[:2]
    if flavour.get("python_model") and wanted != [""] and tuple(wanted) != here:
        raise _invalid(
            f"{folder} was written with Python {'.'.join(wanted)}, and its code is pickled for it, "
            f"but this is Python {'.'.join(here)}; log the model again with this version"
        )

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        given, limits = options.split(parameters)
        process = ComponentProcess(
            folder,
            "mlops_pipeline.serving.custom.pyfunc",
            "PyFunc",
            given,
            options.read(limits),
            limits=limits,
        )
        return signature_of(manifest, process)

    return {DEFAULT: signature_of(manifest)}, choose


def _checked(
    loaded: Signatures, folder: Path, name: str, flavours: Mapping[str, Flavour]
) -> Signatures:
    """Compare versions when the parameters are known, unless they say not to."""
    signatures, choose = loaded

    def choose_checked(parameters: Mapping[str, Parameter]) -> Signature:
        ignores = str(parameters.get(IGNORE, "false")).lower()
        if ignores not in ("true", "false"):
            raise StartError(
                f"The parameter {IGNORE} must be true or false, got {ignores!r}.",
                code=ExitCode.SETTINGS,
            )
        if ignores == "false":
            check_versions(folder, name, flavours[name])
        # Seldon's own server passes rows by xtype; our loaders take no data frames.
        ours = (IGNORE,) if name == PYTHON_FUNCTION else (IGNORE, _XTYPE)
        return choose({key: value for key, value in parameters.items() if key not in ours})

    return signatures, choose_checked


_FLAVOURS: Mapping[str, Callable[[Path, Flavour, Manifest], Signatures]] = {
    "tensorflow": _tensors("tensorflow"),
    "xgboost": _estimator("xgboost"),
    "lightgbm": _estimator("lightgbm"),
    "onnx": _tensors("onnx"),
    "sklearn": _estimator("sklearn"),
    PYTHON_FUNCTION: _python_function,
}
"""In the order in which they are tried: `python_function` is there beside every other one."""


def _invalid(sentence: str) -> StartError:
    return StartError(f"{sentence}.", code=ExitCode.MODEL)
