"""Writes a trained model in its library's own format, and describes it: what `train` returns.

These formats contain data and no code, except those of `save_python` and `save_mlflow`. Each
function imports its library when it is called.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import TrainedModel
from mlops_pipeline.serving.artifact import (
    LIGHTGBM_FILES,
    MLMODEL,
    ONNX_FILES,
    ROWS_AT_ONCE,
    XGBOOST_FILES,
    Manifest,
    Tensor,
)
from mlops_pipeline.serving.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Serving:
    """How the model that is being trained will be served."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the graph: those of the ServerSpec."""
    schema: Schema | None = None


SERVING: ContextVar[Serving] = ContextVar("SERVING")
"""The worker sets it before it trains, so that a model is described and evaluated as served."""
_NO_CACHES = shutil.ignore_patterns("__pycache__", ".*")


def save_xgboost(model: Any, folder: Path) -> TrainedModel:
    """Write an XGBClassifier, an XGBRegressor or a Booster as `model.ubj`.

    A Booster predicts as XGBoost's estimator of its objective does after reading the file.

    Raises:
        ValueError: the estimator takes another number than NaN for a missing value, which the file
            does not contain.
    """
    import numpy as np
    import xgboost

    from mlops_pipeline.serving.objectives import XGBOOST_MARGINS, XGBOOST_PROBABILITIES

    missing = getattr(model, "missing", np.nan)
    if not np.isnan(missing):
        raise ValueError(
            f"the model has missing={missing!r}, which its file does not contain: the served model "
            "would give other answers. Replace this number by NaN in the training data, and fit "
            "without `missing`"
        )
    file = folder / XGBOOST_FILES[0]
    model.save_model(file)
    if isinstance(model, xgboost.Booster):
        objective = json.loads(model.save_config())["learner"]["objective"]["name"]
        is_classifier = objective in (*XGBOOST_PROBABILITIES, XGBOOST_MARGINS)
        estimator: Any = xgboost.XGBClassifier() if is_classifier else xgboost.XGBRegressor()
        estimator.load_model(file)
        model = estimator
    return _of_methods(model, int(model.n_features_in_), "FP32")


def save_lightgbm(model: Any, folder: Path) -> TrainedModel:
    """Write an LGBMClassifier, an LGBMRegressor or a Booster as `model.txt`.

    A Booster of a classification predicts the probability of each class, as the server does.
    """
    from mlops_pipeline.serving.objectives import LIGHTGBM_PROBABILITIES, classifying

    booster = getattr(model, "booster_", model)
    booster.save_model(folder / LIGHTGBM_FILES[0])
    objective = booster.dump_model(num_iteration=1).get("objective", "")
    if model is booster and objective.partition(" ")[0] in LIGHTGBM_PROBABILITIES:
        predict: Any = classifying(booster.predict)["predict_proba"]
        return _described(predict, "predict_proba", booster.num_feature(), "FP64")
    return _of_methods(model, booster.num_feature(), "FP64")


