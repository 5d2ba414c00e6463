"""Models of scikit-learn that are odd, and valid: the right answers by every protocol."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.artifact import EXAMPLE, Tensor
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.settings import Place
from mlops_pipeline.serving.units import unit_of
from mlops_pipeline_tests.serving.at_once import seldon, v2
from mlops_pipeline_tests.serving.everywhere import answers, read, request_of
from mlops_pipeline_tests.serving.test_units import said

joblib = pytest.importorskip("joblib")
pd = pytest.importorskip("pandas")

from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.cluster import DBSCAN, KMeans  # noqa: E402
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import (  # noqa: E402
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
)
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KernelDensity, KNeighborsClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC  # noqa: E402

RNG = np.random.default_rng(7)
X = RNG.integers(1, 4, (60, 3)).astype(float)
Y = (X.sum(axis=1) > 6).astype(int)
SPECIES = np.array(["setosa", "ünïcödé 🌷"])[Y]
MULTI = np.c_[Y, Y[::-1]]
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
ROWS = X[:4]


def squares(rows: Any) -> Any:
    return np.asarray(rows) ** 2


def first_two(frame: Any) -> Any:
    return frame[["b", "a"]]


def as_half(rows: Any) -> Any:
    return np.asarray(rows, dtype=np.float16)


def on_names() -> Any:
    return ColumnTransformer([("s", StandardScaler(), ["c", "a"]), ("o", OneHotEncoder(), ["b"])])


ODD: dict[str, tuple[Callable[[], Any], str]] = {
    "one-hot": (lambda: make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, Y), ""),
    "ordinal": (lambda: make_pipeline(OrdinalEncoder(), GaussianNB()).fit(X, Y), ""),
    "box-cox": (lambda: make_pipeline(PowerTransformer("box-cox"), GaussianNB()).fit(X, Y), ""),
    "columns by name": (lambda: make_pipeline(on_names(), LogisticRegression()).fit(FRAME, Y), ""),
    "columns by function": (
        lambda: make_pipeline(FunctionTransformer(first_two), LogisticRegression()).fit(FRAME, Y),
        "",
    ),
    "a function first": (
        lambda: make_pipeline(FunctionTransformer(squares), LinearRegression()).fit(X, Y),
        "",
    ),
    "pandas output": (
        lambda: (
            make_pipeline(StandardScaler(), LogisticRegression())
            .set_output(transform="pandas")
            .fit(FRAME, Y)
        ),
        "",
    ),
    "a frame as answer": (
        lambda: make_pipeline(StandardScaler(), PCA(2)).set_output(transform="pandas").fit(FRAME),
        "",
    ),
    "half floats": (lambda: FunctionTransformer(as_half).fit(X), ""),
    "text classes": (lambda: KNeighborsClassifier().fit(X, SPECIES), "predict"),
    "classes that are objects": (
        lambda: GaussianNB().fit(X, SPECIES.astype(object)),
        "predict",
    ),
    "regressor": (lambda: GradientBoostingRegressor(n_estimators=5).fit(X, Y), ""),
    "two targets": (lambda: RandomForestRegressor(3).fit(X, MULTI * 1.5), ""),
    "scaled target": (
        lambda: TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler()).fit(
            X, Y * 2.5
        ),
        "",
    ),
    "calibrated": (lambda: CalibratedClassifierCV(GaussianNB(), cv=2).fit(X, SPECIES), ""),
    "margins": (lambda: RidgeClassifier().fit(X, Y), ""),
    "support vectors": (lambda: SVC().fit(X, SPECIES), "predict"),
    "clusters": (lambda: KMeans(2, n_init=1).fit(X), ""),
    "distances": (lambda: KMeans(2, n_init=1).fit(X), "transform"),
    "anomalies": (lambda: IsolationForest(n_estimators=5).fit(X), ""),
    "anomalies by class": (lambda: IsolationForest(n_estimators=5).fit(X), "predict"),
    "votes": (
        lambda: VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())]).fit(X, Y),
        "",
    ),
    "searched": (
        lambda: GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=2).fit(FRAME, Y),
        "",
    ),
    "multi-label": (lambda: OneVsRestClassifier(LogisticRegression()).fit(X, MULTI), ""),
    "chain": (lambda: ClassifierChain(LogisticRegression()).fit(X, MULTI), ""),
    "imputed, selected": (
        lambda: make_pipeline(SimpleImputer(), SelectKBest(k=2), LogisticRegression()).fit(X, Y),
        "",
    ),
    "a sparse answer": (lambda: OneHotEncoder().fit(X), ""),
    "a sparse prediction": (
        lambda: OneVsRestClassifier(LogisticRegression()).fit(X, _sparse(MULTI)),
        "predict",
    ),
    "one feature": (lambda: LinearRegression().fit(X[:, :1], Y), ""),
    "dates": (lambda: GaussianNB().fit(X, np.array(["2026-01-01", "2027"], "M8[D]")[Y]), "predict"),
}


def _sparse(array: Any) -> Any:
    return OneHotEncoder(drop="if_binary").fit_transform(array)


def served(estimator: Any, folder: Path, *, example: object = None, **parameters: str) -> Model:
    """Return the model as a pod serves it that is given nothing but the file."""
    joblib.dump(estimator, folder / "model.joblib")
    if example is not None:
        (folder / EXAMPLE).write_text(json.dumps(example))
    manifest = loading.verify(folder, place=Place.POD)
    return loading.load(folder, manifest, parameters, graph_name="odd")


def expected(estimator: Any, method: str, rows: Any) -> Any:
    if not method:
        method = next(
            name
            for name in ("predict_proba", "decision_function", "predict", "transform")
            if hasattr(estimator, name)
        )
    given = (
        pd.DataFrame(rows, columns=FRAME.columns)
        if hasattr(estimator, "feature_names_in_")
        else rows
    )
    answer = getattr(estimator, method)(given)
    answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
    return answer.astype(str) if answer.dtype.kind in "M" else answer


@pytest.mark.parametrize("name", ODD)
def test_every_protocol_gives_the_models_own_answer(name: str, tmp_path: Path) -> None:
    make, method = ODD[name]
    estimator = make()
    model = served(estimator, tmp_path, **({"method": method} if method else {}))
    columns = getattr(estimator, "n_features_in_", ROWS.shape[1])
    rows = ROWS[:, :columns]
    wanted = expected(estimator, method, rows)
    for protocol, answer in answers(model, rows.tolist()).items():
        assert np.shape(answer) == wanted.shape, protocol
        if wanted.dtype.kind in "fiu":
            assert answer == pytest.approx(wanted.tolist() if wanted.ndim == 1 else wanted), (
                protocol
            )
        else:
            assert answer == wanted.tolist(), protocol


def test_parts_in_numbered_folders_are_no_versions(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "saved_model.pb").write_bytes(b"a part of the model")
    model = served(LinearRegression().fit(X, Y), tmp_path)
    assert (model.number, model.unserved, model.version_names) == (1, (), ("1",))


def test_several_outputs_are_answered_rows_first(tmp_path: Path) -> None:
    forest = RandomForestClassifier(3, random_state=1).fit(X, MULTI)
    per_output = forest.predict_proba(ROWS[:3])
    for answer in answers(served(forest, tmp_path), ROWS[:3].tolist()).values():
        assert np.shape(answer) == (3, 2, 2)
        for number, scores in enumerate(per_output):
            assert np.array(answer)[:, number] == pytest.approx(scores)


def test_outputs_with_other_numbers_of_classes_need_a_method(tmp_path: Path) -> None:
    targets = np.c_[Y, X[:, 0]]
    model = MultiOutputClassifier(GaussianNB()).fit(X, targets)
    with pytest.raises(StartError, match=r"\[2, 3\].*method to one of predict") as caught:
        served(model, tmp_path)
    assert caught.value.code == ExitCode.SETTINGS
    for answer in answers(served(model, tmp_path, method="predict"), ROWS.tolist()).values():
        assert answer == model.predict(ROWS).tolist()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("cumulative", r"has shape \[\d+, 2\] for [12] rows"),
        ("complex_roots", "is of type complex128; numbers, booleans and text"),
        ("nothing", "contains values of type NoneType"),
        ("ragged", "has rows of different lengths"),
        ("total", r"has shape \[\] for [12] rows"),
        ("column_sums", r"has shape \[1, 3\] for 2 rows"),
        ("squeezed", r"has shape \[3\] for 1 rows"),
    ],
)
def test_an_answer_that_no_protocol_can_write_is_refused_before_it_is_ready(
    function: str, reason: str, tmp_path: Path
) -> None:
    for example in (None, [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]):
        with pytest.raises(StartError, match=f"cannot be served.*{reason}") as caught:
            served(FunctionTransformer(globals()[function]).fit(X), tmp_path, example=example)
        assert caught.value.code == ExitCode.MODEL


def cumulative(rows: Any) -> Any:
    return np.ones((7, 2))


def complex_roots(rows: Any) -> Any:
    return np.sqrt(np.asarray(rows, dtype=complex))


def nothing(rows: Any) -> Any:
    return np.array([None] * len(rows))


def ragged(rows: Any) -> Any:
    return _Ragged()


class _Ragged:
    def __array__(self, *_: object, **__: object) -> Any:
        return np.array([[1.0], [1.0, 2.0]])


def total(rows: Any) -> Any:
    return np.asarray(rows).sum()


def column_sums(rows: Any) -> Any:
    return np.asarray(rows).sum(axis=0, keepdims=True)


def squeezed(rows: Any) -> Any:
    return np.asarray(rows).squeeze()


def single(rows: Any) -> Any:
    if len(rows) != 1:
        raise ValueError("expected one row")
    return np.asarray(rows)


def pairs(rows: Any) -> Any:
    if len(rows) != 2:
        raise ValueError("expected two rows")
    return np.asarray(rows)


def test_a_model_with_a_fixed_batch_size_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = [1.0, 2.0, 3.0]
    for function, rows, others in ((single, 1, 2), (pairs, 2, 1)):
        model = served(FunctionTransformer(function).fit(X), tmp_path, example=[row] * rows)
        assert answers(model, [row] * rows)["V2"] == [row] * rows
        assert f"odd answers {rows} rows, but refuses {others}: " in caplog.text
    with pytest.raises(StartError, match=r"does not answer its example: .*expected two rows"):
        served(FunctionTransformer(pairs).fit(X), tmp_path, example=[row])


def picky(rows: Any) -> Any:
    if np.asarray(rows).max() < 2:
        raise ValueError("only large numbers")
    return np.asarray(rows)


def test_warming_is_a_help(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = served(FunctionTransformer(picky).fit(X), tmp_path)
    assert "only large numbers" in caplog.text
    assert answers(model, [[3.0, 3.0, 3.0]])["V2"] == [[3.0, 3.0, 3.0]]


def test_an_example_is_a_proof(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    estimator = FunctionTransformer(picky).fit(X)
    served(estimator, tmp_path, example=[[1.0, 2.0, 3.0]])
    assert not caplog.text
    with pytest.raises(StartError, match=r"does not answer its example: .*only large numbers"):
        served(estimator, tmp_path, example=[[1.0, 1.0, 1.0]])


@pytest.mark.parametrize("example", [[], {}, "x", [["a"]], [[1.0]], [[1.0], [1.0, 2.0]], [[None]]])
def test_an_example_that_is_none_is_passed_over(
    example: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served(GaussianNB().fit(X, Y), tmp_path, example=example)
    assert "Not using " in caplog.text
    assert f"{EXAMPLE}: " in caplog.text


class Halves(FunctionTransformer):  # type: ignore[misc]
    """Two methods, and the first one, the default, does not answer."""

    def predict_proba(self, rows: Any) -> Any:
        return np.full(len(rows), np.nan)

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows)[:, 0] / 2


def test_what_no_unit_has_selected_does_not_stop_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    example = [[3.0, 2.0, 1.0]]
    with pytest.raises(StartError, match=r"does not answer its example: .*not finite"):
        served(Halves(), tmp_path, example=example)
    manifest = loading.verify(tmp_path, place=Place.POD)
    behind = loading.load(tmp_path, manifest, None, graph_name="odd")
    assert "No unit has selected the signature 'serving_default' yet: " in caplog.text
    unit = unit_of(Unit(behind, "server:1"), said(method="predict"))
    assert answers(unit.model, example)["V2"] == [1.5]
    with pytest.raises(RequestError, match=r"does not answer its example: .*not finite"):
        unit_of(Unit(behind, "server:1"), said())


def test_a_model_that_cannot_predict_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="a DBSCAN, which cannot predict new rows"):
        served(DBSCAN().fit(X), tmp_path)


def test_a_misspelt_parameter_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        StartError, match="Unknown parameter 'metod'; this model accepts method"
    ) as caught:
        served(GaussianNB().fit(X, Y), tmp_path, metod="predict")
    assert caught.value.code == ExitCode.SETTINGS


def as_mlserver_writes(*names: str) -> Any:
    """Return what MLServer 1.7.1's `PandasCodec.encode_request` makes of four rows of `FRAME`.

    Its columns are "b" and "c", and "a" as int8; the names may be others.
    """
    kinds = (("FP64", [2.0, 2.0, 1.0, 1.0]), ("FP64", [3.0, 3.0, 1.0, 3.0]), ("INT8", [3, 3, 3, 1]))
    inputs = [
        {"name": name, "shape": [4, 1], "datatype": datatype, "data": data}
        for name, (datatype, data) in zip(names, kinds, strict=True)
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def test_columns_are_put_into_the_models_order(tmp_path: Path) -> None:
    estimator = make_pipeline(on_names(), LogisticRegression()).fit(FRAME, Y)
    unit = Unit(served(estimator, tmp_path), "image:1")
    wanted = estimator.predict_proba(FRAME[:4])
    turned = {"names": ["c", "a", "b"], "ndarray": X[:4, [2, 0, 1]].tolist()}
    answer = read(seldon.predictions(unit, request_of({"data": turned})))
    assert answer["data"]["ndarray"] == pytest.approx(wanted)
    columns = as_mlserver_writes("b", "c", "a")
    output = read(v2.infer(unit.model, request_of(columns)))["outputs"][0]
    assert np.reshape(output["data"], output["shape"]) == pytest.approx(wanted)
    other = as_mlserver_writes("b", "d", "a")
    with pytest.raises(RequestError, match="the inputs' names: missing 'c'; unexpected 'd'"):
        v2.infer(unit.model, request_of(other))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a", "b", "d"], "data.names: missing 'c'; unexpected 'd'"),
        (["a", "b", "b"], "data.names: missing 'c'; unexpected 'b'"),
        (
            ["a", "b"],
            "data.names: expected 3 names, one for each column, got 2; the model's columns are "
            "'a', 'b', 'c'",
        ),
        ("abc", "data.names: it must be a list of strings"),
        ([1, 2, 3], "data.names: it must be a list of strings"),
    ],
)
def test_wrong_names_are_refused_with_the_right_ones(
    names: object, sentence: str, tmp_path: Path
) -> None:
    unit = Unit(served(GaussianNB().fit(FRAME, Y), tmp_path), "image:1")
    for rows in ({"ndarray": ROWS.tolist()}, {"tensor": {"shape": [4, 3], "values": [1.0] * 12}}):
        with pytest.raises(RequestError, match=sentence) as caught:
            seldon.predictions(unit, request_of({"data": {"names": names, **rows}}))
        assert caught.value.reason == "WRONG_NAMES"


@pytest.mark.parametrize("names", [None, [], ["t:0", "t:1", "t:2"], ["a", "b", "c"]])
def test_names_that_say_nothing_new_are_taken(names: object, tmp_path: Path) -> None:
    estimator = GaussianNB().fit(FRAME, Y)
    unit = Unit(served(estimator, tmp_path), "image:1")
    document = {"data": {"names": names, "ndarray": ROWS.tolist()}}
    answer = read(seldon.predictions(unit, request_of(document)))
    assert answer["data"]["ndarray"] == pytest.approx(estimator.predict_proba(FRAME[:4]))


WITHOUT_PROBABILITIES: dict[str, tuple[Callable[[], Any], str, str]] = {
    # name → estimator, its default, the output that its artifact was evaluated by
    "SVC": (lambda: SVC().fit(X, Y), "decision_function", "predict"),
    "LinearSVC": (lambda: LinearSVC().fit(X, Y), "decision_function", "predict"),
    "regressor": (lambda: LinearRegression().fit(X, Y), "predict", "predict"),
    "forest": (
        lambda: IsolationForest(n_estimators=5, random_state=7).fit(X),
        *("decision_function", "score_samples"),
    ),
    "density": (lambda: KernelDensity().fit(X), "score_samples", "score_samples"),
    "probabilities": (lambda: GaussianNB().fit(X, Y), "predict_proba", "predict"),
}


@pytest.mark.parametrize("name", WITHOUT_PROBABILITIES)
def test_an_artifact_is_served_by_the_method_that_it_was_evaluated_by(
    name: str, tmp_path: Path
) -> None:
    make, default, evaluated = WITHOUT_PROBABILITIES[name]
    estimator = make()
    model = served(estimator, tmp_path)
    assert model.default.default_outputs == (default,)
    outputs = (Tensor(evaluated, (-1,), "FP64"),)
    manifest = replace(loading.verify(tmp_path, place=Place.POD), outputs=outputs)
    of_artifact = loading.load(tmp_path, manifest, {}, graph_name="odd")
    wanted = getattr(estimator, evaluated)(ROWS)
    for protocol, answer in answers(of_artifact, ROWS.tolist()).items():
        assert answer == pytest.approx(wanted.tolist()), protocol
    chosen = loading.load(tmp_path, manifest, {"method": default}, graph_name="odd")
    assert chosen.default.default_outputs == (default,)
