"""The examples of each framework: registered, trained, and loaded as the server loads them."""

import ast
import hashlib
import json
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mlops_pipeline.catalog import contents, packages, saving, worker
from mlops_pipeline.catalog.registry import RegisteredModel, load_catalog
from mlops_pipeline.catalog.spec import Dataset, InvalidSpecError, ModelSpec, TrainedModel
from mlops_pipeline.serving import loading
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files
from mlops_pipeline.serving.cells import unpack
from mlops_pipeline.serving.custom import folder as component_folder
from mlops_pipeline.serving.errors import StartError
from mlops_pipeline.serving.models import predict

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MLFLOW = ROOT / "examples" / "grower_mlflow.py"
"""Its own library is needed for its training, and to serve only some of its models."""
OPTIONAL = [path for path in EXAMPLES if path.stem.endswith(("_xgboost", "_lightgbm", "_onnx"))]
"""Examples that need one of the optional libraries."""
BUILT_IN = {"iris", "mnist"}


def specs() -> list[ModelSpec]:
    catalog = load_catalog(list(map(str, EXAMPLES)))
    assert catalog.refused == ()
    return [model.spec for model in catalog.models if model.name not in BUILT_IN]


def trained(spec: ModelSpec, folder: Path) -> tuple[Manifest, dict[str, Any]]:
    worker.write_dataset(spec, None, folder / "data")
    data = folder / "data" / worker.DATA
    worker.write_model(spec, data, spec.hyperparameters, folder)
    report = json.loads((folder / worker.REPORT).read_text())
    inputs, outputs = (
        tuple(Tensor(t["name"], tuple(t["shape"]), t["datatype"]) for t in report[key])
        for key in ("inputs", "outputs")
    )
    files = hash_files(folder / worker.MODEL)
    schema = spec.dataset.schema
    return Manifest(spec.name, spec.framework, files, inputs, outputs, schema=schema), report


@pytest.mark.parametrize(
    "name",
    [
        "cultivars",
        "digit_limits",
        "digits",
        "grower",
        "nearest_centre",
        "reviews",
        "tickets",
        "tumours",
    ],
)
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_an_example_is_served_as_it_was_trained(tmp_path: Path, name: str) -> None:
    (spec,) = (spec for spec in specs() if spec.name == name)
    manifest, report = trained(spec, tmp_path / "one")
    assert report["metrics"]["accuracy"] >= spec.thresholds.limits["accuracy"]
    assert report["versions"].keys() >= {"python", "numpy"}
    model = loading.load(tmp_path / "one" / worker.MODEL, manifest, {}, graph_name=None)
    assert model.default.batch.rows > 1, "its rows may share a call"
    with np.load(tmp_path / "one" / worker.EVALUATION / "holdout.npz") as holdout:
        ((output, scores),) = predict(model.default, unpack("x", holdout))
        assert np.abs(scores - holdout["scores"]).max() <= spec.thresholds.tolerance
    assert output == manifest.outputs[0].name
    again = tmp_path / "again"
    again.mkdir()
    dataset = worker.read_dataset(tmp_path / "one" / "data" / worker.DATA)
    spec.train(worker.given(spec, dataset), spec.hyperparameters, again)
    if spec.framework == "tensorflow":  # It counts the functions that a process has made.
        same_content = contents.of_saved_models(tmp_path / "one" / worker.MODEL)
        assert contents.of_saved_models(again) == same_content
        return
    same = {path: manifest.files[path] for path in hash_files(again)}
    assert hash_files(again) == same, "the same data gives the same file"


def test_every_example_says_how_it_is_registered_and_what_it_needs() -> None:
    for path in EXAMPLES:
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert f'models = ["examples/{path.name}"]' in said
        models = load_catalog([str(path)]).models
        frameworks = [model.spec.framework for model in models if model.name not in BUILT_IN]
        needed = frameworks if path in (*OPTIONAL, MLFLOW) else []
        assert re.findall(r"mlops-pipeline\[(\w+)\]", said) == needed


@pytest.mark.parametrize("path", OPTIONAL, ids=lambda path: path.stem)
def test_a_missing_library_is_named_when_the_model_is_registered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework = path.stem.rpartition("_")[2]
    monkeypatch.setitem(sys.modules, "onnxruntime" if framework == "onnx" else framework, None)
    for name in [name for name in sys.modules if name.startswith("mlops_pipeline_model_")]:
        monkeypatch.delitem(sys.modules, name)
    catalog = load_catalog([str(path)])
    assert {model.name for model in catalog.models} == BUILT_IN
    (refused,) = catalog.refused
    assert f"framework is '{framework}', but " in refused.reason
    assert (
        f"is not installed here; install it: `{sys.executable} -m pip install "
        f"'mlops-pipeline[{framework}]'`"
    ) in refused.reason


