"""The model file that `mlops-pipeline new` writes: it works as written, on data of scikit-learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from textwrap import indent

from mlops_pipeline.catalog import faults
from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.serving.frameworks import Framework, frameworks, get_framework


@dataclass(frozen=True)
class _Kind:
    """What the file of a task has."""

    data: str
    """Function of `sklearn.datasets`."""
    features: int
    outputs: int
    is_classifier: bool
    title: str
    task: str
    """Further fields of the ModelSpec."""
    imports: str = ""
    metric: str = ""
    """Definitions before the ModelSpec."""


_CLASSIFICATION = _Kind(
    data="load_wine",
    features=13,
    outputs=3,
    is_classifier=True,
    title="classification",
    task="    thresholds=Thresholds(min_accuracy=0.85),\n",
)
_REGRESSION = _Kind(
    data="load_diabetes",
    features=10,
    outputs=1,
    is_classifier=False,
    title="regression",
    imports="from mlops_pipeline.catalog.tasks import Regression\n",
    task='    task=Regression(),\n    thresholds=Thresholds(limits={"rmse": 80.0}),\n',
)
_CUSTOM = _Kind(
    data="load_diabetes",
    features=10,
    outputs=1,
    is_classifier=False,
    title="task of its own",
    imports="from mlops_pipeline.catalog.tasks import Custom, Metric\n",
    metric='''
def share_close(targets: "NDArray[Any]", predictions: "NDArray[Any]") -> float:
    """Return the share of predictions [n, 1] that are at most 60 from their target [n]."""
    return float((abs(predictions[:, 0] - targets) <= 60).mean())

''',
    task=(
        "    task=Custom(\n"
        '        metrics=(Metric("share_close", share_close, higher_is_better=True, '
        "bounds=(0.0, 1.0)),)\n"
        "    ),\n"
        '    thresholds=Thresholds(limits={"share_close": 0.4}),\n'
    ),
)
TASKS: Mapping[str, _Kind] = {
    "classification": _CLASSIFICATION,
    "regression": _REGRESSION,
    "custom": _CUSTOM,
}
_SKLEARN_BODY = """
import joblib
from sklearn.ensemble import {estimator}

model = {estimator}(int(hyperparameters["trees"]), random_state=1)
model.fit(dataset.x_train, dataset.y_train)
joblib.dump(model, folder / "model.joblib")
return TrainedModel(
    predict=model.{method},
    inputs=(Tensor("predict", (-1, {features}), "FP64"),),
    outputs=(Tensor("{method}", {shape}, "FP64"),),
)
"""
_XGBOOST_BODY = """
from xgboost import {estimator}

model = {estimator}(n_estimators=int(hyperparameters["trees"]), n_jobs=1, random_state=1)
model.fit(dataset.x_train, dataset.y_train)
return save_xgboost(model, folder)
"""
_LIGHTGBM_BODY = """
from lightgbm import {estimator}

model = {estimator}(
    n_estimators=int(hyperparameters["trees"]),
    min_child_samples=5,
    n_jobs=1,
    random_state=1,
    deterministic=True,
    force_row_wise=True,
    verbosity=-1,
)
model.fit(dataset.x_train, dataset.y_train)
return save_lightgbm(model, folder)
"""
_ONNX_BODY = """
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import {estimator}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

model = make_pipeline(StandardScaler(), {estimator}())
model.fit(dataset.x_train, dataset.y_train)
scaler, linear = model[0], model[-1]
arrays = {{
    "mean": scaler.mean_,
    "scale": scaler.scale_,
    "weights": linear.coef_.reshape({outputs}, {features}).T,
    "biases": linear.intercept_.reshape(-1),
}}
graph = helper.make_graph(
    [
        helper.make_node("Sub", ["rows", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "weights", "biases"], ["{last}"]),
{softmax}    ],
    "model",
    [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", {features}])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", {outputs}])],
    [numpy_helper.from_array(array.astype("float32"), key) for key, array in arrays.items()],
)
network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
return save_onnx(network, folder)
"""
_TENSORFLOW_BODY = """
import keras
import tensorflow as tf

