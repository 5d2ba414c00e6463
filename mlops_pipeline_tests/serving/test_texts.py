"""Strings and bytes for a signature that takes them, as TensorFlow's DT_STRING does."""

import contextlib
import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from mlops_pipeline.serving import inference_pb2 as v2_pb
from mlops_pipeline.serving import loading, tensor_proto, texts
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs
from mlops_pipeline.serving.artifact import BareManifest
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.models import Model, with_inputs
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline_tests.serving.at_once import (
    seldon,
    seldon_grpc,
    tensorflow,
    tensorflow_grpc,
    v2,
    v2_grpc,
)
from mlops_pipeline_tests.serving.test_seldon import JSON
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature

BINARY = b"\xff\x00"
BASE64 = {"b64": b64encode(BINARY).decode()}


def text_model(*outputs: str) -> Model:
    """Return a model of texts: `length` in bytes, the text as `copy` and `copy_bytes`."""

    def compute(rows: Any, names: Any) -> list[Any]:
        lengths = np.array([len(row) for row in rows.ravel()]).reshape(rows.shape)
        return [lengths if name == "length" else rows for name in names]

    signature = replace(
        toy_signature(),
        dtype=np.dtype(object),
        row_shape=(),
        outputs=("length", "copy_bytes", "copy"),
        default_outputs=outputs or ("length",),
        compute=compute,
    )
    return toy_model(signature)


MODEL = text_model()
UNIT = Unit(MODEL, image="toy:1")


def nested(depth: int) -> Any:
    """Return a string in lists, deeper than Python calls functions in functions."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def predict(document: object, model: Model = MODEL) -> Any:
    body = json.dumps(document).encode()
    return json.loads(tensorflow.predict(model, Request(body)).body)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({"instances": ["ab", "ü"]}, {"predictions": [2, 2]}),
        ({"instances": ["abc", BASE64]}, {"predictions": [3, 2]}),
        ({"instances": [BASE64]}, {"predictions": [2]}),
        ({"instances": [{"b64": "/wA="}, {"b64": "/wA="}]}, {"predictions": [2, 2]}),
        ({"instances": [{"features": BASE64}, {"features": "a"}]}, {"predictions": [2, 1]}),
        ({"inputs": ["ab"]}, {"outputs": [2]}),
        ({"inputs": {"features": [BASE64, "abc"]}}, {"outputs": [2, 3]}),
    ],
)
def test_tf_serving_takes_strings_and_base64(asked: object, answered: object) -> None:
    assert predict(asked) == answered


def test_an_output_whose_name_says_bytes_is_answered_in_base64() -> None:
    encoded = {"b64": b64encode(b"ab").decode()}
    alone = text_model("copy_bytes")
    assert predict({"instances": ["ab"]}, alone) == {"predictions": [encoded]}
    several = text_model("copy_bytes", "length")
    row = {"copy_bytes": encoded, "length": 2}
    assert predict({"instances": ["ab"]}, several) == {"predictions": [row]}
    columns = {"copy_bytes": [encoded], "length": [2]}
    assert predict({"inputs": ["ab"]}, several) == {"outputs": columns}


@pytest.mark.parametrize("output", ["copy", "copy_bytes"])
def test_bytes_that_are_not_text_are_answered_unchanged(output: str) -> None:
    model = text_model(output)
    unit = Unit(model, image="toy:1")
    for document, answered in (
        ({"instances": [BASE64]}, {"predictions": [BASE64]}),
        ({"inputs": [BASE64]}, {"outputs": [BASE64]}),
    ):
        assert predict(document, model) == answered
        message = Request(json.dumps({"jsonData": document}).encode())
        assert json.loads(seldon.predictions(unit, message).body)["jsonData"] == answered
        asked = pb.SeldonMessage()
        ParseDict(document, asked.jsonData)
        assert MessageToDict(seldon_grpc.predict(unit, asked).jsonData) == answered
    request = Request(json.dumps({"binData": BASE64["b64"]}).encode())
    data = {"names": [], "ndarray": [BASE64]}
    assert json.loads(seldon.predictions(unit, request).body)["data"] == data
    answer = seldon_grpc.predict(unit, pb.SeldonMessage(binData=BINARY))
    assert MessageToDict(answer.data) == {"ndarray": [BASE64]}
    asked_tf = tfs.PredictRequest(model_spec={"name": "classifier"})
    tensor_proto.write(asked_tf.inputs["features"], np.array([BINARY, b"a"], dtype=object))
    outputs = tensorflow_grpc.predict(model, asked_tf).outputs
    assert list(outputs[output].string_val) == [BINARY, b"a"]


def bytes_request(model: Model, rows: list[bytes], *, raw: bool) -> v2_pb.ModelInferRequest:
    """Return a request as Triton's client sends it: raw bytes, or in the field of the type."""
    request = service_pb2.ModelInferRequest(model_name=model.name)
    tensor = request.inputs.add(name="features", datatype="BYTES", shape=[len(rows)])
    if raw:
        content = serialize_byte_tensor(np.array(rows, dtype=object)).item()
        request.raw_input_contents.append(content)
    else:
        tensor.contents.bytes_contents.extend(rows)
    ours = v2_pb.ModelInferRequest()
    ours.ParseFromString(request.SerializeToString())
    return ours


