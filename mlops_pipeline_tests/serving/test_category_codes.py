"""XGBoost, LightGBM and ONNX behind a table: the library's own answers for the data frame."""

import json
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog.saving import save_lightgbm, save_onnx, save_xgboost
from mlops_pipeline.serving import artifact, category_codes, frames, loading, onnx_columns
from mlops_pipeline.serving import cells as cells_of
from mlops_pipeline.serving.artifact import EXAMPLE, Manifest
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model, predict
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline_tests.serving.at_once import seldon, v2
from mlops_pipeline_tests.serving.everywhere import read, request_of

lightgbm: Any = pytest.importorskip("lightgbm")
xgboost: Any = pytest.importorskip("xgboost")
onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn.linear_model")

PLANS = ("team", "solo", "été")
SCHEMA = Schema(
    (
        Column("age hours", nullable=True),
        Column("plan", "category", categories=PLANS, nullable=True),
        Column("floor", "category", categories=(5, 1, 9)),
        Column("weekend", "bool"),
        Column("messages", "int"),
    )
)
RNG = np.random.default_rng(4)


def cells(count: int) -> Any:
    rows = np.empty((count, 5), dtype=object)
    for row in rows:
        row[:] = [
            float(RNG.normal()),
            PLANS[RNG.integers(3)],
            (5, 1, 9)[RNG.integers(3)],
            bool(RNG.integers(2)),
            int(RNG.integers(8)),
        ]
    rows[3, 0] = rows[4, 1] = None
    return rows


CELLS = cells(400)
FRAME = frames.frame_maker(SCHEMA)(CELLS)
TARGETS = np.array([(row[1] == "solo") != (row[4] > 3 and row[2] != 5) for row in CELLS])


def fit(framework: str, frame: Any = FRAME) -> Any:
    if framework == "xgboost":
        model = xgboost.XGBClassifier(
            n_estimators=12, max_depth=4, n_jobs=1, enable_categorical=True
        )
    else:
        model = lightgbm.LGBMClassifier(
            n_estimators=12,
            min_child_samples=3,
            n_jobs=1,
            verbosity=-1,
            min_data_per_group=1,
            cat_l2=0.0,
        )
    return model.fit(frame, TARGETS.astype(int))


def load(folder: Path, framework: str, schema: Schema = SCHEMA) -> Model:
    (folder / EXAMPLE).write_text(json.dumps(CELLS[:1].tolist()))
    manifest = Manifest("toy", framework, {}, (), (), schema=schema)
    return loading.load(folder, manifest, {}, graph_name=None)


def save(framework: str, model: Any, folder: Path) -> Any:
    return (save_xgboost if framework == "xgboost" else save_lightgbm)(model, folder)


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
def test_a_table_with_categories_gets_the_library_s_own_answers(
    tmp_path: Path, framework: str
) -> None:
    model = fit(framework)
    trained = save(framework, model, tmp_path)
    expected = model.predict_proba(FRAME)
    others = FRAME.assign(
        plan=FRAME["plan"].map(dict(zip(PLANS, PLANS[1:] + PLANS[:1], strict=True)))
    )
    others["plan"] = others["plan"].astype(FRAME["plan"].dtype)
    assert not np.allclose(expected, model.predict_proba(others)), "the category counts"
    served = load(tmp_path, framework)
    assert np.allclose(predict(served.default, CELLS)[0][1], expected, atol=1e-6)
    assert np.allclose(trained.predict(FRAME), expected)
    # Columns in another order are put into that of the model.
    body = {"data": {"names": list(SCHEMA.names)[::-1], "ndarray": CELLS[:6, ::-1].tolist()}}
    answer = read(seldon.predictions(Unit(served, "image:1"), request_of(body)))
    assert np.allclose(answer["data"]["ndarray"], expected[:6], atol=1e-6)
    tensors = [
        {"name": "age hours", "shape": [1], "datatype": "FP64", "data": [0.5]},
        {"name": "plan", "shape": [1, 1], "datatype": "BYTES", "data": ["solo"]},
        {"name": "floor", "shape": [1], "datatype": "INT64", "data": [9]},
        {"name": "weekend", "shape": [1], "datatype": "BOOL", "data": [True]},
        {"name": "messages", "shape": [1], "datatype": "INT64", "data": [2]},
    ]
    row = np.array([[0.5, "solo", 9, True, 2]], dtype=object)
    answer = read(v2.infer(served, request_of({"inputs": tensors})))
    alone = model.predict_proba(frames.frame_maker(SCHEMA)(row))
    assert np.allclose(answer["outputs"][0]["data"], alone.ravel(), atol=1e-6)


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
def test_the_model_s_order_of_columns_and_categories_counts(tmp_path: Path, framework: str) -> None:
    schema = changed("plan", Column("plan", "category", categories=("team", "solo", "ete")))
    rows = np.where(CELLS == "été", "ete", CELLS)
    rows[4, 1] = "solo"
    frame = frames.frame_maker(schema)(rows)
    model = fit(framework, frame)
    save(framework, model, tmp_path)
    turned = [
        replace(column, categories=column.categories[::-1]) for column in schema.columns[::-1]
    ]
    manifest = Manifest("toy", framework, {}, (), (), schema=Schema(tuple(turned)))
    served = loading.load(tmp_path, manifest, {}, graph_name=None)
    answers = predict(served.default, rows[:, ::-1])[0][1]
    assert np.allclose(answers, model.predict_proba(frame), atol=1e-6)


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
def test_an_unknown_category_is_refused_with_row_and_column(tmp_path: Path, framework: str) -> None:
    save(framework, fit(framework), tmp_path)
    rows = CELLS[:2].copy()
    rows[1, 1] = "duo"
    with pytest.raises(
        RequestError, match=r"row 2, column 'plan': expected one of .*'duo'"
    ) as said:
        predict(load(tmp_path, framework).default, rows)
    assert (said.value.reason, said.value.status) == ("UNKNOWN_CATEGORY", 400)