def save_onnx(
    network: Any,
    folder: Path,
    *,
    output: str = "",
    predict: "Callable[[NDArray[Any]], NDArray[Any]] | None" = None,
) -> TrainedModel:
    """Write a network (`onnx.ModelProto`, or its bytes) as `model.onnx`.

    `output` names the scores, which are served by default; empty: the network's first output. An
    output that cannot be served, as a map of skl2onnx, is left out.
    `predict` is the model that the network was made from: rows → scores [n, classes]. Without it,
    ONNX Runtime computes the scores. A network with several inputs gets the column of a data frame
    for each of them, by its name.

    Raises:
        ValueError: the network does not load, for example because its weights are in other files;
            it has no such output, or it cannot be served.
    """
    import numpy as np

    from mlops_pipeline.serving.onnx_columns import feeder
    from mlops_pipeline.serving.onnx_loader import TYPES, describe_unservable, open_network

    content = network if isinstance(network, bytes) else network.SerializeToString()
    try:
        session = open_network(content)
    except Exception as error:
        raise ValueError(
            f"the network does not load: {error}. If its weights are in files beside it, write one "
            "file (torch.onnx.export has external_data=False), or call save_onnx(onnx.load(file), "
            "folder)"
        ) from error
    inputs = session.get_inputs()
    outputs = {node.name: node for node in session.get_outputs()}
    scores = output or next(iter(outputs))
    if not inputs or scores not in outputs:
        names = ", ".join(node.name for node in inputs) or "none"
        raise ValueError(
            f"the network has the inputs {names} and the outputs {', '.join(outputs)}; it must "
            f"have an input and the output {scores!r}"
        )
    if reason := describe_unservable(outputs[scores].type):
        raise ValueError(f"the output {scores!r} {reason}")
    (folder / ONNX_FILES[0]).write_bytes(content)

    def run(rows: Any) -> "NDArray[Any]":
        if hasattr(rows, "columns"):
            given = feeder(inputs, TYPES)({name: rows[name].tolist() for name in rows.columns})
        else:
            given = {inputs[0].name: np.asarray(rows, TYPES[inputs[0].type])}
        (answer,) = session.run([scores], given)
        return np.asarray(answer)

    served = [node for node in outputs.values() if not describe_unservable(node.type)]
    served.sort(key=lambda node: node.name != scores)
    return TrainedModel(predict or run, (_tensor(inputs[0]),), tuple(map(_tensor, served)))


def save_python(
    source: Path,
    folder: Path,
    *,
    rows: "NDArray[Any]",
    name: str = "",
    parameters: Mapping[str, float | int | str | bool] | None = None,
    requirements: Path | None = None,
    wheels: Path | None = None,
) -> TrainedModel:
    """Write a class of Seldon's Python wrapper: its code, its packages and how it is called.

    `source` is the .py file of the class, or a folder that is copied. Files that the class reads
    must already be in `folder`, which is its working directory. `name` is `MODULE:CLASS`; by
    default a file NAME.py has the class NAME. `parameters` are arguments of its constructor, which
    the parameters of the server replace. `requirements` is a lock with hashes, whose packages are
    installed into the artifact, from the folder `wheels` if it is given, otherwise by pip's usual
    index.

    `rows` [n, …] are one or more rows that it can answer. The class is started as the server starts
    it, with the parameters of the ServerSpec, and predicts in that process.

    Raises:
        ValueError: the source is missing, or the lock is not exact.
        CommandError: a package cannot be installed.
        StartError: the class does not load.
        RequestError: it does not answer the rows.
    """
    from mlops_pipeline.catalog import packages
    from mlops_pipeline.serving.custom import folder as component
    from mlops_pipeline.serving.python_loader import start

    if not source.exists():
        raise ValueError(f"the source of the component, {source}, does not exist")
    if source.is_dir():
        shutil.copytree(source, folder, ignore=_NO_CACHES, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, folder / source.name)
    if requirements is not None:
        packages.install(requirements, folder, wheels=wheels)
    module, _, class_name = (name or f"{source.stem}:{source.stem}").partition(":")
    environment = component.environment() if requirements else ""
    written = component.Description(module, class_name, dict(parameters or {}), environment)
    component.write(folder, written)
    component.check_packages(folder, component.describe(folder))
    return _of_component(start(folder, _serving().parameters), rows)