def test_v2_takes_strings_and_bytes_as_triton_does() -> None:
    (described,) = v2.metadata(with_inputs_of(MODEL))["inputs"]
    assert (described["datatype"], described["shape"]) == ("BYTES", (-1,))
    rows = [BINARY, "ü".encode(), b""]
    model = text_model("length", "copy")
    for raw in (True, False):
        answer = v2_grpc.infer(model, bytes_request(model, rows, raw=raw))
        if raw:
            length, copy = answer.raw_output_contents
            assert np.frombuffer(length, "<i8").tolist() == [2, 2, 0]
            assert deserialize_bytes_tensor(copy).tolist() == rows
        else:
            assert list(answer.outputs[0].contents.int64_contents) == [2, 2, 0]
            assert list(answer.outputs[1].contents.bytes_contents) == rows


def test_v2_has_bytes_in_json_only_if_they_are_text() -> None:
    tensor: dict[str, Any] = {"name": "features", "datatype": "BYTES", "shape": [2]}
    document: dict[str, Any] = {"inputs": [{**tensor, "data": ["ab", "ü"]}]}
    model = text_model("copy")
    answer = json.loads(v2.infer(model, Request(json.dumps(document).encode())).body)
    (output,) = answer["outputs"]
    assert (output["datatype"], output["data"]) == ("BYTES", ["ab", "ü"])
    content = serialize_byte_tensor(np.array([BINARY, b"a"], dtype=object)).item()
    tensor["parameters"] = {"binary_data_size": len(content)}
    for binary in (True, False):
        asked = {"inputs": [tensor], "parameters": {"binary_data_output": binary}}
        head = json.dumps(asked).encode()
        request = Request(head + content, json_bytes=b"%d" % len(head))
        if binary:
            assert v2.infer(model, request).body.endswith(content)
        else:
            with pytest.raises(RequestError, match=r'"binary_data": true') as caught:
                v2.infer(model, request)
            assert caught.value.status == 400


def with_inputs_of(model: Model) -> Model:
    """Return a model with the inputs that a model without a manifest has."""
    bare = BareManifest(name="toy", framework="tensorflow", files={}, inputs=(), outputs=())
    return replace(model, manifest=with_inputs(bare, model.default))


def test_text_beside_bytes_stays_text() -> None:
    assert predict({"instances": ["ü", BASE64]}, text_model("copy")) == {
        "predictions": ["ü", BASE64]
    }
    encoded = {"b64": b64encode("ü".encode()).decode()}
    message = Request(json.dumps({"jsonData": {"instances": ["ü"]}}).encode())
    unit = Unit(text_model("copy_bytes"), image="toy:1")
    answer = json.loads(seldon.predictions(unit, message).body)
    assert answer["jsonData"] == {"predictions": [encoded]}


def test_tf_serving_takes_strings_by_grpc() -> None:
    request = tfs.PredictRequest(model_spec={"name": "classifier"})
    rows = np.array([BINARY, b"abc", b""], dtype=object)
    tensor_proto.write(request.inputs["features"], rows)
    answer = tensorflow_grpc.predict(MODEL, request)
    assert list(answer.outputs["length"].int64_val) == [2, 3, 0]
    request.inputs["features"].tensor_shape.dim[0].size = 4
    answer = tensorflow_grpc.predict(MODEL, request)
    assert list(answer.outputs["length"].int64_val) == [2, 3, 0, 0]
    tensor_proto.write(request.inputs["other"], np.array([1.0]))
    request.inputs["features"].CopyFrom(request.inputs.pop("other"))
    with pytest.raises(RequestError, match="is DT_DOUBLE; expected text: DT_STRING"):
        tensorflow_grpc.predict(MODEL, request)


