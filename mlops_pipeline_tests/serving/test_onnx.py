"""Networks of ONNX: the right answers by every protocol, and networks that cannot be served."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import artifact, loading
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model, predict
from mlops_pipeline.serving.settings import Place
from mlops_pipeline_tests.serving.at_once import v2
from mlops_pipeline_tests.serving.everywhere import answers, request_of

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto as Type  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
ROWS = [[1.0, 0.5, -2.0, 0.25], [0.0, 4.0, 1.0, -1.5]]
ROW = ("rows", Type.FLOAT, ["n", 4])
SCORES = ("scores", Type.FLOAT, ["n", 3])


def network(
    nodes: Sequence[Any],
    inputs: Sequence[Any] = (ROW,),
    outputs: Sequence[Any] = (SCORES,),
    weights: Any = WEIGHTS,
    ir_version: int = 8,
) -> Any:
    def info(tensor: Any) -> Any:
        return tensor if hasattr(tensor, "name") else helper.make_tensor_value_info(*tensor)

    graph = helper.make_graph(
        list(nodes),
        "test",
        list(map(info, inputs)),
        list(map(info, outputs)),
        [numpy_helper.from_array(weights, "w")],
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=versions, ir_version=ir_version)


PRODUCT = helper.make_node("MatMul", ["rows", "w"], ["scores"])
LABEL = helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)
TWO_OUTPUTS: dict[str, Any] = {
    "nodes": [PRODUCT, LABEL],
    "outputs": [("label", Type.INT64, ["n"]), SCORES],
}


def loaded(folder: Path, made: Any, **parameters: str) -> Model:
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    manifest = loading.verify(folder, place=Place.POD)
    assert manifest.framework == "onnx"
    return loading.load(folder, manifest, parameters, graph_name=None)


def test_a_network_answers_by_every_protocol(tmp_path: Path) -> None:
    model = loaded(tmp_path, network([PRODUCT]))
    assert model.manifest.inputs == (Tensor("rows", (-1, 4), "FP32"),)
    expected = np.array(ROWS, dtype=np.float32) @ WEIGHTS
    for protocol, scores in answers(model, ROWS, datatype="FP32").items():
        assert np.allclose(scores, expected), protocol


def test_missing_values_are_refused_by_every_protocol(tmp_path: Path) -> None:
    model = loaded(tmp_path, network([PRODUCT]))
    rows = [[None, 0.5, -2.0, 0.25]]
    for protocol, said in answers(model, rows, datatype="FP32", refusals=True).items():
        assert "this server does not accept missing values for this model" in said, protocol


@pytest.mark.parametrize("name", ["DOUBLE", "FLOAT16", "INT64", "UINT8", "BOOL"])
def test_rows_of_each_type_reach_the_network(tmp_path: Path, name: str) -> None:
    kind = getattr(Type, name)
    same = helper.make_node("Identity", ["rows"], ["scores"])
    model = loaded(
        tmp_path,
        network([same], [("rows", kind, ["n", 4])], [("scores", kind, ["n", 4])]),
    )
    ((_, scores),) = predict(model.default, np.array([[1, 0, 1, 1]], dtype=model.default.dtype))
    assert scores.dtype == helper.tensor_dtype_to_np_dtype(kind)
    assert scores.tolist() == [[1, 0, 1, 1]]


def test_images_keep_their_shape(tmp_path: Path) -> None:
    mean = helper.make_node("ReduceMean", ["rows"], ["scores"], axes=[1, 2], keepdims=0)
    row, score = ("rows", Type.FLOAT, [None, 8, 8, 3]), ("scores", Type.FLOAT, [None, 3])
    model = loaded(tmp_path, network([mean], [row], [score]))
    assert model.default.expected_shape() == "[n, 8, 8, 3]"
    ((_, scores),) = predict(model.default, np.full((2, 8, 8, 3), 0.5))
    assert scores.tolist() == [[0.5] * 3] * 2
    with pytest.raises(RequestError, match=r"expected shape \[n, 8, 8, 3\], got \[2, 64\]"):
        predict(model.default, np.zeros((2, 64)))


def test_the_output_is_the_parameters_the_manifests_or_the_first(tmp_path: Path) -> None:
    made = network(**TWO_OUTPUTS)
    assert loaded(tmp_path, made).default.default_outputs == ("label", "scores")
    chosen = loaded(tmp_path, made, model_output="scores", model_input="rows")
    assert chosen.default.default_outputs == ("scores",)
    told = published(tmp_path, outputs=(Tensor("scores", (-1, 3), "FP32"),))
    assert told.default.default_outputs == ("scores", "label")
    with pytest.raises(StartError, match=r"no output 'odds', .*; it has label, scores") as caught:
        loaded(tmp_path, made, model_output="odds")
    assert caught.value.code == ExitCode.SETTINGS
    with pytest.raises(StartError, match=r"no 'x', which the parameter model_input names; it has"):
        loaded(tmp_path, made, model_input="x")
    with pytest.raises(StartError, match="Unknown parameter 'method'"):
        loaded(tmp_path, made, method="predict")


def published(folder: Path, **fields: Any) -> Model:
    (folder / artifact.MANIFEST).unlink(missing_ok=True)
    manifest = artifact.Manifest(
        "mine", "onnx", artifact.hash_files(folder), **{"inputs": (), "outputs": (), **fields}
    )
    (folder / artifact.MANIFEST).write_text(manifest.to_json())
    try:
        return loading.load(folder, loading.verify(folder), {}, graph_name=None)
    finally:
        (folder / artifact.MANIFEST).unlink()


def test_what_differs_from_the_manifest_is_refused(tmp_path: Path) -> None:
    loaded(tmp_path, network(**TWO_OUTPUTS))
    with pytest.raises(
        StartError, match="'odds' of the manifest does not exist; the network has l"
    ):
        published(tmp_path, outputs=(Tensor("odds", (-1, 3), "FP32"),))
    with pytest.raises(StartError, match=r"rows of shape \[5\], but the model expects \[4\]"):
        published(tmp_path, inputs=(Tensor("rows", (-1, 5), "FP32"),))


def test_maps_of_probabilities_are_not_served_and_the_reason_is_said(tmp_path: Path) -> None:
    zipped = helper.make_node(
        "ZipMap", ["scores"], ["odds"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
    )
    of_row = helper.make_map_type_proto(Type.INT64, helper.make_tensor_type_proto(Type.FLOAT, []))
    odds = helper.make_value_info("odds", helper.make_sequence_type_proto(of_row))
    label = ("label", Type.INT64, ["n"])
    model = loaded(tmp_path, network([PRODUCT, LABEL, zipped], outputs=[label, odds]))
    assert model.default.outputs == ("label",)
    with pytest.raises(RequestError, match=r"options=\{'zipmap': False\}"):
        predict(model.default, np.array(ROWS), ["odds"])
    with pytest.raises(
        StartError,
        match=r"The network cannot be served: its output 'odds' is of type seq\(map",
    ):
        loaded(tmp_path, network([PRODUCT, zipped], outputs=[odds]))


def test_only_the_output_that_is_not_by_row_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    total = helper.make_node("ReduceSum", ["scores"], ["total"], keepdims=0)
    mean = helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0], keepdims=0)
    same = helper.make_node("Identity", ["scores"], ["same"])
    means = ("mean", Type.FLOAT, [3])
    others: list[Any] = [("total", Type.FLOAT, []), means, ("same", Type.FLOAT, ["n", 3])]
    made = network([PRODUCT, total, mean, same], outputs=[SCORES, *others])
    model = loaded(tmp_path, made)
    assert model.default.default_outputs == ("scores", "same")
    assert "'total' has a fixed number of rows or an unknown shape: it is answered only" in (
        caplog.text
    )
    expected = np.array(ROWS, dtype=np.float32) @ WEIGHTS
    for protocol, scores in answers(model, ROWS, datatype="FP32").items():
        assert np.allclose(scores, expected), protocol
    with pytest.raises(RequestError, match=r"'total' has shape \[\] for 2 rows"):
        predict(model.default, np.array(ROWS), ["total"])
    first = network([PRODUCT, mean], outputs=[means, SCORES])
    with pytest.raises(StartError, match=r"'mean' has shape \[3\] for 1 rows"):
        loaded(tmp_path, first)
    assert "'mean' has a fixed number of rows or an unknown shape; the parameter model_output" in (
        caplog.text
    )
    assert loaded(tmp_path, first, model_output="scores").default.default_outputs == ("scores",)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            [ROW, ("others", Type.FLOAT, ["n", 4])],
            "it has 2 inputs ('rows', 'others'), expected one",
        ),
        (
            [("rows", Type.STRING, ["n", 4])],
            "its input 'rows' is of type tensor(string); expected numbers or booleans",
        ),
    ],
)
def test_inputs_that_rows_of_numbers_do_not_fill_are_refused(
    tmp_path: Path, inputs: Any, complaint: str
) -> None:
    same = helper.make_node("Identity", ["rows"], ["scores"])
    made = network([same], inputs, [("scores", inputs[0][1], ["n", 4])])
    with pytest.raises(StartError) as caught:
        loaded(tmp_path, made)
    assert (str(caught.value), caught.value.code) == (
        f"The network cannot be served: {complaint}.",
        ExitCode.MODEL,
    )


def test_a_network_for_one_row_refuses_two_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed = network([PRODUCT], [("rows", Type.FLOAT, [1, 4])], [("scores", Type.FLOAT, [1, 3])])
    model = loaded(tmp_path, fixed)
    assert "answers 1 rows, but refuses 2: the model cannot answer these rows" in caplog.text
    with pytest.raises(RequestError, match="Got: 2 Expected: 1"):
        predict(model.default, np.array(ROWS))
    assert predict(model.default, np.array(ROWS[:1]))[0][1].shape == (1, 3)


def test_weights_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    onnx.save(
        network([PRODUCT]),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    model = loading.load(tmp_path, loading.verify(tmp_path, place=Place.POD), {}, graph_name=None)
    assert np.allclose(predict(model.default, np.array(ROWS))[0][1], np.array(ROWS) @ WEIGHTS)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(StartError, match=r"model.onnx does not load with ONNX Runtime .*weights"):
        loading.load(tmp_path, loading.verify(tmp_path, place=Place.POD), {}, graph_name=None)


def test_a_truncated_or_foreign_file_is_refused(tmp_path: Path) -> None:
    content = network([PRODUCT]).SerializeToString()
    contents = [content[:size] for size in range(0, len(content), 7)]
    contents += [
        b"",
        b"tree\nversion=v4\n",
        json.dumps({"learner": {}}).encode(),
        b"\x80\x04K\x01.",
    ]
    for each in contents:
        (tmp_path / "model.onnx").write_bytes(each)
        with pytest.raises(StartError) as caught:
            loading.load(tmp_path, loading.verify(tmp_path, place=Place.POD), {}, graph_name=None)
        assert caught.value.code == ExitCode.MODEL
    assert "model.onnx does not load with ONNX Runtime 1." in str(caught.value)
    with pytest.raises(StartError, match="IR version"):
        loaded(tmp_path, network([PRODUCT], ir_version=99))


def test_a_request_names_the_networks_input(tmp_path: Path) -> None:
    model = loaded(tmp_path, network([PRODUCT]))
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    with pytest.raises(RequestError, match="the model has one input, 'rows'"):
        v2.infer(model, request_of({"inputs": [tensor]}))
    named = {**tensor, "name": "rows"}
    assert v2.infer(model, request_of({"inputs": [named]})).status == 200


def test_threads_follow_the_same_variable_as_other_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlops_pipeline.serving import onnx_loader

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert onnx_loader._options().intra_op_num_threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert onnx_loader._options().intra_op_num_threads == 1
