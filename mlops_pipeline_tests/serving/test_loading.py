import dataclasses
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.serving import artifact, loading
from mlops_pipeline.serving.batch_limits import ALONE, BatchLimits
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.settings import Place
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_signature


def an_artifact(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.joblib").write_bytes(b"model")
    files = artifact.hash_files(folder)
    manifest = artifact.Manifest("toy", "sklearn", files, inputs=(), outputs=())
    (folder / artifact.MANIFEST).write_text(manifest.to_json())
    return folder


def test_a_whole_artifact_is_verified(tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "a folder")
    assert loading.verify(folder).name == "toy"


def test_a_broken_artifact_is_refused_with_its_files_named(tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "model")
    (folder / "extra.txt").write_text("x")
    (folder / "model.joblib").write_bytes(b"changed")
    with pytest.raises(StartError, match=r"extra: extra.txt; changed: model.joblib") as caught:
        loading.verify(folder)
    assert caught.value.code == ExitCode.ARTIFACT


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '{"digest": 1}', '{"files": 1, "digest": 1}']
)
def test_a_manifest_of_any_garbage_is_refused(tmp_path: Path, text: str) -> None:
    folder = an_artifact(tmp_path / "model")
    (folder / artifact.MANIFEST).write_text(text)
    with pytest.raises(StartError, match=artifact.MANIFEST) as caught:
        loading.verify(folder)
    assert caught.value.code == ExitCode.ARTIFACT


def test_a_manifest_with_fields_of_wrong_types_is_refused(tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "model")
    fields = json.loads((folder / artifact.MANIFEST).read_text())
    (folder / artifact.MANIFEST).write_text(json.dumps({**fields, "files": ["model.joblib"]}))
    with pytest.raises(StartError, match=artifact.MANIFEST):
        loading.verify(folder)


def test_the_implementation_has_to_serve_the_framework() -> None:
    loading.check_implementation(toy_manifest(), "SKLEARN_SERVER")
    with pytest.raises(StartError, match="TENSORFLOW_SERVER serves tensorflow models"):
        loading.check_implementation(toy_manifest(), "TENSORFLOW_SERVER")
    with pytest.raises(StartError, match="expected SKLEARN_SERVER, TENSORFLOW_SERVER, XGB"):
        loading.check_implementation(toy_manifest(), "CAFFE_SERVER")


def test_an_unknown_framework_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="'caffe'") as caught:
        loading.load(tmp_path, toy_manifest(framework="caffe"), {}, graph_name=None)
    assert caught.value.code == ExitCode.MODEL


def test_a_model_that_does_not_answer_its_example_is_refused() -> None:
    loading.warm(toy_model())
    loading.warm(toy_model(toy_signature(row_shape=(4, 4), dtype="float32")))
    nameless = replace(toy_model(toy_signature()), example=np.ones((1, 4)))
    object.__setattr__(nameless.default, "default_outputs", ("gone",))
    with pytest.raises(StartError, match="loads, but does not answer its example") as caught:
        loading.warm(nameless)
    assert caught.value.code == ExitCode.MODEL
    loading.warm(replace(nameless, example=None))


def batches(signature: Signature, **parameters: str) -> BatchLimits:
    return loading.warm(toy_model(signature).for_unit(parameters)).default.batch


def test_only_a_model_whose_rows_are_independent_computes_requests_together() -> None:
    def centered(rows: Array, names: Sequence[str]) -> list[Array]:
        return [rows - rows.mean(axis=0)]

    def one_at_a_time(rows: Array, names: Sequence[str]) -> list[Array]:
        if len(rows) != 1:
            raise ValueError("one row")
        return [rows]

    def never(rows: Array, names: Sequence[str]) -> list[Array]:
        raise ValueError("never")

    signature = toy_signature()
    assert batches(signature) == BatchLimits(rows=64, seconds=0.0)
    limits = {"max_batch_size": "32", "max_batch_time": "0.002"}
    assert batches(signature, **limits) == BatchLimits(rows=32, seconds=0.002)
    assert batches(signature, max_batch_size="1") == ALONE
    for compute in (centered, one_at_a_time, never):
        assert batches(replace(signature, compute=compute)) == ALONE
    fields = {f.name: getattr(signature, f.name) for f in dataclasses.fields(signature)}
    del fields["is_rowwise"]
    assert batches(Signature(**fields)) == ALONE, "a loader says whether rows are independent"


