"""scikit-learn: `model.joblib` or a pickle, called by `predict_proba` or another method."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import SKLEARN_FILES, Manifest
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.imports import import_sklearn
from mlops_pipeline.serving.inferred import schema_of
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.schema import ARRAY, TEXT, Schema
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.settings import Parameter
from mlops_pipeline.serving.signatures import (
    DEFAULT,
    Signatures,
    by_method,
    damaged,
    model_file,
    row_shape,
)

import_sklearn()
import joblib  # noqa: E402 - scikit-learn first, without what it does not need
import sklearn  # noqa: E402

METHODS = ("predict_proba", "decision_function", "predict", "transform", "score_samples")
"""The methods of an estimator that can be called. The default is the one that the manifest names as
its output, because the artifact was evaluated with it; otherwise the first that it has."""


def load_sklearn(folder: Path, manifest: Manifest) -> Signatures:
    """Load the model in `folder`; the parameter `method` chooses the default output.

    Raises:
        StartError: it does not load, or has no method that answers rows.
    """
    file = model_file(folder, SKLEARN_FILES)
    return read_estimator(file, manifest, read=load_pickle)


def load_pickle(file: Path) -> object:
    """Return the object in a file of joblib or pickle, which runs code."""
    found: object = joblib.load(file)
    return found


def read_estimator(
    file: Path, manifest: Manifest, *, read: Callable[[Path], object], preferred: str = ""
) -> Signatures:
    """Return the signature of the estimator that `read` reads from `file`.

    `preferred` is the default method if the manifest names none.

    Raises:
        StartError: it does not load, or has no method that answers rows.
    """
    try:
        estimator = read(file)
        _use_one_job(estimator)  # This reads every part of it, which may be from another version.
    except Exception as error:
        library = f"scikit-learn {sklearn.__version__}"
        raise damaged(file, f"{type(error).__name__}: {error}", loader=library) from error
    signature = _signature(estimator, manifest)
    evaluated = [tensor.name for tensor in manifest.outputs[:1]]

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        served = (*signature.outputs, *signature.refused)
        first = next(name for name in (*evaluated, preferred, *METHODS) if name in served)
        return by_method(signature, parameters, first)

    return {signature.name: signature}, choose


def _signature(estimator: object, manifest: Manifest) -> Signature:
    """Describe an estimator.

    Raises:
        StartError: it has no method that answers rows, or its rows differ from the manifest's.
    """
    methods = {name: getattr(estimator, name) for name in METHODS if hasattr(estimator, name)}
    if not methods:
        raise StartError(
            f"The model is a {type(estimator).__name__}, which cannot predict new rows: it has "
            f"none of the methods {', '.join(METHODS)}.",
            code=ExitCode.MODEL,
        )
    refused = _refused(estimator, methods)
    served = tuple(name for name in methods if name not in refused)
    schema = manifest.schema or schema_of(estimator)
    if schema is not None and schema.form != ARRAY:
        return Signature(
            name=DEFAULT,
            input=schema.names[0] if schema.form == TEXT else "predict",
            row_shape=schema.row_shape,
            dtype=np.dtype(object),
            outputs=served,
            default_outputs=served[:1],
            compute=_caller(methods, _table_maker(schema)),
            columns=() if schema.form == TEXT else schema.names,
            refused=refused,
            is_rowwise=True,
            schema=schema,
        )
    columns = tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    features: int | None = getattr(estimator, "n_features_in_", None)
    return Signature(
        name=DEFAULT,
        input=manifest.inputs[0].name if manifest.inputs else "predict",
        row_shape=row_shape(manifest, None if features is None else (features,)),
        dtype=np.dtype(np.float64),
        outputs=served,
        default_outputs=served[:1],
        compute=_caller(methods, _frame_maker(columns)),
        columns=columns,
        refused=refused,
        is_rowwise=True,
    )


def _table_maker(schema: Schema) -> Callable[[Array], Any]:
    """Return the function that converts cells to what the model was fit on: frame or strings."""
    if schema.form == TEXT:
        return lambda cells: cells
    maker: Callable[[Schema], Callable[[Array], Any]] = importlib.import_module(
        "mlops_pipeline.serving.frames"
    ).frame_maker
    return maker(schema)


def _refused(estimator: object, methods: Iterable[str]) -> Mapping[str, str]:
    """Return the methods whose answers have no shape [n, …], and why.

    An estimator with several outputs has a list of classes for each of them.
    """
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, list) or "predict_proba" not in methods:
        return {}
    numbers = [len(one) for one in classes]
    if len(set(numbers)) == 1:
        return {}
    return {"predict_proba": f"has as many columns as an output has classes, which is {numbers}"}


def _frame_maker(columns: Sequence[str]) -> Callable[[Array], Any]:
    """Return the function that converts rows to the type that a model was fit on: frame or array.

    A step of a pipeline may use its columns by name.
    """
    if not columns:
        return lambda rows: rows
    pandas = importlib.import_module("pandas")
    index = pandas.Index(columns)
    return lambda rows: pandas.DataFrame(rows, columns=index)


def _caller(
    methods: Mapping[str, Callable[[Any], Any]], frame: Callable[[Array], Any]
) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    """Return the function that calls the named methods with the rows."""

    def compute(rows: Array, names: Sequence[str]) -> list[object]:
        given = frame(rows)
        return [_table(methods[name](given)) for name in names]

    return compute


def _table(answer: Any) -> object:
    """Return an answer as a dense array of rows: estimators with several outputs return a list."""
    if isinstance(answer, list):
        return np.stack(answer, axis=1)
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _use_one_job(estimator: Any) -> None:
    """Keep inner estimators from starting a thread pool per request."""
    names = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    estimator_jobs = {name: 1 for name in names if name.split("__")[-1] == "n_jobs" and names[name]}
    if estimator_jobs:
        estimator.set_params(**estimator_jobs)