keras.utils.set_random_seed(1)
tf.config.experimental.enable_op_determinism()
scale = keras.layers.Normalization()
scale.adapt(dataset.x_train)
model = keras.Sequential(
    [
        keras.Input(({features},)),
        scale,
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense({outputs}, activation={activation}),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="{loss}")
epochs = int(hyperparameters["epochs"])
model.fit(dataset.x_train, dataset.y_train, epochs=epochs, verbose=2)
module = tf.Module()
module.weights = [variable.value for variable in model.variables]
predict = tf.function(
    lambda rows: {{"scores": model(rows, training=False)}},
    input_signature=[tf.TensorSpec((None, {features}), tf.float32, name="rows")],
)
signatures = {{"serving_default": predict.get_concrete_function()}}
tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
return TrainedModel(
    predict=lambda rows: model.predict(rows, verbose=0),
    inputs=(Tensor("rows", (-1, {features}), "FP32"),),
    outputs=(Tensor("scores", (-1, {outputs}), "FP32"),),
)
"""


@dataclass(frozen=True)
class Training:
    """How a framework trains: `training` of its row in the table of frameworks."""

    body: str
    """Lines of the function, for `str.format` with the fields that `_body` gives."""
    estimators: tuple[str, str] = ("", "")
    """For classes, for numbers."""
    hyperparameters: str = '{"trees": 100}'
    saving: str = ""
    """Function of `catalog.saving` that the body calls."""


SKLEARN = Training(_SKLEARN_BODY, ("RandomForestClassifier", "RandomForestRegressor"))
XGBOOST = Training(_XGBOOST_BODY, ("XGBClassifier", "XGBRegressor"), saving="save_xgboost")
LIGHTGBM = Training(_LIGHTGBM_BODY, ("LGBMClassifier", "LGBMRegressor"), saving="save_lightgbm")
ONNX = Training(_ONNX_BODY, ("LogisticRegression", "LinearRegression"), "{}", "save_onnx")
TENSORFLOW = Training(_TENSORFLOW_BODY, hyperparameters='{"epochs": 200}')
_FILE = '''"""{title} with {framework}.

Replace the data, the model and the thresholds by your own. Register it in mlops.toml:

    models = ["{name}.py"]

A new version replaces the one that serves at once. To compare both on requests first, add to the
ModelSpec `release=ReleaseSpec("canary")`, of mlops_pipeline.catalog.releasing.
"""

from pathlib import Path
{typing}
{saving}from mlops_pipeline.catalog.spec import (
{names}
)
{imports}{tensor}{checking}

def load(file: Path | None) -> Dataset:
    """Load the data; `file` is the setting `datasets.{name}`."""
    from sklearn.datasets import {data}
    from sklearn.model_selection import train_test_split

    x, y = {data}(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)

{train}{metric}
{constant} = ModelSpec(
    name="{name}",
    description="{title}",
    framework="{row}",
    dataset=DatasetSpec(load=load, features={features}{classes}),
    train={function},
{hyperparameters}    server=ServerSpec(
        "{implementation}",
        deployment="{deployment}",
        graph="{deployment}",
    ),
{task})
'''


def write_start(
    name: str, *, task: str, framework: str, folder: Path, is_trained_elsewhere: bool = False
) -> Path:
    """Write `NAME.py` into the folder and return its path.

    Raises:
        ConfigurationError: the name, the task or the framework is unknown, or there is no example
            of a training with it.
        ConflictError: the file exists.
    """
    if reason := faults.describe_name(name):
        raise ConfigurationError(f"{reason}. Nothing was written")
    if task not in TASKS:
        raise ConfigurationError(f"unknown task {task!r}; expected one of: {', '.join(TASKS)}")
    text = render(name, task=task, framework=framework, is_trained_elsewhere=is_trained_elsewhere)
    path = folder / f"{name}.py"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConflictError(
            f"could not write {path}: it exists; choose another name, or remove the file"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"could not write {path}: {error.strerror or error}") from error
    return path


def render(name: str, *, task: str, framework: str, is_trained_elsewhere: bool = False) -> str:
    """Return the text of the model file.

    Raises:
        ConfigurationError: the framework is unknown, or there is no example with it.
    """
    try:
        row = get_framework(framework)
    except LookupError as error:
        raise ConfigurationError(f"{error}") from error
    kind, training = TASKS[task], _training(row)
    if training is None and not is_trained_elsewhere:
        examples = [one.name for one in frameworks() if one.training]
        raise ConfigurationError(
            f"there is no example of a training with {row.title}; add --trained-elsewhere for a "
            f"model that is published, or choose one of: {', '.join(examples)}"
        )
    body = "" if is_trained_elsewhere or training is None else _body(training, kind)
    given = training if body and training else Training("", hyperparameters="")
    uses_tensor = "Tensor(" in body
    returns = "TrainedModel" if body else "trained_elsewhere"
    names = ["Dataset", "DatasetSpec", *(["Hyperparameters"] if body else []), "ModelSpec"]
    names += ["ServerSpec", "Thresholds", returns]
    saving = f"from mlops_pipeline.catalog.saving import {given.saving}\n" if given.saving else ""
    checking = "\nif TYPE_CHECKING:\n    from numpy.typing import NDArray\n" if kind.metric else ""
    return _FILE.format(
        name=name,
        title=f"{name.replace('_', ' ').capitalize()}, a {kind.title}",
        framework=row.title,
        row=row.name,
        typing="from typing import TYPE_CHECKING, Any\n" if kind.metric else "",
        saving=saving,
        names="\n".join(f"    {one}," for one in names),
        imports=kind.imports,
        tensor="from mlops_pipeline.serving.artifact import Tensor\n" if uses_tensor else "",
        checking=checking,
        data=kind.data,
        train=_function(body),
        metric=kind.metric,
        constant=name.upper(),
        features=kind.features,
        classes=', classes=("one", "two", "three")' if kind.is_classifier else "",
        function="train" if body else "trained_elsewhere",
        hyperparameters=(
            f"    hyperparameters={given.hyperparameters},\n" if given.hyperparameters else ""
        ),
        implementation=row.implementation,
        deployment=name.replace("_", "-"),
        task=kind.task,
    )


def _training(row: Framework) -> Training | None:
    """Return the example of a framework, None if its row names none."""
    module, _, name = row.training.partition(":")
    found: Training | None = getattr(import_module(module), name) if row.training else None
    return found


def _function(body: str) -> str:
    if not body:
        return ""
    return (
        "\ndef train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) "
        '-> TrainedModel:\n    """Train, and write the files for serving to the folder."""\n'
        f"{indent(body.lstrip(), '    ')}\n"
    )


def _body(training: Training, kind: _Kind) -> str:
    softmax = '        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),\n'
    return training.body.format(
        estimator=training.estimators[0 if kind.is_classifier else 1],
        method="predict_proba" if kind.is_classifier else "predict",
        features=kind.features,
        outputs=kind.outputs,
        shape=f"(-1, {kind.outputs})" if kind.is_classifier else "(-1,)",
        last="logits" if kind.is_classifier else "scores",
        softmax=softmax if kind.is_classifier else "",
        activation='"softmax"' if kind.is_classifier else "None",
        loss="sparse_categorical_crossentropy" if kind.is_classifier else "mean_squared_error",
    )
