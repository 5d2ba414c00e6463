"""scikit-learn: `model.joblib`, asked by `predict_proba`, `decision_function` or `predict`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import SKLEARN_FILE, Manifest
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.imports import import_sklearn
from mlops_pipeline.serving.models import Array, Signature
from mlops_pipeline.serving.settings import Parameter

import_sklearn()
import joblib  # noqa: E402 - scikit-learn first, without what it does not need
import sklearn  # noqa: E402

METHODS = ("predict_proba", "decision_function", "predict")


def load_sklearn(
    folder: Path, manifest: Manifest
) -> tuple[Mapping[str, Signature], Callable[[Mapping[str, Parameter]], Signature]]:
    """Load `folder/model.joblib`; the parameter `method` chooses the default output.

    Raises:
        StartError: it does not load.
    """
    file = folder / SKLEARN_FILE
    try:
        estimator = joblib.load(file)
        _use_one_job(estimator)  # It asks every part of it, which may be from another version.
    except Exception as error:
        raise StartError(
            f"{file} does not load with scikit-learn {sklearn.__version__}: "
            f"{type(error).__name__}: {error}",
            code=ExitCode.MODEL,
        ) from error
    methods = {name: getattr(estimator, name) for name in METHODS if hasattr(estimator, name)}
    signature = Signature(
        name="serving_default",
        input=manifest.inputs[0].name if manifest.inputs else "predict",
        row_shape=_row_shape(manifest, estimator),
        dtype=np.dtype(np.float64),
        outputs=tuple(methods),
        default_outputs=tuple(methods)[:1],
        compute=_caller(methods),
    )

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        return replace(signature, default_outputs=(_default_method(parameters, methods),))

    return {signature.name: signature}, choose


def _caller(
    methods: Mapping[str, Callable[[Array], Any]],
) -> Callable[[Array, Sequence[str]], Sequence[Array]]:
    """Return the function that calls the named methods with the rows."""

    def compute(rows: Array, names: Sequence[str]) -> list[Array]:
        return [np.asarray(methods[name](rows)) for name in names]

    return compute


def _default_method(parameters: Mapping[str, Parameter], methods: Mapping[str, object]) -> str:
    """Return the method to answer with: the parameter's, else the first the estimator has.

    Raises:
        StartError: the estimator has no such method.
    """
    method = str(parameters.get("method", next(iter(methods), "predict")))
    if method not in methods:
        raise StartError(
            f"The parameter method is {method!r}; the model has {', '.join(methods) or 'none'}.",
            code=ExitCode.SETTINGS,
        )
    return method


def _row_shape(manifest: Manifest, estimator: object) -> tuple[int, ...]:
    """Return the shape of a row: the manifest's, else as many numbers as the estimator was fit on.

    Raises:
        StartError: the two disagree, or neither says it.
    """
    fitted: int | None = getattr(estimator, "n_features_in_", None)
    if not manifest.inputs and fitted is None:
        raise StartError("Neither manifest nor model say a row's shape.", code=ExitCode.MODEL)
    shape = manifest.inputs[0].shape[1:] if manifest.inputs else (-1,)
    if fitted is not None and shape not in ((fitted,), (-1,)):
        raise StartError(
            f"The manifest says rows of shape {list(shape)}, the model was fit on {fitted}.",
            code=ExitCode.MODEL,
        )
    return (fitted,) if fitted is not None else shape


def _use_one_job(estimator: Any) -> None:
    """Let no estimator inside start a pool of threads per request."""
    names = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    estimator_jobs = {name: 1 for name in names if name.split("__")[-1] == "n_jobs" and names[name]}
    if estimator_jobs:
        estimator.set_params(**estimator_jobs)