@pytest.mark.parametrize(
    ("message", "answered"),
    [
        ({"data": {"ndarray": ["ab", "c"]}}, {"names": [], "ndarray": [2, 1]}),
        (
            {"data": {"tensor": {"shape": [2], "values": ["ab", "c"]}}},
            {"names": [], "tensor": {"shape": [2], "values": [2, 1]}},
        ),
        ({"strData": "abc"}, {"names": [], "tensor": {"shape": [1], "values": [3]}}),
        ({"binData": BASE64["b64"]}, {"names": [], "tensor": {"shape": [1], "values": [2]}}),
    ],
)
def test_seldon_takes_strings(message: object, answered: object) -> None:
    request = Request(json.dumps(message).encode())
    assert json.loads(seldon.predictions(UNIT, request).body)["data"] == answered


@pytest.mark.parametrize(
    ("message", "length"),
    [(pb.SeldonMessage(strData="abc"), 3), (pb.SeldonMessage(binData=BINARY), 2)],
)
def test_seldon_takes_strings_by_grpc(message: pb.SeldonMessage, length: int) -> None:
    data = MessageToDict(seldon_grpc.predict(UNIT, message).data)
    assert data == {"tensor": {"shape": [1], "values": [float(length)]}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"instances": [1.0]}, "the input may contain strings only: the model expects text"),
        ({"instances": [{"b64": "ä"}]}, "instances has a value that is not base64"),
        ({"instances": [{"b64": "a"}]}, "is not base64"),
        ({"instances": [{"b64": "/wA"}]}, "is not base64: it may contain only A-Z, a-z, 0-9"),
        ({"instances": [{"b64": "/w A="}]}, "is not base64"),
        ({"instances": [{"b64": "_wA="}]}, "is not base64"),
        ({"instances": [{"b64": "YWI==="}]}, "is not base64"),
        ({"instances": [{"b64": 1}]}, "a value in base64 that is not a string"),
        ({"instances": nested(900)}, "row 1 contains a list"),
        ({"inputs": {"features": nested(900)}}, "row 1 contains a list"),
        ({"instances": "ab"}, "expected a list of rows in instances, got the string"),
        ({"instances": [["ab"], ["a", "b"]]}, "row 2 has 2 values, but row 1 has 1"),
        ({"instances": [["ab"]]}, r"expected shape \[n\], got \[1, 1\]"),
        ({"instances": []}, "the batch is empty"),
        ({"instances": [BASE64, None]}, "strings only"),
    ],
)
def test_other_values_are_refused_in_a_sentence(document: object, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        predict(document)


@pytest.mark.parametrize("rows", [[BASE64], [{"features": BASE64}]])
def test_base64_for_a_model_of_numbers_is_refused_with_what_to_send(rows: object) -> None:
    with pytest.raises(RequestError, match=r"base64, but the model expects float64 .*send numbers"):
        predict({"instances": rows}, toy_model())


def test_a_string_that_utf8_cannot_represent_is_refused() -> None:
    with pytest.raises(RequestError, match="half of a surrogate pair"):
        texts.conform(np.array(["a\ud800"], dtype=object))


def test_a_payload_without_rows_is_refused_with_what_the_model_expects() -> None:
    said = r"customData .*, but the model expects text of shape \[n\]"
    with pytest.raises(RequestError, match=said):
        seldon.predictions(UNIT, Request(b'{"customData": {"a": 1}}'))


def test_a_row_of_several_strings_is_not_one_string() -> None:
    signature = replace(MODEL.default, row_shape=(3,))
    with pytest.raises(RequestError, match="a row of the model is more than one string"):
        seldon.predictions(Unit(toy_model(signature), image=""), Request(b'{"strData": "x"}'))


def test_a_model_of_texts_is_tried_when_it_is_loaded() -> None:
    seen: list[Any] = []

    def compute(rows: Any, names: Any) -> Any:
        seen.append(rows.tolist())
        return MODEL.default.compute(rows, names)

    loading.warm(toy_model(replace(MODEL.default, compute=compute)))
    assert seen[0] == [b""]


@given(st.dictionaries(st.sampled_from(["instances", "inputs"]), JSON | st.just([BASE64])))
def test_whatever_is_sent_is_answered_or_refused(document: object) -> None:
    with contextlib.suppress(RequestError):
        predict(document)
