"""XGBoost and LightGBM: the library's own answers by every protocol, and damaged files."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import artifact, loading
from mlops_pipeline.serving.artifact import EXAMPLE, Tensor
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model, predict
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.settings import Place
from mlops_pipeline_tests.serving.at_once import seldon
from mlops_pipeline_tests.serving.everywhere import answers, read, request_of

pytest.importorskip("sklearn.linear_model")
lightgbm: Any = pytest.importorskip("lightgbm")
xgboost: Any = pytest.importorskip("xgboost")

RNG = np.random.default_rng(7)
X = RNG.normal(size=(120, 3)).round(3)
TWO = (X.sum(axis=1) > 0).astype(int)
THREE = TWO + (X[:, 0] > 0.5)
LABELS = (X[:, :2] > 0).astype(int)
ROWS = X[:4]
NAMES = ["width", "height", "depth"]


def loaded(folder: Path, **parameters: str) -> Model:
    (folder / EXAMPLE).write_text(json.dumps(X[:1].tolist()))
    manifest = loading.verify(folder, place=Place.POD)
    return loading.load(folder, manifest, parameters, graph_name=None)


def xgb(kind: str = "XGBClassifier", **options: Any) -> Any:
    return getattr(xgboost, kind)(n_estimators=8, max_depth=3, n_jobs=1, **options)


def lgb(kind: str = "LGBMClassifier", **options: Any) -> Any:
    options = {"min_child_samples": 5, "n_jobs": 1, "verbosity": -1, **options}
    return getattr(lightgbm, kind)(n_estimators=8, **options)


def save(model: Any, folder: Path, name: str = "") -> Any:
    if hasattr(model, "booster_"):
        model.booster_.save_model(folder / "model.txt")
    else:
        model.save_model(folder / (name or "model.ubj"))
    return model


@pytest.mark.parametrize("name", ["model.ubj", "model.json", "model.bst"])
@pytest.mark.filterwarnings("ignore:.*Saving model in the UBJSON format:UserWarning")
def test_each_file_of_xgboost_gives_its_answers_by_every_protocol(
    tmp_path: Path, name: str
) -> None:
    expected = save(xgb().fit(X, THREE), tmp_path, name).predict_proba(ROWS)
    model = loaded(tmp_path)
    assert model.manifest.framework == "xgboost"
    assert model.default.outputs == ("predict_proba", "predict")
    for protocol, scores in answers(model, ROWS.tolist()).items():
        assert np.allclose(scores, expected, atol=1e-7), protocol


def test_lightgbm_gives_its_answers_by_every_protocol(tmp_path: Path) -> None:
    expected = save(lgb().fit(X, THREE), tmp_path).predict_proba(ROWS)
    model = loaded(tmp_path)
    assert model.manifest.framework == "lightgbm"
    for protocol, scores in answers(model, ROWS.tolist()).items():
        assert np.allclose(scores, expected, atol=1e-12), protocol


Fit = Callable[[], Any]
CLASSIFIERS: dict[str, Fit] = {
    "two classes of XGBoost": lambda: xgb().fit(X, TWO),
    "several labels": lambda: xgb().fit(X, np.c_[LABELS, TWO]),
    "several labels in each leaf": lambda: xgb(multi_strategy="multi_output_tree").fit(X, LABELS),
    "a softmax": lambda: xgb(objective="multi:softmax").fit(X, THREE),
    "trees that drop out": lambda: xgb(booster="dart", rate_drop=0.3).fit(X, TWO),
    "a forest": lambda: xgb("XGBRFClassifier").fit(X, THREE),
    "stopped early": lambda: xgboost.XGBClassifier(
        n_estimators=60, learning_rate=1.0, n_jobs=1, early_stopping_rounds=2
    ).fit(X[:60], TWO[:60], eval_set=[(X[60:], 1 - TWO[60:])], verbose=False),
    "two classes of LightGBM": lambda: lgb().fit(X, TWO),
    "one against the others": lambda: lgb(objective="multiclassova").fit(X, THREE),
    "LightGBM, stopped early": lambda: lightgbm.LGBMClassifier(
        n_estimators=60, learning_rate=1.0, min_child_samples=5, n_jobs=1, verbosity=-1
    ).fit(
        X[:60],
        TWO[:60],
        eval_X=X[60:],
        eval_y=1 - TWO[60:],
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
    ),
}


@pytest.mark.parametrize("fit", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_a_classifier_answers_as_its_estimator(tmp_path: Path, fit: Fit) -> None:
    estimator = save(fit(), tmp_path)
    model = loaded(tmp_path)
    scores = predict(model.default, X, ["predict_proba", "predict"])
    expected = estimator.predict_proba(X)
    assert expected.shape[1] in (2, 3)
    assert np.allclose(scores[0][1], expected, atol=1e-6)
    assert scores[1][1].tolist() == estimator.predict(X).tolist()
    assert loaded(tmp_path, method="predict").default.default_outputs == ("predict",)


def test_the_estimators_that_stop_early_stopped_before_the_last_tree() -> None:
    assert CLASSIFIERS["stopped early"]().best_iteration < 57
    assert CLASSIFIERS["LightGBM, stopped early"]().best_iteration_ < 57


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_booster_that_stopped_early_answers_with_its_best_trees(
    tmp_path: Path, library: str
) -> None:
    seen, others = (X[:60], TWO[:60]), (X[60:], 1 - TWO[60:])
    if library == "xgboost":
        booster = xgboost.train(
            {"objective": "binary:logistic", "nthread": 1},
            xgboost.DMatrix(*seen),
            60,
            evals=[(xgboost.DMatrix(*others), "others")],
            early_stopping_rounds=3,
            verbose_eval=False,
        )
        kept = booster.best_iteration + 1
        expected = booster.inplace_predict(X, iteration_range=(0, kept))
        assert not np.allclose(booster.inplace_predict(X), expected)
        booster.save_model(tmp_path / "model.ubj")
    else:
        data = lightgbm.Dataset(*seen)
        booster = lightgbm.train(
            {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5},
            data,
            60,
            valid_sets=[lightgbm.Dataset(*others, reference=data)],
            callbacks=[lightgbm.early_stopping(3, verbose=False)],
        )
        expected, kept = booster.predict(X), booster.best_iteration
        booster.save_model(tmp_path / "model.txt")
    assert kept < 57
    assert np.allclose(predict(loaded(tmp_path).default, X)[0][1][:, 1], expected, atol=1e-6)


REGRESSORS: dict[str, Fit] = {
    "XGBoost": lambda: xgb("XGBRegressor").fit(X, X.sum(axis=1)),
    "ranks": lambda: xgb("XGBRanker").fit(X, TWO, qid=np.arange(len(X)) // 12),
    "several targets": lambda: xgb("XGBRegressor").fit(X, X[:, :2] + 1),
    "counts": lambda: xgb("XGBRegressor", objective="count:poisson").fit(X, THREE),
    "LightGBM": lambda: lgb("LGBMRegressor").fit(X, X.sum(axis=1)),
}


@pytest.mark.parametrize("fit", REGRESSORS.values(), ids=REGRESSORS)
def test_what_has_no_probabilities_serves_its_predictions(tmp_path: Path, fit: Fit) -> None:
    expected = save(fit(), tmp_path).predict(X)
    model = loaded(tmp_path)
    assert model.default.outputs == ("predict",)
    assert np.allclose(predict(model.default, X)[0][1], expected, atol=1e-6)
    with pytest.raises(
        StartError, match=r"no method 'predict_proba', .*; it has predict"
    ) as caught:
        loaded(tmp_path, method="predict_proba")
    assert caught.value.code == ExitCode.SETTINGS


def test_a_linear_booster_of_xgboost_is_served(tmp_path: Path) -> None:
    expected = save(xgboost.XGBClassifier(n_estimators=8, booster="gblinear").fit(X, TWO), tmp_path)
    assert np.allclose(predict(loaded(tmp_path).default, X)[0][1], expected.predict_proba(X))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_named_columns_are_put_in_order_or_refused(tmp_path: Path, library: str) -> None:
    if library == "xgboost":
        data = xgboost.DMatrix(X, TWO, feature_names=NAMES)
        booster = xgboost.train({"objective": "binary:logistic"}, data, 5)
        booster.save_model(tmp_path / "model.ubj")
    else:
        data = lightgbm.Dataset(X, TWO, feature_name=NAMES)
        options = {"objective": "binary", "verbosity": -1}
        lightgbm.train(options, data, 5).save_model(tmp_path / "model.txt")
    model = loaded(tmp_path)
    assert model.default.columns == tuple(NAMES)

    def ask(names: list[str], rows: Any) -> Any:
        request = request_of({"data": {"names": names, "ndarray": rows.tolist()}})
        return read(seldon.predictions(Unit(model, "image:1"), request))["data"]["ndarray"]

    straight = ask(NAMES, ROWS)
    assert straight == ask(NAMES[::-1], ROWS[:, ::-1]) != ask(NAMES, ROWS[:, ::-1])
    with pytest.raises(RequestError, match="missing 'depth'; unexpected 'length'"):
        ask(["width", "height", "length"], ROWS)
    with pytest.raises(RequestError, match=r"expected shape \[n, 3\], got \[1, 2\]"):
        ask([], np.array([[1.0, 2.0]]))


def test_a_number_beyond_32_bits_is_refused_instead_of_becoming_infinite(tmp_path: Path) -> None:
    save(xgb().fit(X, TWO), tmp_path)
    with pytest.raises(RequestError) as caught:
        predict(loaded(tmp_path).default, np.array([[1e300, 0, 0]]))
    assert caught.value.reason == "OUT_OF_RANGE"


@pytest.mark.parametrize("fit", [xgb, lgb])
def test_missing_values_are_answered_by_every_protocol(tmp_path: Path, fit: Fit) -> None:
    some = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    estimator = save(fit().fit(some, TWO), tmp_path)
    model = loaded(tmp_path)
    missing = np.array([[np.nan, 0.5, -0.5], [0.25, np.nan, np.nan], [np.nan] * 3])
    expected = estimator.predict_proba(missing)
    assert not np.allclose(expected, estimator.predict_proba(np.nan_to_num(missing)))
    rows = [[None if np.isnan(value) else value for value in row] for row in missing.tolist()]
    for protocol, scores in answers(model, rows).items():
        assert np.allclose(scores, expected, atol=1e-6), protocol
    for bad in ([[np.inf, 0, 0]], [[np.nan, 0, -np.inf]]):
        with pytest.raises(RequestError, match="the model cannot use Infinity"):
            predict(model.default, np.array(bad))


def test_a_number_beyond_32_bits_beside_a_missing_one_is_refused(tmp_path: Path) -> None:
    save(xgb().fit(X, TWO), tmp_path)
    with pytest.raises(RequestError) as caught:
        predict(loaded(tmp_path).default, np.array([[-1e300, np.nan, 0]]))
    assert caught.value.reason == "OUT_OF_RANGE"


# Damage


def refusal(folder: Path, framework: str, **fields: Any) -> str:
    """Return why a server with this manifest does not start."""
    manifest = artifact.Manifest(
        "mine", framework, artifact.hash_files(folder), **{"inputs": (), "outputs": (), **fields}
    )
    (folder / artifact.MANIFEST).write_text(manifest.to_json())
    with pytest.raises(StartError) as caught:
        loading.load(folder, loading.verify(folder), {}, graph_name=None)
    assert caught.value.code == ExitCode.MODEL
    (folder / artifact.MANIFEST).unlink()
    return str(caught.value)


FILES: dict[str, tuple[str, Fit]] = {
    "model.ubj": ("xgboost", lambda: xgb().fit(X, THREE)),
    "model.json": ("xgboost", lambda: xgb().fit(X, THREE)),
    "model.txt": ("lightgbm", lambda: lgb().fit(X, THREE)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, name: str) -> None:
    """Without the check of its end, XGBoost reads it forever and LightGBM crashes the process."""
    framework, fit = FILES[name]
    save(fit(), tmp_path, name)
    file = tmp_path / name
    content = file.read_bytes()
    places = {*RNG.integers(20, len(content), 40), len(content) // 2}
    if name == "model.txt":  # After its trees, only truncated parameters are damage.
        begin = content.index(b"\nparameters:\n")
        places = {*(places - {*range(content.index(b"\nend of trees"), begin + 13)}), begin + 14}
    else:
        places |= {len(content) - 1, len(content) - 2}
    places |= {place + 1 for place in range(len(content) - 200) if content[place] == ord("}")}
    for place in sorted(places)[:: max(1, len(places) // 200)]:
        file.write_bytes(content[:place])
        if name == "model.txt" and b"\nend of parameters" in content[:place]:
            continue
        assert f"{name} does not load with" in refusal(tmp_path, framework), place
    file.write_bytes(content[:500])
    assert "it is incomplete; copy or download it again" in refusal(tmp_path, framework)


def test_a_file_of_lightgbm_needs_no_parameters(tmp_path: Path) -> None:
    expected = save(lgb().fit(X, THREE), tmp_path).predict_proba(X)
    file = tmp_path / "model.txt"
    file.write_text(file.read_text().partition("\nparameters:\n")[0])
    assert np.allclose(predict(loaded(tmp_path).default, X)[0][1], expected, atol=1e-12)


def test_a_dump_and_a_byte_order_mark_say_what_they_are(tmp_path: Path) -> None:
    estimator = xgb().fit(X, TWO)
    file = tmp_path / "model.json"
    estimator.get_booster().dump_model(file, dump_format="json")
    assert "it is a dump of trees" in refusal(tmp_path, "xgboost")
    estimator.save_model(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert "it begins with a byte order mark" in refusal(tmp_path, "xgboost")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 a zip", b"\xff\x00" * 90])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} does not load with" in refusal(tmp_path, FILES[name][0])


def test_models_of_the_other_library_are_refused(tmp_path: Path) -> None:
    save(lgb().fit(X, TWO), tmp_path)
    (tmp_path / "model.txt").rename(tmp_path / "model.ubj")
    assert "it is neither JSON nor UBJSON" in refusal(tmp_path, "xgboost")
    xgb().fit(X, TWO).save_model(tmp_path / "model.json")
    (tmp_path / "model.json").rename(tmp_path / "model.txt")
    assert "not a model in LightGBM's text format" in refusal(tmp_path, "lightgbm")
    (tmp_path / "model.ubj").write_bytes(pickle.dumps(xgb().fit(X, TWO)))
    assert "it is neither JSON nor UBJSON" in refusal(tmp_path, "xgboost")
    (tmp_path / "model.ubj").write_text('{"weights": [1.0], "version": [3, 2, 0]}')
    assert "model.ubj does not load with XGBoost 3.2.0: XGBoostError: " in refusal(
        tmp_path, "xgboost"
    )


def test_a_folder_without_the_file_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"x")
    assert (
        f"There is no model.ubj or model.json or model.bst in {tmp_path}, which contains "
        "manifest.json, model.joblib."
    ) in refusal(tmp_path, "xgboost")


@pytest.mark.parametrize("name", ["model.ubj", "model.txt"])
def test_another_number_of_features_than_the_manifests_is_refused(
    tmp_path: Path, name: str
) -> None:
    framework, fit = FILES[name]
    save(fit(), tmp_path, name)
    inputs = (Tensor("predict", (-1, 4), "FP32"),)
    assert refusal(tmp_path, framework, inputs=inputs) == (
        "The manifest has rows of shape [4], but the model expects [3]."
    )


@pytest.mark.parametrize("categories", [["north", "south"], [1, 5]])
@pytest.mark.parametrize("name", ["model.ubj", "model.txt"])
def test_categories_of_a_data_frame_are_refused_with_what_to_do(
    tmp_path: Path, name: str, categories: list[Any]
) -> None:
    pandas: Any = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES)
    frame["depth"] = pandas.Categorical(np.array(categories)[TWO])
    save((lgb() if name == "model.txt" else xgb(enable_categorical=True)).fit(frame, TWO), tmp_path)
    said = refusal(tmp_path, FILES[name][0])
    assert f"{name} was trained on a data frame with columns of categories" in said
    assert "publish it as a model whose dataset has a Schema with form='table'" in said


def test_categories_that_are_numbers_are_served(tmp_path: Path) -> None:
    rows = np.c_[X[:, :2], THREE]
    kinds = ["q", "q", "c"]
    estimator = save(xgb(enable_categorical=True, feature_types=kinds).fit(rows, TWO), tmp_path)
    expected = estimator.predict_proba(rows)
    assert np.allclose(predict(loaded(tmp_path).default, rows)[0][1], expected, atol=1e-6)
    data = lightgbm.Dataset(rows, TWO, categorical_feature=[2])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 5)
    (tmp_path / "model.ubj").unlink()
    booster.save_model(tmp_path / "model.txt")
    scores = predict(loaded(tmp_path).default, rows)[0][1]
    assert np.allclose(scores[:, 1], booster.predict(rows))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "onnx"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "onnxruntime" if name == "onnx" else name
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"mlops_pipeline.serving.{name}_loader", raising=False)
    (tmp_path / "model").touch()
    said = refusal(tmp_path, name)
    assert f"{name} cannot be used here: " in said
    assert f"`{sys.executable} -m pip install 'mlops-pipeline[{name}]'`." in said


def test_a_library_that_lacks_openmp_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "path" / "lightgbm"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('libgomp.so.1: cannot open it')")
    monkeypatch.syspath_prepend(tmp_path / "path")
    for name in [n for n in sys.modules if n.partition(".")[0] == "lightgbm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "mlops_pipeline.serving.lightgbm_loader", raising=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.txt").touch()
    said = refusal(tmp_path / "model", "lightgbm")
    assert "libgomp.so.1: cannot open it (it needs OpenMP: the package libgomp1 of Debian" in said
