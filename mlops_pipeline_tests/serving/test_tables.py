"""Tables and texts over every protocol, with a model that shows what it was given."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

from mlops_pipeline.serving import bare, loading, openapi
from mlops_pipeline.serving import inference_pb2 as v2_pb
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.cells import tensors_of
from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.frames import frame_maker
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.models import Model, Signature
from mlops_pipeline.serving.protocols import seldon as seldon_module
from mlops_pipeline.serving.protocols import v2 as v2_module
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.protocols.v2_raw import Tail
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline.serving.scores import Array
from mlops_pipeline_tests.serving.at_once import (
    mlflow,
    seldon,
    seldon_grpc,
    tensorflow,
    v2,
    v2_grpc,
)
from mlops_pipeline_tests.serving.everywhere import read, request_of
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_signature

TABLE = Schema(
    (
        Column("age", range=(0, 120)),
        Column("visits", "int"),
        Column("city", "category", categories=("Basel", "Bern"), nullable=True),
        Column("rating", nullable=True),
        Column("vip", "bool"),
        Column("note", "string"),
    )
)
NAMES = list(TABLE.names)
ROWS: list[list[Any]] = [
    [5.5, 3, "Bern", None, True, "ü"],
    [7.0, 4, None, 2.5, False, ""],
]
SHOWN = [json.dumps(row, ensure_ascii=False) for row in ROWS]
CALLS: list[int] = []


def of(schema: Schema) -> Unit:
    """Return a model whose score of a row is the row in its frame, or the string, as text."""
    make = frame_maker(schema) if schema.form == "table" else None

    def compute(rows: Array, names: Sequence[str]) -> list[Array]:
        CALLS.append(len(rows))
        if make is None:
            return [np.array([f"<{text}>" for text in rows], dtype=object)]
        frame = make(rows)
        kinds = [str(kind) for kind in frame.dtypes]
        assert kinds == ["float64", "int64", "category", "float64", "bool", "object"]
        found = [[_plain(v) for v in frame.iloc[n].tolist()] for n in range(len(frame))]
        shown = [json.dumps(row, ensure_ascii=False) for row in found]
        return [np.array(shown, dtype=object)]

    signature = Signature(
        name="serving_default",
        input="predict",
        row_shape=schema.row_shape,
        dtype=np.dtype(object),
        outputs=("shown",),
        default_outputs=("shown",),
        compute=compute,
        columns=schema.names if schema.form == "table" else (),
        is_rowwise=True,
        schema=schema,
        batch=BatchLimits(),
    )
    manifest = Manifest("toy", "sklearn", {}, tensors_of(schema), (), schema=schema)
    model = Model("toy", manifest, "d" * 64, {"": signature}, signature, lambda _: signature)
    return Unit(model, image="toy:1")


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


UNIT, TEXTS = of(TABLE), of(Schema.text("comment"))


def seldon_answer(data: object, unit: Unit = UNIT) -> Any:
    return read(seldon.predictions(unit, request_of({"data": data})))["data"]["ndarray"]


def test_seldon_gives_the_model_its_frame_with_names_and_without() -> None:
    order = [5, 0, 3, 1, 4, 2]
    mixed = [[row[n] for n in order] for row in ROWS]
    assert seldon_answer({"ndarray": ROWS}) == SHOWN
    assert seldon_answer({"names": NAMES, "ndarray": ROWS}) == SHOWN
    assert seldon_answer({"names": [NAMES[n] for n in order], "ndarray": mixed}) == SHOWN


@pytest.mark.parametrize(
    "asked",
    [
        {"instances": ROWS},
        {"inputs": ROWS},
        {"instances": [dict(zip(NAMES[::-1], row[::-1], strict=True)) for row in ROWS]},
        {"inputs": {name: [row[n] for row in ROWS] for n, name in enumerate(NAMES)}},
        {"inputs": {name: [[row[n]] for row in ROWS] for n, name in enumerate(NAMES)}},
    ],
)
def test_tf_serving_and_json_data_take_rows_and_columns_by_name(asked: dict[str, Any]) -> None:
    kind = "predictions" if "instances" in asked else "outputs"
    assert read(tensorflow.predict(UNIT.model, request_of(asked))) == {kind: SHOWN}
    answer = read(seldon.predictions(UNIT, request_of({"jsonData": asked})))
    assert answer["jsonData"] == {kind: SHOWN}


def test_seldon_over_grpc_gives_the_model_its_frame() -> None:
    message = pb.SeldonMessage()
    ParseDict({"data": {"names": NAMES, "ndarray": ROWS}}, message)
    answer = seldon_grpc.predict(UNIT, message)
    assert [value.string_value for value in answer.data.ndarray.values] == SHOWN
    message = pb.SeldonMessage()
    ParseDict({"data": {"ndarray": ["one", ["two"]]}}, message)
    with pytest.raises(RequestError, match="row 1 is the string 'one', not a list"):
        seldon_grpc.predict(TEXTS, message)


def tensors(**changes: Any) -> list[dict[str, Any]]:
    kinds = ["FP64", "INT64", "BYTES", "FP64", "BOOL", "BYTES"]
    return [
        {"name": name, "datatype": kind, "shape": [2, 1], "data": [row[n] for row in ROWS]}
        | changes.get(name, {})
        for n, (name, kind) in enumerate(zip(NAMES, kinds, strict=True))
    ]


def v2_answer(inputs: list[dict[str, Any]], unit: Unit = UNIT) -> Any:
    return read(v2.infer(unit.model, request_of({"inputs": inputs})))["outputs"][0]["data"]


def test_v2_takes_one_tensor_for_each_column_in_any_order() -> None:
    assert v2_answer(tensors()) == SHOWN
    assert v2_answer(tensors()[::-1]) == SHOWN
    flat = [{**tensor, "shape": [2]} for tensor in tensors()]
    assert v2_answer(flat) == SHOWN
    whole = {"age": {"datatype": "INT32", "data": [5, 7]}}
    assert v2_answer(tensors(**whole))[1] == SHOWN[1]


def _bytes(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def test_v2_takes_binary_tensors_where_nan_is_a_missing_value() -> None:
    age, rating = np.array([5.5, 7.0]).tobytes(), np.array([np.nan, 2.5]).tobytes()
    contents = [age, np.array([3, 4]).tobytes(), _bytes("Bern") + _bytes("Basel"), rating]
    contents += [bytes([1, 0]), _bytes("ü") + _bytes("")]
    shown = [SHOWN[0], SHOWN[1].replace("null", '"Basel"')]
    request = v2_pb.ModelInferRequest(model_name="toy")
    inputs = []
    for tensor, content in zip(tensors(), contents, strict=True):
        del tensor["data"]
        request.inputs.add(**tensor)
        inputs.append(tensor | {"parameters": {"binary_data_size": len(content)}})
    request.raw_input_contents.extend(contents)
    answer = v2_grpc.infer(UNIT.model, request)
    assert answer.raw_output_contents[0] == b"".join(map(_bytes, shown))
    head = json.dumps({"inputs": inputs}).encode()
    body = Request(head + b"".join(contents), json_bytes=b"%d" % len(head))
    assert read(v2.infer(UNIT.model, body))["outputs"][0]["data"] == shown


def test_v2_over_grpc_takes_typed_fields() -> None:
    request = v2_pb.ModelInferRequest(model_name="toy")
    for tensor in tensors(city={"data": ["Bern", "Bern"]}, rating={"data": [float("nan"), 2.5]}):
        field = {"FP64": "fp64", "INT64": "int64", "BOOL": "bool", "BYTES": "bytes"}
        data = tensor.pop("data")
        added = request.inputs.add(**tensor)
        encoded = [v.encode() for v in data] if tensor["datatype"] == "BYTES" else data
        getattr(added.contents, f"{field[tensor['datatype']]}_contents").extend(encoded)
    answer = v2_grpc.infer(UNIT.model, request)
    assert answer.outputs[0].contents.bytes_contents[0].decode() == SHOWN[0]


@pytest.mark.parametrize(
    ("change", "reason", "sentence"),
    [
        ({"age": "old"}, "WRONG_TYPE", "row 2, column 'age': expected a number from 0 to 120, got"),
        ({"age": None}, "MISSING_VALUE", "row 2, column 'age': the value is missing"),
        ({"age": 200}, "OUT_OF_RANGE", "row 2, column 'age': expected a number from 0 to 120"),
        ({"city": "Chur"}, "UNKNOWN_CATEGORY", "row 2, column 'city': expected one of 'Basel', "),
        ({"note": 5}, "WRONG_TYPE", "row 2, column 'note': expected a string, got the number 5"),
        ({"vip": "yes"}, "WRONG_TYPE", "row 2, column 'vip': expected true or false, got the str"),
        ({"visits": 0.5}, "WRONG_TYPE", "row 2, column 'visits': expected an integer, got"),
        ({"note": {"a": 1}}, "WRONG_TYPE", "row 2, column 'note': expected a string, got an obj"),
        ({"note": [1]}, "WRONG_TYPE", "row 2 contains a list"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_column(
    change: dict[str, Any], reason: str, sentence: str
) -> None:
    wrong = dict(zip(NAMES, ROWS[1], strict=True)) | change
    with pytest.raises(RequestError) as caught:
        seldon_answer({"ndarray": [ROWS[0], list(wrong.values())]})
    assert caught.value.reason == reason
    assert sentence in caught.value.sentence
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("data", "reason", "sentence"),
    [
        ({"names": NAMES[:5], "ndarray": ROWS}, "WRONG_NAMES", "expected 6 names, one for each"),
        ({"names": [*NAMES[:5], "x"], "ndarray": ROWS}, "WRONG_NAMES", "missing 'note'; unexpec"),
        ({"ndarray": [row[:5] for row in ROWS]}, "WRONG_SHAPE", "expected rows with 6 values"),
        ({"ndarray": [ROWS[0], ROWS[1][:5]]}, "RAGGED", "row 2 has 5 values, but row 1 has 6"),
        ({"ndarray": []}, "EMPTY_BATCH", "the batch is empty"),
        ({"ndarray": ROWS[0]}, "WRONG_SHAPE", "one for each column ('age', 'visits', "),
        ({"ndarray": "Bern"}, "WRONG_TYPE", "expected a list of rows in data.ndarray, got the str"),
        ({"tensor": {"shape": [1, 6], "values": [1] * 6}}, "WRONG_TYPE", "column 'city': expect"),
    ],
)
def test_rows_of_another_shape_and_other_names_are_refused(
    data: dict[str, Any], reason: str, sentence: str
) -> None:
    with pytest.raises(RequestError) as caught:
        seldon_answer(data)
    assert caught.value.reason == reason
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (tensors()[:-1], "the inputs' names: missing 'note'"),
        (tensors()[:1], "the inputs' names: missing 'visits', 'city', 'rating', 'vip', 'note'"),
        (tensors(note={"name": "x"}), "missing 'note'; unexpected 'x'"),
        (tensors(age={"shape": [1, 1], "data": [1.0]}), "columns of one length"),
        (tensors(city={"data": ["Bern", "Chur"]}), "row 2, column 'city': expected one of 'Basel'"),
        (tensors(note={"datatype": "TEXT"}), "an input's datatype must be one of .*BYTES"),
        (tensors(age={"datatype": "BYTES", "data": ["a", "b"]}), "row 1, column 'age': expected a"),
    ],
)
def test_wrong_tensors_of_columns_are_refused(inputs: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        v2_answer(inputs)


def test_wrong_rows_by_name_are_refused() -> None:
    row = dict(zip(NAMES, ROWS[0], strict=True))
    for asked, sentence in (
        ({"instances": [row, {**row, "age": "x"}]}, "row 2, column 'age': expected a number"),
        ({"instances": [row, {"age": 1}]}, "instances, row 2: missing 'visits', 'city', "),
        ({"instances": [row, 5]}, "instances, row 2: expected an object, got the number 5"),
        ({"inputs": {name: [1] for name in NAMES[1:]}}, "inputs: missing 'age'"),
        ({"inputs": {**{n: [1] for n in NAMES}, "age": [1, 2]}}, "differ in length: 2 in 'age', 1"),
        ({"inputs": {**{n: [1] for n in NAMES}, "age": 1}}, r"inputs\.age: expected a list, got"),
    ):
        with pytest.raises(RequestError, match=sentence):
            tensorflow.predict(UNIT.model, request_of(asked))


def test_strings_reach_a_model_of_text_by_every_protocol() -> None:
    texts = ["good", "schön\n"]
    shown = [f"<{text}>" for text in texts]
    assert seldon_answer({"ndarray": texts}, TEXTS) == shown
    assert seldon_answer({"names": ["comment"], "ndarray": [[t] for t in texts]}, TEXTS) == shown
    for shape in ([2], [2, 1]):
        tensor = {"name": "comment", "datatype": "BYTES", "shape": shape, "data": texts}
        assert v2_answer([tensor], TEXTS) == shown
    answer = read(tensorflow.predict(TEXTS.model, request_of({"instances": texts})))
    assert answer == {"predictions": shown}
    request = v2_pb.ModelInferRequest(model_name="toy")
    request.inputs.add(name="comment", datatype="BYTES", shape=[2])
    request.raw_input_contents.append(b"".join(map(_bytes, texts)))
    assert v2_grpc.infer(TEXTS.model, request).raw_output_contents[0] == b"".join(
        map(_bytes, shown)
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x02\0\0\0\xff\xff", "row 1, column 'comment': expected a string"),
        (b"\x09\0\0\0ab", "raw_input_contents is not a tensor of BYTES"),
        (b"\x02\0", "raw_input_contents is not a tensor of BYTES"),
    ],
)
def test_bytes_that_are_not_strings_are_refused(content: bytes, sentence: str) -> None:
    request = v2_pb.ModelInferRequest(model_name="toy")
    request.inputs.add(name="comment", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(content)
    with pytest.raises(RequestError, match=sentence):
        v2_grpc.infer(TEXTS.model, request)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["a", 5], "row 2, column 'comment': expected a string, got the number 5"),
        (["a", None], "row 2, column 'comment': the value is missing"),
        ([["a", "b"]], r"expected strings of shape \[n\] or \[n, 1\], got \[1, 2\]"),
    ],
)
def test_a_text_that_is_not_one_string_is_refused(rows: list[Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        seldon_answer({"ndarray": rows}, TEXTS)


def test_requests_of_tables_share_a_call_and_only_the_wrong_one_fails() -> None:
    async def work() -> list[Any]:
        batcher = Batcher(lambda *_: None)
        unit = replace(UNIT, model=replace(UNIT.model, compute=batcher.compute))
        rows = [ROWS[0], [*ROWS[0][:5], 9], ROWS[1]]
        asked = [
            seldon_module.predictions(unit, request_of({"data": {"ndarray": [row]}}))
            for row in rows
        ]
        return await asyncio.gather(*asked, return_exceptions=True)

    CALLS.clear()
    first, wrong, last = asyncio.run(work())
    assert "row 1, column 'note'" in str(wrong)
    assert [read(answer)["data"]["ndarray"] for answer in (first, last)] == [SHOWN[:1], SHOWN[1:]]
    assert CALLS == [2]


def test_metadata_has_the_schema() -> None:
    (described,) = seldon.model_metadata(UNIT)["inputs"]
    assert described["messagetype"] == "ndarray"
    assert described["schema"]["names"] == NAMES
    assert described["schema"]["columns"][2]["categories"] == ["Basel", "Bern"]
    over_grpc = seldon_grpc.model_metadata(UNIT)
    assert over_grpc.inputs[0].schema.struct_value.fields["form"].string_value == "table"
    found = v2.metadata(UNIT.model)
    kinds = {tensor["name"]: tensor["datatype"] for tensor in found["inputs"]}
    assert list(kinds.values()) == ["FP64", "INT64", "BYTES", "FP64", "BOOL", "BYTES"]
    assert found["parameters"] == {"content_type": "pd"}
    assert v2.metadata(TEXTS.model)["inputs"] == [
        {"name": "comment", "datatype": "BYTES", "shape": (-1,)}
    ]
    assert read(tensorflow_metadata(UNIT))


def tensorflow_metadata(unit: Unit) -> Any:
    from mlops_pipeline.serving.messages import answer

    return answer(tensorflow.metadata(unit.model))


def test_openapi_has_the_columns() -> None:
    schemas = openapi.document(UNIT)["components"]["schemas"]
    (rows, named) = schemas["PredictRequest"]["oneOf"][0]["properties"]["instances"]["oneOf"]
    assert (rows["items"]["minItems"], rows["items"]["maxItems"]) == (6, 6)
    properties = named["items"]["properties"]
    assert properties["age"] == {"type": "number", "minimum": 0, "maximum": 120}
    assert properties["city"] == {
        "type": "string",
        "enum": ["Basel", "Bern", None],
        "nullable": True,
    }
    assert properties["vip"] == {"type": "boolean"}
    assert named["items"]["required"] == NAMES
    inputs = schemas["InferRequest"]["properties"]["inputs"]
    assert (inputs["minItems"], inputs["items"]["properties"]["name"]["enum"]) == (6, NAMES)
    text = openapi.document(TEXTS)["components"]["schemas"]["SeldonMessage"]["oneOf"][0]
    rows = text["properties"]["data"]["oneOf"][0]["properties"]["ndarray"]
    assert rows == {"type": "array", "items": {"type": "string"}, "minItems": 1}


def test_the_warm_up_proves_that_rows_of_a_table_may_share_a_call() -> None:
    example = np.array([ROWS[0]], dtype=object)
    warmed = loading.warm(replace(UNIT.model, example=example))
    assert warmed.default.batch == BatchLimits()
    assert loading.warm(UNIT.model).default.batch == BatchLimits(), "without an example, too"
    assert loading.warm(TEXTS.model).default.batch == BatchLimits()


def test_a_text_classifier_without_a_manifest_gets_strings(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts, classes = ["good day", "good film", "bad day", "bad film"], ["+", "+", "-", "-"]
    fitted = make_pipeline(make_pipeline(TfidfVectorizer()), MultinomialNB()).fit(texts, classes)
    unit = _without_manifest(tmp_path, fitted, "predict")
    assert seldon_answer({"ndarray": ["a good one", "bad"]}, unit) == ["+", "-"]
    with pytest.raises(RequestError, match="row 1, column 'text': expected a string, got the numb"):
        seldon_answer({"ndarray": [1.0]}, unit)
    kinds = [tensor["datatype"] for tensor in v2.metadata(unit.model)["inputs"]]
    assert kinds == ["BYTES"]


def _without_manifest(folder: Path, fitted: Any, method: str) -> Unit:
    joblib = pytest.importorskip("joblib")
    joblib.dump(fitted, folder / "model.joblib")
    model = loading.load(folder, bare.describe(folder), {"method": method}, graph_name="toy")
    return Unit(model, image="toy:1")


def test_a_model_of_a_frame_with_strings_without_a_manifest_gets_its_frame(tmp_path: Path) -> None:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame(
        {"floor": [1, 2, 3, 4], "city": ["a", "b", "a", "b"], "size": [1.0, None, 3.0, 4.0]}
    )
    encode = make_column_transformer(
        (make_pipeline(OneHotEncoder(handle_unknown="ignore")), [1]),
        (SimpleImputer(), ["floor", "size"]),
    )
    fitted = make_pipeline(encode, LinearRegression()).fit(frame, [1.0, 5.0, 3.0, 7.0])
    unit = _without_manifest(tmp_path, fitted, "predict")
    rows: list[list[Any]] = [[1, "a", None], [4, "b", 4.0], [2, "new", 1.0]]
    shown = seldon_answer({"ndarray": rows}, unit)
    expected = fitted.predict(pd.DataFrame(rows, columns=frame.columns))
    assert shown == pytest.approx(expected.tolist())
    mixed = [[row[1], row[2], row[0]] for row in rows]
    assert seldon_answer({"names": ["city", "size", "floor"], "ndarray": mixed}, unit) == shown
    kinds = {t["name"]: t["datatype"] for t in v2.metadata(unit.model)["inputs"]}
    assert kinds == {"floor": "FP64", "city": "BYTES", "size": "FP64"}
    with pytest.raises(RequestError, match="row 1, column 'city': expected a string, got the numb"):
        seldon_answer({"ndarray": [[1, 2, 3]]}, unit)


def test_a_model_of_numbers_is_not_taken_for_one_of_strings(tmp_path: Path) -> None:
    import pandas as pd
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"a": [1, 2, 1, 2], "b": [1, 1, 2, 2]})
    fitted = make_pipeline(OneHotEncoder(), LinearRegression()).fit(frame, [1.0, 2.0, 3.0, 4.0])
    unit = _without_manifest(tmp_path, fitted, "predict")
    assert unit.model.default.schema is None
    assert seldon_answer({"names": ["b", "a"], "ndarray": [[2, 1]]}, unit) == pytest.approx([3.0])


def test_an_array_with_a_schema_may_have_missing_values_where_it_says_so(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    rows = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0]])
    fitted = make_pipeline(SimpleImputer(), LinearRegression()).fit(rows, [1.0, 2.0, 3.0])
    joblib.dump(fitted, tmp_path / "model.joblib")
    schema = Schema((Column("a", range=(0, 9)), Column("b", nullable=True)), form="array")
    manifest = Manifest("toy", "sklearn", {}, tensors_of(schema), (), schema=schema)
    unit = Unit(loading.load(tmp_path, manifest, {}, graph_name="toy"), image="toy:1")
    expected = fitted.predict(rows).tolist()
    asked: list[list[Any]] = [[1.0, 2.0], [2.0, None], [3.0, 6.0]]
    assert seldon_answer({"ndarray": asked}, unit) == pytest.approx(expected)
    mixed = [row[::-1] for row in asked]
    assert seldon_answer({"names": ["b", "a"], "ndarray": mixed}, unit) == pytest.approx(expected)
    tensor = {"shape": [1, 2], "values": [2.0, None]}
    assert read(seldon.predictions(unit, request_of({"data": {"tensor": tensor}})))["data"]
    for row, sentence in (
        ([None, 1.0], "row 1, column 'a': the value is missing"),
        ([10, 1], "row 1, column 'a': expected a number from 0 to 9, got 10"),
    ):
        with pytest.raises(RequestError, match=sentence):
            seldon_answer({"ndarray": [row]}, unit)
    document = openapi.document(unit)["components"]["schemas"]["PredictRequest"]["oneOf"][0]
    (_, named) = document["properties"]["instances"]["oneOf"]
    assert named["items"]["properties"]["b"]["nullable"] is True


def array_unit() -> Unit:
    """Return a model of an array with a boolean column, whose scores are the sums of a row."""
    columns = (Column("a", range=(0, 9)), Column("vip", "bool"), Column("b", nullable=True))

    def compute(rows: Array, _: Sequence[str]) -> list[Array]:
        total = np.nansum(rows, axis=1)
        return [np.stack([total, -total], axis=1)]

    signature = replace(
        toy_signature(row_shape=(3,)),
        compute=compute,
        schema=Schema(columns, form="array"),
        columns=("a", "vip", "b"),
        takes_missing=True,
    )
    return Unit(toy_model(signature), image="toy:1")


BOOLEANS: list[list[Any]] = [[5, True, 2.5], [1.5, False, 0]]
SUMS = [[8.5, -8.5], [1.5, -1.5]]


def _array_asked_of_seldon(unit: Unit, names: list[str], rows: list[Any]) -> dict[str, Any]:
    def asked(document: Any) -> Any:
        return read(seldon.predictions(unit, request_of(document)))

    message = pb.SeldonMessage()
    ParseDict({"data": {"names": names, "ndarray": rows}}, message)
    by_grpc = seldon_grpc.predict(unit, message).data.ndarray
    flat = {"shape": [2, 3], "values": [value for row in rows for value in row]}
    tensor = asked({"data": {"names": names, "tensor": flat}})["data"]["tensor"]
    return {
        "ndarray": asked({"data": {"names": names, "ndarray": rows}})["data"]["ndarray"],
        "gRPC": [[v.number_value for v in row.list_value.values] for row in by_grpc.values],
        "tensor": np.reshape(tensor["values"], tensor["shape"]).tolist(),
    }


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_boolean_column_of_an_array_is_true_or_false_in_every_protocol(order: list[int]) -> None:
    unit = array_unit()
    names = [["a", "vip", "b"][n] for n in order]
    rows = [[row[n] for n in order] for row in BOOLEANS]
    by_row = [dict(zip(names, row, strict=True)) for row in rows]
    by_column = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    answers = _array_asked_of_seldon(unit, names, rows)
    for asked in ({"instances": by_row}, {"inputs": by_column}):
        answered = read(tensorflow.predict(unit.model, request_of(asked)))
        (answers[f"TF {next(iter(asked))}"],) = (
            [row["scores"] for row in found] if type(found[0]) is dict else found
            for found in answered.values()
        )
        answered = read(seldon.predictions(unit, request_of({"jsonData": asked})))["jsonData"]
        (answers[f"jsonData {next(iter(asked))}"],) = answered.values()
    kinds = {"a": "FP64", "vip": "BOOL", "b": "FP64"}
    columns = [
        {"name": name, "datatype": kinds[name], "shape": [2], "data": values}
        for name, values in by_column.items()
    ]
    one = {"name": "x", "datatype": "FP64", "shape": [2, 3], "data": BOOLEANS}
    for key, tensors_ in (("V2 columns", columns), ("V2", [one])):
        output = read(v2.infer(unit.model, request_of({"inputs": tensors_})))["outputs"][0]
        answers[key] = np.reshape(output["data"], output["shape"]).tolist()
    split = {"dataframe_split": {"columns": names, "data": rows}}
    answers["MLflow"] = read(mlflow.invocations(unit.model, request_of(split)))["predictions"]
    assert answers == dict.fromkeys(answers, SUMS)
    assert seldon_answer({"ndarray": [[5, True, None]]}, array_unit()) == [[6, -6]]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([True, True, 1], "row 1, column 'a': expected a number from 0 to 9, got the boolean true"),
        ([5, 2, 1], "row 1, column 'vip': expected true or false, got the number 2"),
        ([5, None, 1], "row 1, column 'vip': the value is missing"),
        ([5, True, False], "row 1, column 'b': expected a number, got the boolean false"),
        ([5, "true", 1], "data.ndarray may contain numbers or booleans only, no strings"),
    ],
)
def test_a_boolean_elsewhere_in_an_array_is_refused(row: list[Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        seldon_answer({"ndarray": [row]}, array_unit())


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        ({"data": [1.5, 2]}, "the input 'a b': the datatype is INT64, but a number is not whole"),
        ({"data": [[1], "2"]}, "data of the input 'a b', row 2 is the string '2', not a list"),
        ({"data": [1]}, r"the input 'a b' has shape \[2\], but 1 values"),
    ],
)
def test_an_error_of_v2_names_the_input(tensor: Any, sentence: str) -> None:
    whole = {"name": "a b", "datatype": "INT64", "shape": [2], **tensor}
    signature = replace(toy_signature(), dtype=np.dtype(object), schema=Schema((Column("a b"),)))
    if type(tensor["data"][0]) is list:
        whole["datatype"] = "BYTES"
    with pytest.raises(RequestError, match=sentence):
        v2_module.read_rows(toy_model(signature), [whole], b"", Tail(memoryview(b"")))


def test_the_schema_of_an_array_is_for_the_signature_with_its_input() -> None:
    schema = Schema((Column("a"), Column("b")), form="array")
    one = replace(toy_signature(row_shape=(2,)), columns=())
    other = replace(one, name="other", input="other")
    manifest = replace(toy_manifest(), schema=schema)
    described, choose = loading.with_schema(
        manifest, ({"one": one, "other": other}, lambda _: other)
    )
    assert described["one"].schema == schema
    assert described["one"].columns == ("a", "b")
    assert described["other"].schema is choose({}).schema is None
    swapped = replace(one, columns=("b", "a"))
    with pytest.raises(StartError, match="knows its columns as b, a, but its schema is for a, b"):
        loading.with_schema(manifest, ({"one": swapped}, lambda _: swapped))
