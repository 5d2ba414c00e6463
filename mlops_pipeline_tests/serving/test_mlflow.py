"""MLflow models: which flavour is served, with which versions, and MLflow's own payloads.

The folders are written here as MLflow 3.17 writes them, so that these tests do not need it.
"""

import asyncio
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import yaml
from sklearn.linear_model import LogisticRegression

from mlops_pipeline.catalog import contents, saving
from mlops_pipeline.serving import bare, loading
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.models import Model, predict
from mlops_pipeline.serving.protocols import v2
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline.serving.settings import Parameter
from mlops_pipeline_tests.serving.components import Caller, run

X = np.random.default_rng(1).normal(size=(60, 3))
Y = (X.sum(axis=1) > 0).astype(int)
COLUMNS = ["a", "b", "c"]


def write(
    folder: Path, flavours: dict[str, dict[str, Any]], *, requirements: str = "numpy\n"
) -> Path:
    """Write MLmodel, with python_function beside the flavours as MLflow does."""
    usual = {"python_function": {"loader_module": "mlflow.sklearn", "python_version": "3.11.7"}}
    document = {"flavors": {**usual, **flavours}, "mlflow_version": "3.17.2"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    (folder / "requirements.txt").write_text(requirements)
    return folder


def sklearn_folder(folder: Path, **fields: str) -> Path:
    frame = importlib.import_module("pandas").DataFrame(X, columns=COLUMNS)
    joblib.dump(LogisticRegression().fit(frame, Y), folder / "model.pkl")
    usual = {"pickled_model": "model.pkl", "sklearn_version": sklearn.__version__}
    return write(folder, {"sklearn": {**usual, **fields}})


def load(folder: Path, **parameters: Parameter) -> Model:
    return loading.load(folder, bare.describe(folder), parameters, graph_name="unit")


def test_an_estimator_answers_as_by_mlflow(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path)
    assert bare.describe(folder).framework == "mlflow"
    model = load(folder)
    assert model.default.default_outputs == ("predict",)
    assert set(predict(model.default, X)[0][1].tolist()) == {0, 1}
    assert load(folder, method="predict_proba").default.default_outputs == ("predict_proba",)


def test_other_flavours_are_loaded_by_their_own_loader(tmp_path: Path) -> None:
    xgboost: Any = pytest.importorskip("xgboost")
    lightgbm: Any = pytest.importorskip("lightgbm")
    expected = {}
    trees = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(X, Y)
    (tmp_path / "xgboost").mkdir()
    trees.save_model(tmp_path / "xgboost" / "model.ubj")
    fields = {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBClassifier"}
    write(tmp_path / "xgboost", {"xgboost": {**fields, "xgb_version": "3.0.0"}})
    expected["xgboost"] = trees.predict(X)
    options = {"verbosity": -1, "num_threads": 1, "objective": "binary"}
    booster = lightgbm.train(options, lightgbm.Dataset(X, Y), 3)
    (tmp_path / "lightgbm").mkdir()
    booster.save_model(tmp_path / "lightgbm" / "model.lgb")
    fields = {"data": "model.lgb", "model_class": "lightgbm.basic.Booster"}
    write(tmp_path / "lightgbm", {"lightgbm": fields})
    expected["lightgbm"] = np.c_[1 - booster.predict(X), booster.predict(X)]
    for name, answers in expected.items():
        found = predict(load(tmp_path / name).default, X)[0][1]
        assert np.allclose(found, answers), name


def test_an_estimator_is_served_by_the_method_that_it_was_evaluated_by(tmp_path: Path) -> None:
    xgboost: Any = pytest.importorskip("xgboost")
    trees = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(X, Y)
    trees.save_model(tmp_path / "model.ubj")
    fields = {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBClassifier"}
    write(tmp_path, {"xgboost": {**fields, "xgb_version": "3.0.0"}})
    for method in ("predict", "predict_proba"):
        outputs = (Tensor(method, (-1,), "FP32"),)
        manifest = replace(bare.describe(tmp_path), outputs=outputs)
        model = loading.load(tmp_path, manifest, {}, graph_name="unit")
        assert model.default.default_outputs == (method,)


def test_another_version_of_the_library_is_refused_unless_it_is_ignored(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path, sklearn_version="0.24.2")
    with pytest.raises(
        StartError,
        match=rf"wants other library versions: scikit-learn 0.24.2 is required, but "
        rf"{sklearn.__version__} is installed. Install these versions where it is served",
    ):
        load(folder)
    assert len(predict(load(folder, ignore_versions="true").default, X)[0][1]) == len(X)
    with pytest.raises(StartError, match="ignore_versions must be true or false, got 'maybe'"):
        load(folder, ignore_versions="maybe")


@pytest.mark.parametrize(
    ("flavours", "said"),
    [
        ({"spark": {}}, r"no flavour that can be served \(.*\): python_function needs MLflow; .*"),
        (
            {"sklearn": {"pickled_model": "model.pkl"}},
            "sklearn is incomplete: MLmodel names 'model.pkl', which is not in",
        ),
        (
            {"sklearn": {"pickled_model": "../../etc/passwd"}},
            "MLmodel names '../../etc/passwd', which is not in",
        ),
        (
            {"tensorflow": {"saved_model_dir": "requirements.txt"}},
            r"tensorflow is a Keras model \(requirements.txt\), not a SavedModel; write it with",
        ),
        ({"sklearn": {"code": "code"}}, "sklearn has modules of its own, which only python_fun"),
    ],
)
def test_a_model_without_a_usable_flavour_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavours: dict[str, Any], said: str
) -> None:
    write(tmp_path, flavours)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(StartError, match=said) as caught:
        load(tmp_path)
    assert f"`{sys.executable} -m pip install 'mlops-pipeline[mlflow]'`" in str(caught.value)


@pytest.mark.parametrize("text", ["", "flavors: [", "flavors: 1", "flavors: {sklearn: 1}"])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(StartError, match="MLmodel is not the description of an MLflow model"):
        load(tmp_path)


def test_mlflow_s_own_payloads_are_answered(tmp_path: Path) -> None:
    model = load(sklearn_folder(tmp_path))
    rows = X[:2].tolist()
    turned = {"columns": COLUMNS[::-1], "data": X[:2, ::-1].tolist()}
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    async def using(caller: Caller) -> None:
        for document in (
            {"dataframe_split": {"columns": COLUMNS, "data": rows}},
            {"dataframe_split": {**turned, "index": [0, 1]}},
            {"dataframe_records": records},
            {"instances": rows},
            {"inputs": rows},
        ):
            status, answer = await caller.post(document, "/invocations")
            assert (status, answer) == (200, {"predictions": Y[:2].tolist()}), document
        for document, said in (
            ({"data": rows}, "the body must have one of dataframe_split, dataframe_records"),
            ({"instances": rows, "inputs": rows}, "the body has instances and inputs"),
            ({"instances": rows, "params": {"a": 1}}, "params are not supported"),
            ({"dataframe_split": rows}, "dataframe_split must have `columns` and `data`"),
            ({"dataframe_records": 1}, "dataframe_records must be a list of objects"),
            ({"dataframe_records": [1]}, "dataframe_records, row 1: expected an object"),
            (
                {"dataframe_records": [*records, {"a": 1}]},
                "dataframe_records, row 3: missing 'b', 'c'",
            ),
            (
                {"dataframe_split": {"columns": ["a", "b", "z"], "data": rows}},
                "dataframe_split.columns: missing 'c'; unexpected 'z'",
            ),
        ):
            status, answer = await caller.post(document, "/invocations")
            assert status == 400
            assert said in answer["error"]

    run(model, using)


def test_only_mlflow_models_answer_at_its_path(tmp_path: Path) -> None:
    model = load(sklearn_folder(tmp_path))
    other = replace(model, manifest=replace(model.manifest, framework="sklearn"))

    async def paths() -> bool:
        return "/invocations" in Caller(other).routes

    assert not asyncio.run(paths())


def test_frames_in_json_data_are_answered_like_rows(tmp_path: Path) -> None:
    model = load(sklearn_folder(tmp_path))
    rows, expected = X[:2].tolist(), Y[:2].tolist()

    async def using(caller: Caller) -> None:
        for document, key in (
            ({"instances": rows}, "predictions"),
            ({"inputs": rows}, "outputs"),
            ({"dataframe_split": {"columns": COLUMNS, "data": rows}}, "predictions"),
        ):
            _, answer = await caller.post({"jsonData": document})
            assert answer["jsonData"] == {key: expected}

    run(model, using)


def test_a_network_s_input_has_its_name_in_each_flavour(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from mlops_pipeline_tests.serving.test_onnx import PRODUCT, network

    (tmp_path / "model.onnx").write_bytes(network([PRODUCT]).SerializeToString())
    model = load(write(tmp_path, {"onnx": {"data": "model.onnx"}}))
    assert not model.default.takes_columns
    with pytest.raises(RequestError, match="the model has one input"):
        v2.check_names(model, ["another"])


def test_a_schema_for_a_table_is_for_flavours_whose_loader_takes_it(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path)
    table = Schema(tuple(Column(name) for name in COLUMNS))
    manifest = replace(bare.describe(folder), schema=table)
    served = loading.load(folder, manifest, {}, graph_name="unit").default
    assert served.schema == table
    rows = X[:2].astype(object)
    assert predict(served, rows)[0][1].tolist() == Y[:2].tolist()
    write(folder, {})
    with pytest.raises(StartError, match="python_function does not take a table; it takes: array"):
        loading.load(folder, manifest, {}, graph_name="unit")


@pytest.mark.parametrize("ending", ["pkl", "skops"])
def test_a_model_that_is_saved_twice_has_the_same_content(tmp_path: Path, ending: str) -> None:
    found = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        sklearn_folder(folder, pickled_model=f"model.{ending}")
        if ending == "skops":
            io: Any = pytest.importorskip("skops.io")
            io.dump(joblib.load(folder / "model.pkl"), folder / "model.skops")
            (folder / "model.pkl").unlink()
        described = yaml.safe_load((folder / "MLmodel").read_text())
        described |= {"model_uuid": str(number), "utc_time_created": str(number)}
        (folder / "MLmodel").write_text(yaml.safe_dump(described))
        found.append(contents.of_mlflow(folder))
    assert found[0] == found[1]
    (folder / "requirements.txt").write_text("other\n")
    assert contents.of_mlflow(folder) != found[1]


def test_a_model_is_saved_as_it_is_served(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    (folder := tmp_path / "folder").mkdir()
    table = Schema(tuple(Column(name) for name in COLUMNS))
    frame = importlib.import_module("pandas").DataFrame(X, columns=COLUMNS)
    token = saving.SERVING.set(saving.Serving({"method": "predict_proba"}, table))
    try:
        trained = saving.save_mlflow(sklearn_folder(source), folder, rows=frame[:1])
    finally:
        saving.SERVING.reset(token)
    assert trained.outputs[0].name == "predict_proba"
    assert trained.predict(frame[:3]).shape == (3, 2)


CODE = """
import mlflow.pyfunc

class Summing(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        model_input["sum"] = model_input["a"] + model_input["b"]
        return model_input[["sum", "kind"]]

mlflow.models.set_model(Summing())
"""


@pytest.mark.embedded
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_python_function_is_loaded_by_mlflow_in_a_process_of_its_own(tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow.pyfunc")
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    code, folder = tmp_path / "summing.py", tmp_path / "model"
    code.write_text(CODE)
    columns: Any = [ColSpec("long", "a"), ColSpec("double", "b"), ColSpec("string", "kind")]
    mlflow.save_model(
        folder,
        python_model=code,
        pip_requirements=["numpy"],
        signature=ModelSignature(inputs=Schema(columns)),
    )
    model = load(folder, xtype="dataframe", method="predict")
    component = model.default.component
    assert component is not None
    assert model.default.columns == ("a", "b", "kind")

    async def using(caller: Caller) -> None:
        data = {"names": ["a", "b", "kind"], "ndarray": [[1, 2.5, "x"]]}
        _, answer = await caller.post({"data": data})
        assert answer["data"] == {"names": ["sum", "kind"], "ndarray": [[3.5, "x"]]}
        record = {"a": 1, "b": 2.5, "kind": "x"}
        status, answer = await caller.post({"dataframe_records": [record]}, "/invocations")
        assert (status, answer) == (200, {"predictions": [{"sum": 3.5, "kind": "x"}]})
        # In jsonData, as models of the other flavours answer.
        for kind, rows in (("instances", [[1, 2.5, "x"]]), ("dataframe_records", [record])):
            _, answer = await caller.post({"jsonData": {kind: rows}})
            assert answer["jsonData"] == {"predictions": [{"sum": 3.5, "kind": "x"}]}
        short = {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}
        for document in ({"data": {"ndarray": [[1, 2.5]]}}, short):
            path = "/invocations" if "data" not in document else "/api/v1.0/predictions"
            assert (await caller.post(document, path))[0] == 400
        for wrong, said in (
            ({**record, "a": "one"}, "the column 'a' must be int64"),
            ({**record, "a": 1.5}, "the column 'a' must be int64: a number is not whole"),
            ({"a": 1, "b": 2}, "the columns 'kind' are missing"),
        ):
            status, answer = await caller.post({"dataframe_records": [wrong]}, "/invocations")
            assert (status, said in json.dumps(answer)) == (400, True), answer

    try:
        run(model, using)
    finally:
        component.close()
    (folder / "requirements.txt").write_bytes(b"# \xe9\nnumpy==1\nnowhere==2\n")
    with pytest.raises(StartError, match=r"numpy 1 is required, but .*; nowhere 2 is not inst"):
        load(folder)


@pytest.mark.embedded
def test_tensors_and_booleans_have_the_type_of_the_signature_or_are_refused() -> None:
    pytest.importorskip("mlflow.pyfunc")
    from mlops_pipeline.serving.custom import pyfunc

    pandas: Any = importlib.import_module("pandas")

    class Given:
        def predict(self, given: Any) -> Any:
            return given

    one = pyfunc.PyFunc()
    one.model, one.columns, one.required, one.types = Given(), [], [], []
    one.tensors = {None: np.dtype("float32")}
    assert one.predict(np.array([[1.0, 2.0]]), []).dtype == np.float32
    one.tensors = {"x": np.dtype("int64"), "y": np.dtype("float32")}
    found = one.predict({"inputs": {"x": [1.0], "y": [1]}}, [])
    assert [found[name].dtype.name for name in "xy"] == ["int64", "float32"]
    with pytest.raises(pyfunc.PayloadError, match="x must be int64: a number is not of this type"):
        one.predict({"inputs": {"x": [1.5], "y": [1]}}, [])
    one.tensors, one.columns, one.types = {}, ["yes"], ["bool"]
    for rows in ([["false"]], [[float("nan")]], [[2]]):
        with pytest.raises(pyfunc.PayloadError, match="the column 'yes' must be bool"):
            one.predict(np.array(rows, dtype=object), [])
    assert one.predict(np.array([[True], [False]]), []).tolist() == [[True], [False]]
    assert one.predict(pandas.DataFrame({"yes": [1, 0]}), []).tolist() == [[True], [False]]
    with pytest.raises(pyfunc.PayloadError, match=r"expected 1 columns \('yes'\), got 2"):
        one.predict(np.zeros((1, 2)), [])
    with pytest.raises(ValueError, match="xtype must be ndarray or dataframe"):
        pyfunc.PyFunc(xtype="list")