def test_what_was_not_tried_or_differs_in_shape_or_type_is_computed_alone() -> None:
    def only_equal(rows: Array, names: Sequence[str]) -> list[Array]:
        if (rows != rows[0]).any():
            raise ValueError("different rows")
        return [rows]

    def as_wide_as_high(rows: Array, names: Sequence[str]) -> list[Array]:
        return [np.ones((len(rows), len(rows) + 1))]

    def text_of_many(rows: Array, names: Sequence[str]) -> list[Array]:
        return [rows if len(rows) == 1 else np.full(rows.shape, "many", dtype=object)]

    for compute in (only_equal, as_wide_as_high, text_of_many):
        assert batches(replace(toy_signature(), compute=compute)) == ALONE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_batch_size", value) for value in ("-1", "1.5", "many", "65537", "")),
        *(("max_batch_time", value) for value in ("-1", "11", "nan", "soon", "")),
    ],
)
def test_limits_of_batches_that_are_none_are_refused(name: str, value: str) -> None:
    with pytest.raises(StartError, match=f"The parameter {name} must be") as caught:
        toy_model().for_unit({name: value})
    assert caught.value.code == ExitCode.SETTINGS


def a_bare_model(folder: Path, name: str = "model.joblib") -> artifact.Manifest:
    joblib = pytest.importorskip("joblib")
    from sklearn.linear_model import LogisticRegression

    rows, labels = [[0.0, 1.0], [1.0, 0.0], [2.0, 0.5]], [0, 1, 1]
    model, file = LogisticRegression().fit(rows, labels), folder / name
    joblib.dump(model, file) if name.endswith(".joblib") else file.write_bytes(pickle.dumps(model))
    return loading.verify(folder, place=Place.POD)


@pytest.mark.parametrize("name", ["model.pickle", "model.pkl"])
def test_a_pickle_of_scikit_learn_is_served_too(tmp_path: Path, name: str) -> None:
    model = loading.load(tmp_path, a_bare_model(tmp_path, name), {}, graph_name=None)
    assert model.default.outputs == ("predict_proba", "decision_function", "predict")
    (tmp_path / name).write_bytes(b"no pickle")
    with pytest.raises(StartError, match=rf"{name} does not load with scikit-learn"):
        loading.load(tmp_path, loading.verify(tmp_path, place=Place.POD), {}, graph_name=None)


def test_a_model_without_a_manifest_is_served_only_in_a_pod(tmp_path: Path) -> None:
    model = loading.load(tmp_path, a_bare_model(tmp_path), {}, graph_name="classifier")
    assert (model.name, model.digest, model.version, model.version_name) == (
        "classifier",
        "",
        1,
        "1",
    )
    assert model.manifest.inputs == (artifact.Tensor("predict", (-1, 2), "FP64"),)
    assert model.default.default_outputs == ("predict_proba",)
    with pytest.raises(StartError, match=artifact.MANIFEST):
        loading.verify(tmp_path)


def test_the_implementation_says_which_model_of_a_folder_is_meant(tmp_path: Path) -> None:
    a_bare_model(tmp_path, "model.pkl")
    (tmp_path / "model.ubj").touch()
    (tmp_path / "Mine.py").write_text("class Mine: ...")
    (tmp_path / "MLmodel").write_text("flavors: {}")
    wanted = {
        "SKLEARN_SERVER": "sklearn",
        "XGBOOST_SERVER": "xgboost",
        "PYTHON_SERVER": "python",
        "MLFLOW_SERVER": "mlflow",
        None: "mlflow",
    }
    for implementation, framework in wanted.items():
        found = loading.verify(tmp_path, place=Place.POD, implementation=implementation)
        assert found.framework == framework
    with pytest.raises(StartError, match=r"expected .* or model.onnx; set modelUri"):
        loading.verify(tmp_path, place=Place.POD, implementation="ONNX_SERVER")


def test_the_method_is_the_parameters(tmp_path: Path) -> None:
    manifest = a_bare_model(tmp_path)
    model = loading.load(tmp_path, manifest, {"method": "predict"}, graph_name=None)
    assert (model.name, model.default.default_outputs) == ("model", ("predict",))
    with pytest.raises(StartError, match="'transform'"):
        loading.load(tmp_path, manifest, {"method": "transform"}, graph_name=None)


def test_without_parameters_any_signature_may_be_the_default(tmp_path: Path) -> None:
    model = loading.load(tmp_path, a_bare_model(tmp_path), None, graph_name=None)
    assert model.for_unit({"method": "predict"}).default.default_outputs == ("predict",)
    with pytest.raises(StartError, match="'transform'"):
        model.for_unit({"method": "transform"})


def test_a_model_of_another_version_is_refused_with_this_one(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    import sklearn
    from sklearn.linear_model import LogisticRegression

    older = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    del older.C  # As if the version that wrote it knew no such parameter.
    joblib.dump(older, tmp_path / "model.joblib")
    manifest = loading.verify(tmp_path, place=Place.POD)
    with pytest.raises(StartError, match=f"scikit-learn {sklearn.__version__}.*'C'") as caught:
        loading.load(tmp_path, manifest, {}, graph_name=None)
    assert caught.value.code == ExitCode.MODEL