def test_a_file_of_another_framework_is_refused_after_training(tmp_path: Path) -> None:
    (spec,) = (spec for spec in specs() if spec.name == "cultivars")

    def train(dataset: Dataset, _: object, folder: Path) -> TrainedModel:
        (folder / "model.joblib").write_bytes(b"a pickle")
        return TrainedModel(lambda rows: np.ones((len(rows), 3)) / 3, (), ())

    worker.write_dataset(spec, None, tmp_path)
    with pytest.raises(
        ValueError,
        match=r"of cultivars wrote model.joblib to its folder; a LightGBM model is model.txt",
    ):
        worker.write_model(replace(spec, train=train), tmp_path / worker.DATA, {}, tmp_path)


X = np.random.default_rng(1).normal(size=(80, 3))
TWO = (X.sum(axis=1) > 0).astype(int)


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "multi:softprob", "multi:softmax", "reg:squarederror"]
)
def test_a_booster_of_xgboost_answers_as_it_is_served(tmp_path: Path, objective: str) -> None:
    xgboost: Any = pytest.importorskip("xgboost")
    options = {"objective": objective, "nthread": 1}
    if objective.startswith("multi"):
        options["num_class"] = 2
    booster = xgboost.train(options, xgboost.DMatrix(X, TWO), 5)
    result = saving.save_xgboost(booster, tmp_path)
    _same_as_served(result, tmp_path, "xgboost", regression=objective.startswith("reg"))


def test_a_booster_of_several_labels_answers_as_it_is_served(tmp_path: Path) -> None:
    xgboost: Any = pytest.importorskip("xgboost")
    matrix = xgboost.DMatrix(X, (X[:, :2] > 0).astype(int))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, matrix, 5)
    result = saving.save_xgboost(booster, tmp_path)
    _same_as_served(result, tmp_path, "xgboost", regression=False)
    assert np.allclose(result.predict(X), booster.inplace_predict(X))


def test_another_missing_value_than_nan_is_refused(tmp_path: Path) -> None:
    xgboost: Any = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=3, n_jobs=1, missing=-1.0).fit(X, TWO)
    with pytest.raises(ValueError, match=r"missing=-1.0, .* Replace this number by NaN"):
        saving.save_xgboost(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_a_booster_of_lightgbm_answers_as_it_is_served(tmp_path: Path, objective: str) -> None:
    lightgbm: Any = pytest.importorskip("lightgbm")
    options = {"objective": objective, "verbosity": -1, "num_threads": 1}
    if objective == "multiclass":
        options["num_class"] = 2
    booster = lightgbm.train(options, lightgbm.Dataset(X, TWO), 5)
    result = saving.save_lightgbm(booster, tmp_path)
    _same_as_served(result, tmp_path, "lightgbm", regression=objective == "regression")


def _same_as_served(
    result: TrainedModel, folder: Path, framework: str, *, regression: bool
) -> None:
    manifest = Manifest("mine", framework, hash_files(folder), result.inputs, result.outputs)
    model = loading.load(folder, manifest, {}, graph_name=None)
    ((name, scores),) = predict(model.default, X)
    assert name == result.outputs[0].name == ("predict" if regression else "predict_proba")
    assert scores.shape[1:] == result.outputs[0].shape[1:] == (() if regression else (2,))
    assert np.allclose(scores, result.predict(X), atol=1e-6)


def test_a_network_of_several_outputs_serves_the_named_one(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    row = helper.make_tensor_value_info("rows", TensorProto.DOUBLE, ["n", 3])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["n", 3]),
    ]
    nodes = [
        helper.make_node("Softmax", ["rows"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(nodes, "two", [row], outputs)
    versions = [helper.make_opsetid("", 17)]
    network = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
    result = saving.save_onnx(network, tmp_path, output="scores")
    assert result.inputs == (Tensor("rows", (-1, 3), "FP64"),)
    assert result.outputs == (Tensor("scores", (-1, 3), "FP64"), Tensor("label", (-1,), "INT64"))
    manifest = Manifest("mine", "onnx", hash_files(tmp_path), result.inputs, result.outputs)
    model = loading.load(tmp_path, manifest, {}, graph_name=None)
    assert model.default.default_outputs == ("scores", "label")
    assert np.allclose(predict(model.default, X)[0][1], result.predict(X))
    with pytest.raises(ValueError, match=r"outputs label, scores; it must .* output 'odds'"):
        saving.save_onnx(network, tmp_path, output="odds")


def _product(*, zipped: bool) -> Any:
    """Return a network of `label` and scores, which are a map if they are `zipped`."""
    onnx: Any = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    odds = helper.make_tensor_value_info("odds", TensorProto.FLOAT, ["n", 2])
    nodes = [
        helper.make_node("MatMul", ["rows", "weights"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["scores"], ["odds"]),
    ]
    if zipped:
        of_row = helper.make_map_type_proto(
            TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        )
        odds = helper.make_value_info("odds", helper.make_sequence_type_proto(of_row))
        options: dict[str, Any] = {"domain": "ai.onnx.ml", "classlabels_int64s": [0, 1]}
        nodes[2] = helper.make_node("ZipMap", ["scores"], ["odds"], **options)
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]), odds],
        [numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "weights")],
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return onnx.helper.make_model(graph, opset_imports=versions, ir_version=8)