def save_mlflow(
    source: Path, folder: Path, *, rows: "NDArray[Any]", method: str = ""
) -> TrainedModel:
    """Copy the folder of an MLflow model, and describe it as it is served.

    `rows` [n, …] are one or more rows that it can answer; of a table, a data frame. It is called as
    it is served, with the parameters of the ServerSpec. `method` is the answer of an estimator,
    such as `predict_proba`, which a classifier needs for its evaluation; empty: as by MLflow.

    Raises:
        ValueError: it is not an MLflow model.
        StartError: the model cannot be served.
        RequestError: it does not answer the rows.
    """
    import numpy as np

    from mlops_pipeline.catalog import loaded
    from mlops_pipeline.serving import models
    from mlops_pipeline.serving.loading import with_schema
    from mlops_pipeline.serving.mlflow_loader import load_mlflow
    from mlops_pipeline.serving.scores import datatype_of

    if not (source / MLMODEL).is_file():
        raise ValueError(f"{source} is not an MLflow model: it has no {MLMODEL}")
    shutil.copytree(source, folder, ignore=_NO_CACHES, dirs_exist_ok=True)
    serving = _serving()
    schema = serving.schema
    manifest = Manifest("model", "mlflow", {}, (), (), schema=schema)
    _, choose = with_schema(manifest, load_mlflow(folder, manifest))
    served = choose({**({"method": method} if method else {}), **serving.parameters})
    if served.component is not None:
        return _of_component(served.component, rows)
    output = served.default_outputs[0]

    def predict(given: "NDArray[Any]") -> "NDArray[Any]":
        cells = np.asarray(given) if schema is None else loaded.checked(schema, given, where="x")
        return models.predict(served, cells, [output])[0][1]

    answer = predict(rows)
    described = Tensor(output, (-1, *answer.shape[1:]), datatype_of(answer.dtype))
    if served.inputs:
        return TrainedModel(predict, models.input_tensors(served), (described,))
    rows_of = Tensor(served.input, (-1, *np.shape(rows)[1:]), datatype_of(served.dtype))
    return TrainedModel(predict, (rows_of,), (described,))


def _serving() -> Serving:
    """Return how the model will be served; without a worker, nobody has said it."""
    return SERVING.get(Serving())


def _of_component(process: Any, rows: "NDArray[Any]") -> TrainedModel:
    """Describe a component that runs by its answer to rows."""
    import numpy as np

    from mlops_pipeline.serving.custom import rows as calling
    from mlops_pipeline.serving.scores import as_scores, datatype_of

    schema = _serving().schema
    names = process.facts.feature_names or (schema.names if schema else ())

    def predict(given: "NDArray[Any]") -> "NDArray[Any]":
        numbers = np.ascontiguousarray(given, dtype=np.float64)
        parts = []
        for begin in range(0, len(numbers), ROWS_AT_ONCE):
            part = numbers[begin : begin + ROWS_AT_ONCE]
            (answered,) = calling.answers(process, names, part, ())
            parts.append(as_scores(answered, rows=len(part), output=calling.OUTPUT))
        return np.concatenate(parts)

    try:
        answer = predict(rows)
    except BaseException:
        process.close()
        raise
    # Later, its process ends with the last reference to `predict`, after the evaluation.
    inputs = Tensor("predict", (-1, *np.shape(rows)[1:]), "FP64")
    output = Tensor(calling.OUTPUT, (-1, *answer.shape[1:]), datatype_of(answer.dtype))
    return TrainedModel(predict, (inputs,), (output,))


def _of_methods(model: Any, features: int, datatype: str) -> TrainedModel:
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    return _described(getattr(model, method), method, features, datatype)


def _described(
    predict: "Callable[[NDArray[Any]], NDArray[Any]]", method: str, features: int, datatype: str
) -> TrainedModel:
    """Describe a model of rows of numbers by its answer to a row of zeros."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        answer = np.asarray(predict(np.zeros((1, features))))
    kind = "FP" if answer.dtype.kind == "f" else "INT"
    output = Tensor(method, (-1, *answer.shape[1:]), f"{kind}{8 * answer.dtype.itemsize}")
    return TrainedModel(predict, (Tensor("predict", (-1, features), datatype),), (output,))


def _tensor(node: Any) -> Tensor:
    """Describe an input or output of a network, whose first axis are rows of any number."""
    from mlops_pipeline.serving.onnx_loader import datatype

    sizes = (size if isinstance(size, int) else -1 for size in node.shape[1:])
    return Tensor(node.name, (-1, *sizes), datatype(node.type))
