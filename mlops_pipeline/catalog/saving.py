"""Writes a trained model in its library's own format, and describes it: what `train` returns.

These formats contain data and no code. Each function imports its library when it is called.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import TrainedModel
from mlops_pipeline.serving.artifact import LIGHTGBM_FILES, ONNX_FILES, XGBOOST_FILES, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBABILITIES = ("binary:logistic", "multi:softprob", "multi:softmax")


def save_xgboost(model: Any, folder: Path) -> TrainedModel:
    """Write an XGBClassifier, an XGBRegressor or a Booster as `model.ubj`.

    A Booster predicts as XGBoost's estimator of its objective does after reading the file.
    """
    import xgboost

    file = folder / XGBOOST_FILES[0]
    model.save_model(file)
    if isinstance(model, xgboost.Booster):
        config = model.save_config()
        is_classifier = any(f'"name":"{name}"' in config for name in _PROBABILITIES)
        estimator: Any = xgboost.XGBClassifier() if is_classifier else xgboost.XGBRegressor()
        estimator.load_model(file)
        model = estimator
    return _of_methods(model, int(model.n_features_in_), "FP32")


def save_lightgbm(model: Any, folder: Path) -> TrainedModel:
    """Write an LGBMClassifier, an LGBMRegressor or a Booster as `model.txt`.

    A Booster of a classification predicts the probability of each class, as the server does.
    """
    import numpy as np

    booster = getattr(model, "booster_", model)
    booster.save_model(folder / LIGHTGBM_FILES[0])

    def predict(rows: "NDArray[Any]") -> "NDArray[Any]":
        likely = np.asarray(booster.predict(rows))
        return likely if likely.ndim > 1 else np.stack([1 - likely, likely], axis=1)

    objective = booster.dump_model(num_iteration=1).get("objective", "")
    if model is booster and objective.startswith(("binary", "multiclass")):
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

    `output` names the scores, which are served by default; empty: the network's first output.
    `predict` is the model that the network was made from: rows → scores [n, classes]. Without it,
    ONNX Runtime computes the scores.

    Raises:
        ValueError: the network has several inputs, or no such output.
    """
    import numpy as np
    import onnxruntime

    content = network if isinstance(network, bytes) else network.SerializeToString()
    (folder / ONNX_FILES[0]).write_bytes(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = tuple(map(_tensor, session.get_inputs()))
    outputs = {tensor.name: _tensor(tensor) for tensor in session.get_outputs()}
    scores = output or next(iter(outputs))
    if len(inputs) != 1 or scores not in outputs:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ValueError(
            f"the network has the inputs {names} and the outputs {', '.join(outputs)}; it must "
            f"have one input and the output {scores!r}"
        )

    def run(rows: "NDArray[Any]") -> "NDArray[Any]":
        dtype = inputs[0].datatype.lower().replace("fp", "float")
        (answer,) = session.run([scores], {inputs[0].name: np.asarray(rows, dtype=dtype)})
        return np.asarray(answer)

    others = (tensor for name, tensor in outputs.items() if name != scores)
    return TrainedModel(predict or run, inputs, (outputs[scores], *others))


def _of_methods(model: Any, features: int, datatype: str) -> TrainedModel:
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    return _described(getattr(model, method), method, features, datatype)


def _described(
    predict: "Callable[[NDArray[Any]], NDArray[Any]]", method: str, features: int, datatype: str
) -> TrainedModel:
    """Describe a model of rows of numbers by its answer to a row of zeros."""
    import numpy as np

    answer = np.asarray(predict(np.zeros((1, features))))
    kind = "FP" if answer.dtype.kind == "f" else "INT"
    output = Tensor(method, (-1, *answer.shape[1:]), f"{kind}{8 * answer.dtype.itemsize}")
    return TrainedModel(predict, (Tensor("predict", (-1, features), datatype),), (output,))


_DATATYPES = {"float": "FP32", "double": "FP64", "float16": "FP16", "string": "BYTES"}
"""V2's names of ONNX's types that have others."""


def _tensor(node: Any) -> Tensor:
    """Describe an input or output of a network, whose first axis are rows of any number."""
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    sizes = (size if isinstance(size, int) else -1 for size in node.shape[1:])
    return Tensor(node.name, (-1, *sizes), _DATATYPES.get(kind, kind.upper()))