def test_a_map_of_skl2onnx_is_left_out_and_refused_as_the_scores(tmp_path: Path) -> None:
    result = saving.save_onnx(_product(zipped=True), tmp_path)
    assert result.outputs == (Tensor("label", (-1,), "INT64"),)
    manifest = Manifest("mine", "onnx", hash_files(tmp_path), result.inputs, result.outputs)
    model = loading.load(tmp_path, manifest, {}, graph_name=None)
    assert model.default.outputs == ("label",)
    with pytest.raises(ValueError, match=r"'odds' is of type seq.*options=\{'zipmap': False\}"):
        saving.save_onnx(_product(zipped=True), tmp_path, output="odds")


def test_weights_in_another_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    onnx: Any = pytest.importorskip("onnx")
    file = tmp_path / "network.onnx"
    onnx.save(
        _product(zipped=False),
        file,
        save_as_external_data=True,
        location="network.onnx.data",
        size_threshold=0,
    )
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"external_data=False\), or call save_onnx\(onnx.load\("):
        saving.save_onnx(file.read_bytes(), folder)
    assert list(folder.iterdir()) == []
    result = saving.save_onnx(onnx.load(file), folder, output="odds")
    expected = 1 / (1 + np.exp(X[:, 1] - X[:, 0]))
    assert np.allclose(result.predict(X)[:, 0], expected, atol=1e-6)


LOCKED = """
import tidings

class Locked:
    def predict(self, X, names):
        return X + tidings.NUMBER
"""


def _wheel(folder: Path, *, version: str = "1.2") -> str:
    """Write a wheel, and return the line of a lock that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"tidings-{version}-py3-none-any.whl"
    info = f"tidings-{version}.dist-info"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("tidings.py", "NUMBER = 7\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tidings\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", f"tidings.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"tidings=={version} \\\n    --hash=sha256:{digest}\n"


def test_without_pip_the_packages_of_a_component_are_refused_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "own.lock"
    lock.write_text("tidings==1.2 --hash=sha256:00\n")
    monkeypatch.setattr(packages, "_has_pip", lambda: False)
    with pytest.raises(ValueError, match=r"has no pip, .* Add it: `uv pip install --python .* pip"):
        packages.install(lock, tmp_path, wheels=None)
    assert [path.name for path in tmp_path.iterdir()] == ["own.lock"]


@pytest.mark.embedded
def test_the_packages_of_a_component_are_installed_into_its_artifact(tmp_path: Path) -> None:
    source, lock, folder = (tmp_path / name for name in ("Locked.py", "own.lock", "artifact"))
    source.write_text(LOCKED)
    folder.mkdir()
    lock.write_text("tidings==1.2\n")
    with pytest.raises(ValueError, match=r"'tidings==1.2' is not NAME==VERSION with --hash"):
        saving.save_python(source, folder, rows=X, requirements=lock)
    with pytest.raises(StartError, match=r"import raised ModuleNotFoundError: .*'tidings'"):
        saving.save_python(source, folder, rows=X)
    lock.write_text(_wheel(tmp_path / "wheels"))
    result = saving.save_python(
        source, folder, rows=X, requirements=lock, wheels=tmp_path / "wheels"
    )
    assert np.array_equal(result.predict(X), X + 7)
    files = hash_files(folder)
    assert files.keys() >= {"requirements.lock", "site-packages/tidings.py", "component.json"}
    manifest = Manifest("mine", "python", files, result.inputs, result.outputs)
    model = loading.load(folder, manifest, {}, graph_name=None)
    assert np.array_equal(predict(model.default, X)[0][1], X + 7)
    assert hash_files(folder) == files, "running it changes nothing"
    shutil.rmtree(folder / "site-packages")
    with pytest.raises(StartError, match=r"tidings 1.2 is not installed. Packages are installed"):
        loading.load(folder, manifest, {}, graph_name=None)


def test_packages_for_another_python_are_refused(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    described = component_folder.Description("Locked", "Locked", {}, "Python 2.7, plan9")
    component_folder.write(tmp_path, described)
    assert component_folder.describe(tmp_path) == described
    manifest = Manifest("mine", "python", {}, (), ())
    with pytest.raises(StartError, match=r"installed for Python 2.7, plan9, but this is Python 3"):
        loading.load(tmp_path, manifest, {}, graph_name=None)


def test_changed_sources_train_again_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (spec,) = (spec for spec in specs() if spec.name == "nearest_centre")
    (source,) = spec.sources
    assert source.name == "NearestCentre.py"
    copy = tmp_path / "copy.py"
    copy.write_text("one")
    model = RegisteredModel(replace(spec, sources=(tmp_path,)), "here")
    before = model.source_digest()
    copy.write_text("two")
    assert model.source_digest() != before
    with pytest.raises(InvalidSpecError, match=r"sources has '.*nowhere', which does not exist"):
        replace(spec, sources=(tmp_path / "nowhere",))
    with pytest.raises(InvalidSpecError, match=r"sources has 'text'; it must contain paths"):
        replace(spec, sources=(cast(Any, "text"),))