def changed(name: str, column: Column | None) -> Schema:
    kept = [column if old.name == name else old for old in SCHEMA.columns]
    return Schema(tuple(one for one in kept if one is not None))


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (changed("floor", None), "but the schema is for"),
        (changed("plan", Column("plan", "string")), "column 'plan' is a string"),
        (changed("floor", Column("floor", "int")), "categor"),
        (changed("plan", Column("plan", "category", ("solo", "duo"))), "the schema allows 'duo'"),
    ],
)
def test_a_schema_of_another_model_is_refused(
    tmp_path: Path, framework: str, schema: Schema, said: str
) -> None:
    save(framework, fit(framework), tmp_path)
    with pytest.raises(StartError, match=said) as caught:
        load(tmp_path, framework, schema)
    assert caught.value.code == ExitCode.MODEL


# ONNX


def network(types: dict[str, int]) -> Any:
    """Return a network with an input for each column, as skl2onnx writes a pipeline."""
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in types.items()]
    as_float = onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node(
            "OneHotEncoder", ["plan"], ["plans"], cats_strings=list(PLANS), domain="ai.onnx.ml"
        ),
        helper.make_node("Squeeze", ["plans", "axis"], ["flat"]),
        helper.make_node("Cast", ["messages"], ["count"], to=as_float),
        helper.make_node("Concat", ["age hours", "flat", "count"], ["joined"], axis=1),
        helper.make_node("MatMul", ["joined", "weights"], ["scores"]),
    ]
    weights = np.array([[1, 0], [0, 2], [3, 0], [0, 4], [0.5, 0.25]], dtype=np.float32)
    graph = helper.make_graph(
        nodes,
        "pipeline",
        inputs,
        [helper.make_tensor_value_info("scores", as_float, ["n", 2])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


T = onnx.TensorProto
TYPES = {"plan": T.STRING, "messages": T.INT64, "age hours": T.FLOAT}
THREE = Schema((SCHEMA.columns[0], SCHEMA.columns[1], SCHEMA.columns[4]))


def test_a_network_with_an_input_for_each_column_takes_a_table(tmp_path: Path) -> None:
    trained = save_onnx(network(TYPES), tmp_path)
    manifest = Manifest("toy", "onnx", {}, (), (), schema=THREE)
    served = loading.load(tmp_path, manifest, {}, graph_name=None)
    rows = np.array([[0.5, "solo", 2], [1.5, "été", 4], [-1.0, None, 0]], dtype=object)
    expected = [[0.5 + 3 + 1, 0.5], [1.5 + 2, 4 + 1], [-1.0, 0.0]]
    assert np.allclose(predict(served.default, rows)[0][1], expected)
    assert np.allclose(trained.predict(frames.frame_maker(THREE)(rows)), expected)
    with pytest.raises(RequestError, match="row 1, column 'plan': expected one of"):
        predict(served.default, np.array([[0.5, "duo", 2]], dtype=object))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("other"), "of which each must be an input"),
        (
            Column("plan", "int"),
            r"input 'plan' is of type tensor\(string\), but the column is a int",
        ),
        (Column("messages", "int", nullable=True), "has no missing value"),
        (Column("messages"), "which has no fractions, but the column is a float"),
    ],
)
def test_a_network_of_another_table_is_refused(tmp_path: Path, column: Column, said: str) -> None:
    save_onnx(network(TYPES), tmp_path)
    place = {"other": 0, "plan": 1, "messages": 2}[column.name]
    columns = list(THREE.columns)
    columns[place] = column
    manifest = Manifest("toy", "onnx", {}, (), (), schema=Schema(tuple(columns)))
    with pytest.raises(StartError, match=said):
        loading.load(tmp_path, manifest, {}, graph_name=None)
    assert artifact.ONNX_FILES[0] in {path.name for path in tmp_path.iterdir()}


def test_a_boolean_input_takes_only_a_boolean_column() -> None:
    inputs = [types.SimpleNamespace(name="a", type="tensor(bool)", shape=["n", 1])]
    for kind, said in (("float", "no fractions"), ("int", "is true or false"), ("bool", "")):
        found = onnx_columns.describe_misfit(
            inputs, Schema((Column("a", kind),)), {"tensor(bool)": np.dtype(bool)}
        )
        assert said in str(found)
        assert bool(found) == bool(said)


def test_missing_cells_are_empty_strings_and_nan() -> None:
    nan = float("nan")
    assert cells_of.typed(["a", None, nan], np.dtype(object)).tolist() == ["a", "", ""]
    assert np.isnan(cells_of.typed([None, nan], np.dtype(np.float32))).all()


def test_columns_that_differ_in_a_space_keep_their_names() -> None:
    schema = Schema((Column("a b"), Column("a_b", "int")))
    file = Path("model.txt")
    assert category_codes.model_order(schema, ("a_b", "a b"), file=file) == schema.columns[::-1]
    with pytest.raises(StartError, match="it knows its columns as a_b, a_b"):
        category_codes.model_order(schema, ("a_b", "a_b"), file=file)
    spaced = Schema((Column("a b"), Column("c")))
    assert category_codes.model_order(spaced, ("c", "a_b"), file=file) == spaced.columns[::-1]
