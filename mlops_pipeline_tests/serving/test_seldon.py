import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline_tests.serving.at_once import seldon
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_unit

UNIT = toy_unit()
ROW = [1.0, 2.0, 3.0, 4.0]


def ask(document: object, **fields: Any) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = seldon.predictions(UNIT, Request(body, b"application/json", **fields))
    assert answer.status == 200
    return json.loads(answer.body)


def refusal(document: object, content_type: bytes = b"application/json") -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(RequestError) as caught:
        seldon.predictions(UNIT, Request(body, content_type))
    answer = seldon.error(caught.value)
    status = json.loads(answer.body)["status"]
    assert answer.status == status["code"] == 400
    assert status["status"] == "FAILURE"
    assert status["info"]
    return status


def test_ndarray_is_answered_with_ndarray() -> None:
    answer = ask({"data": {"names": ["a", "b", "c", "d"], "ndarray": [ROW]}})
    assert answer["data"] == {"names": ["t:0", "t:1"], "ndarray": [[10.0, -10.0]]}


def test_tensor_is_answered_with_tensor() -> None:
    answer = ask({"data": {"tensor": {"shape": [2, 4], "values": ROW * 2}}})
    tensor = {"shape": [2, 2], "values": [10.0, -10.0, 10.0, -10.0]}
    assert answer["data"] == {"names": ["t:0", "t:1"], "tensor": tensor}


@pytest.mark.parametrize(
    "values",
    [
        {"floatVal": ROW},
        {"float_val": ROW},
        {"tensorContent": base64.b64encode(np.array(ROW, np.float32).tobytes()).decode()},
    ],
)
def test_tftensor_is_answered_with_tftensor(values: dict[str, object]) -> None:
    shape = {"dim": [{"size": "1"}, {"size": "4"}]}
    tensor = {"dtype": "DT_FLOAT", "tensorShape": shape, **values}
    answer = ask({"data": {"names": ["a", "b", "c", "d"], "tftensor": tensor}})["data"]
    assert answer["names"] == ["t:0", "t:1"]
    answered = tensor_proto.from_json(answer["tftensor"], where="tftensor")
    assert answer["tftensor"]["dtype"] == "DT_DOUBLE"
    assert tensor_proto.read(answered, where="tftensor").tolist() == [[10.0, -10.0]]


def test_what_has_no_rows_is_refused_with_what_to_send() -> None:
    for kind in ("strData", "binData", "customData"):
        sentence = refusal({kind: "eA=="})["info"]
        assert sentence.startswith(f"{kind} does not contain rows of numbers")
        assert "float64 of shape [n, 4]: send them as data.ndarray" in sentence


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([ROW], [[10.0, -10.0]]),
        ({"instances": [ROW]}, {"predictions": [[10.0, -10.0]]}),
        ({"inputs": [ROW]}, {"outputs": [[10.0, -10.0]]}),
        ({"inputs": {"features": [ROW]}}, {"outputs": [[10.0, -10.0]]}),
        ({"instances": [{"features": ROW}]}, {"predictions": [[10.0, -10.0]]}),
        ({"instances": [ROW], "inputs": None}, {"predictions": [[10.0, -10.0]]}),
        ({"signature_name": "serving_default", "inputs": [ROW]}, {"outputs": [[10.0, -10.0]]}),
    ],
)
def test_json_data_is_answered_in_its_form(asked: object, answered: object) -> None:
    assert ask({"jsonData": asked})["jsonData"] == answered


def test_meta_says_who_answered() -> None:
    meta = ask({"data": {"ndarray": [ROW]}})["meta"]
    assert meta["tags"] == {"model_digest": UNIT.model.digest, "model_name": "classifier"}
    assert meta["requestPath"] == {"classifier": "toy:1"}
    assert len(meta["puid"]) == 32


def test_puid_and_tags_of_the_request_are_kept() -> None:
    meta = ask({"data": {"ndarray": [ROW]}, "meta": {"puid": "p", "tags": {"a": [1]}}})["meta"]
    assert meta["puid"] == "p"
    assert meta["tags"]["a"] == [1]
    assert meta["tags"]["model_digest"] == UNIT.model.digest


def test_the_units_before_stay_in_the_path() -> None:
    path = {"scaler": "scale:2", "classifier": "old"}
    meta = ask({"data": {"ndarray": [ROW]}, "meta": {"requestPath": path}})["meta"]
    assert meta["requestPath"] == {"scaler": "scale:2", "classifier": "toy:1"}
    for wrong in ("scaler", ["scaler"], {"scaler": 1}):
        with pytest.raises(RequestError, match="requestPath must be an object of strings"):
            ask({"data": {"ndarray": [ROW]}, "meta": {"requestPath": wrong}})


def test_puid_comes_from_the_header_too() -> None:
    assert ask({"data": {"ndarray": [ROW]}}, puid="from-header")["meta"]["puid"] == "from-header"


def test_names_are_the_models_own_where_it_has_them() -> None:
    own = toy_unit(toy_model(manifest=toy_manifest(output_names=("yes", "no"))))
    answer = seldon.predictions(own, Request(json.dumps({"data": {"ndarray": [ROW]}}).encode()))
    assert json.loads(answer.body)["data"]["names"] == ["yes", "no"]


MILLIONS = {
    "dtype": "DT_FLOAT",
    "tensorShape": {"dim": [{"size": "1048576"}, {"size": "4"}]},
    "floatVal": [1.0],
}
"""A million rows, of which all values are the same one."""


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "BAD_JSON"),
        (b'{"data":', "BAD_JSON"),
        (b"[]", "BAD_JSON"),
        (b"null", "BAD_JSON"),
        (b'{"data":{"ndarray":[[NaN,1,1,1]]}}', "BAD_JSON"),
        (b'{"data":{"ndarray":[[1e999,1,1,1]]}}', "BAD_JSON"),
        (b'{"data":{"ndarray":' + b"[" * 5000 + b"]" * 5000 + b"}}", "BAD_JSON"),
        (b'{"data":{"ndarray":' + b"[" * 200 + b"]" * 200 + b"}}", "RAGGED"),
        ({}, "NO_DATA"),
        ({"data": {}}, "NO_DATA"),
        ({"data": [ROW]}, "NO_DATA"),
        ({"strData": "x"}, "NO_DATA"),
        ({"binData": "eA=="}, "NO_DATA"),
        ({"customData": {}}, "NO_DATA"),
        ({"data": {"tftensor": {}}}, "WRONG_TYPE"),
        ({"data": {"tftensor": [ROW]}}, "WRONG_TYPE"),
        ({"data": {"tftensor": {"dtype": "DT_FLOAT", "floatVal": ["x"]}}}, "WRONG_TYPE"),
        ({"data": {"tftensor": {"dtype": "DT_RESOURCE"}}}, "WRONG_TYPE"),
        ({"data": {"tftensor": {"dtype": "DT_STRING", "stringVal": ["eA=="]}}}, "WRONG_TYPE"),
        ({"data": {"tftensor": {"dtype": "DT_FLOAT", "floatVal": ROW}}}, "WRONG_SHAPE"),
        ({"data": {"tftensor": MILLIONS}}, "WRONG_SHAPE"),
        ({"data": {"ndarray": [ROW], "tensor": {"shape": [1, 4], "values": ROW}}}, "AMBIGUOUS"),
        ({"data": {"ndarray": [ROW], "tftensor": {}}}, "AMBIGUOUS"),
        ({"data": {"ndarray": [ROW]}, "jsonData": [ROW]}, "AMBIGUOUS"),
        ({"data": {"ndarray": [ROW]}, "strData": "x"}, "AMBIGUOUS"),
        ({"jsonData": {"instances": [ROW], "inputs": [ROW]}}, "AMBIGUOUS"),
        ({"jsonData": {"inputs": {"features": [ROW], "other": [[9]]}}}, "WRONG_INPUT"),
        ({"jsonData": {"instances": [{"features": ROW, "other": 1}]}}, "WRONG_INPUT"),
        ({"jsonData": {"inputs": [ROW], "signature_name": "other"}}, "UNKNOWN_SIGNATURE"),
        ({"jsonData": {"inputs": [ROW], "signature_name": 1}}, "WRONG_TYPE"),
        ({"jsonData": {}}, "NO_DATA"),
        ({"jsonData": {"ndarray": [ROW]}}, "NO_DATA"),
        ({"data": {"ndarray": [ROW], "names": ["a"]}}, "WRONG_NAMES"),
        ({"data": {"ndarray": ROW}}, "WRONG_SHAPE"),
        ({"data": {"ndarray": [ROW[:3]]}}, "WRONG_SHAPE"),
        ({"data": {"ndarray": []}}, "EMPTY_BATCH"),
        ({"data": {"ndarray": [ROW, ROW[:3]]}}, "RAGGED"),
        ({"data": {"ndarray": [["1", 2, 3, 4]]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": [[None, 2, 3, 4]]}}, "NOT_FINITE"),
        ({"data": {"ndarray": [[True, 2, 3, 4]]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": [[True, False, True, True]]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": "x"}}, "WRONG_TYPE"),
        ({"data": {"tensor": [1]}}, "WRONG_TYPE"),
        ({"data": {"tensor": {"shape": [1, -4], "values": ROW}}}, "WRONG_SHAPE"),
        ({"data": {"tensor": {"shape": [10**15, 4], "values": ROW}}}, "WRONG_SHAPE"),
        ({"data": {"tensor": {"shape": [True, 4], "values": ROW}}}, "WRONG_SHAPE"),
        ({"data": {"tensor": {"shape": [10**15, 0], "values": []}}}, "WRONG_SHAPE"),
        ({"data": {"tensor": {"shape": [0, 4], "values": []}}}, "EMPTY_BATCH"),
        ({"data": {"ndarray": [ROW]}, "meta": 1}, "WRONG_TYPE"),
        ({"data": {"ndarray": [ROW]}, "meta": {"puid": 1}}, "WRONG_TYPE"),
    ],
)
def test_a_bad_request_gets_its_reason(document: object, reason: str) -> None:
    assert refusal(document)["reason"] == reason


def test_a_wrong_input_of_json_data_is_refused_with_the_right_one() -> None:
    status = refusal({"jsonData": {"inputs": {"wrong": [ROW]}}})
    assert status["info"] == "jsonData.inputs: the only input must be 'features'"


def test_a_byte_order_mark_says_nothing() -> None:
    text = json.dumps({"data": {"ndarray": [ROW]}})
    assert ask(text.encode("utf-8-sig"))["data"]["ndarray"] == [[10.0, -10.0]]
    wide = refusal(text.encode("utf-16"))
    assert wide["info"] == "the body is text in UTF-16; send it in UTF-8"


def test_a_wrong_content_type_is_refused_and_curls_is_not() -> None:
    body = json.dumps({"data": {"ndarray": [ROW]}}).encode()
    assert refusal(body, b"text/plain")["reason"] == "WRONG_CONTENT_TYPE"
    for kind in (b"", b"application/json; charset=utf-8", b"application/x-www-form-urlencoded"):
        assert seldon.predictions(UNIT, Request(body, kind)).status == 200


FORM = b"application/x-www-form-urlencoded"
QUOTED = b"%7B%22data%22%3A%7B%22ndarray%22%3A%5B%5B1%2C2%2C3%2C4%5D%5D%7D%7D"
MULTIPART = b'multipart/form-data; boundary="-b 1"'


def parts(**fields: str) -> bytes:
    """Return a multipart form as requests and curl write it."""
    written = (
        f'---b 1\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return "".join(written).encode() + b"---b 1--\r\n"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"json=" + QUOTED),
        (FORM + b"; charset=utf-8", b"isDefault=true&json=" + QUOTED),
        (FORM, b'{"data": {"ndarray": [[1, 2, 3, 4]]}, "meta": {"puid": "a&json=1"}}'),
        (FORM, b"data=%7B%22ndarray%22%3A%5B%5B1%2C2%2C3%2C4%5D%5D%7D"),
        (FORM, b'isDefault=yes&meta={}&data={"ndarray":[[1,2,3,4]]}'),
        (FORM, b"json=%EF%BB%BF" + QUOTED),
        (FORM, b'\xef\xbb\xbf{"data": {"ndarray": [[1,2,3,4]]}, "meta": {"puid": "&json=1"}}'),
        (MULTIPART, parts(data='\ufeff{"ndarray": [[1, 2, 3, 4]]}')),
        (MULTIPART, parts(data='{"ndarray": [[1, 2, 3, 4]]}')),
        (MULTIPART, parts(meta='{"puid": "p"}', data='{"ndarray": [[1, 2, 3, 4]]}')),
        (MULTIPART, parts(json='{"data": {"ndarray": [[1, 2, 3, 4]]}}')),
    ],
)
def test_older_clients_may_send_a_form(content_type: bytes, body: bytes) -> None:
    answer = seldon.predictions(UNIT, Request(body, content_type))
    assert json.loads(answer.body)["data"]["ndarray"] == [[10.0, -10.0]]


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        (FORM, b"json=%7B", "BAD_JSON"),
        (FORM, b"json=\xff", "BAD_FORM"),
        (FORM, b"a=1&" * 30 + b"json=1", "BAD_FORM"),
        (FORM, b"a=1", "BAD_JSON"),
        (FORM, b"json=", "BAD_JSON"),
        (FORM, b"data=%7B", "BAD_FORM"),
        (FORM, b"strData=x", "NO_DATA"),
        (FORM, b"json=" + QUOTED + b"&data={}", "AMBIGUOUS"),
        (MULTIPART, parts(data='{"ndarray":' + "[" * 300 + "]" * 300 + "}"), "RAGGED"),
        (MULTIPART, parts(data="[" * 1023 + "]" * 1023), "NO_DATA"),
        (MULTIPART, parts(data="[" * 1024 + "]" * 1024), "BAD_JSON"),
        (FORM, b"json=" + QUOTED + b"&json=" + QUOTED, "BAD_FORM"),
        (MULTIPART, parts(data="{}").removesuffix(b"---b 1--\r\n") + parts(data="{}"), "BAD_FORM"),
        (b"multipart/form-data", b"x", "BAD_FORM"),
        (MULTIPART, b"x", "BAD_FORM"),
        (MULTIPART, b"", "BAD_FORM"),
        (MULTIPART, parts(data="{"), "BAD_FORM"),
        (MULTIPART, parts(data="[1]"), "NO_DATA"),
        (MULTIPART, parts(strData="x"), "NO_DATA"),
        (MULTIPART, parts().removesuffix(b"--\r\n") * 30, "BAD_FORM"),
        (MULTIPART, b"---b 1\r\n\r\nx\r\n---b 1--", "BAD_FORM"),
    ],
)
def test_a_bad_form_gets_its_reason(content_type: bytes, body: bytes, reason: str) -> None:
    assert refusal(body, content_type)["reason"] == reason


@given(st.binary())
def test_whatever_form_is_sent_is_answered_or_refused(body: bytes) -> None:
    for kind, content in ((FORM, b"json=" + body), (MULTIPART, body), (MULTIPART, parts() + body)):
        with contextlib.suppress(RequestError):
            seldon.predictions(UNIT, Request(content, kind))


def test_null_is_absent_as_in_protobufs_json() -> None:
    data = {"ndarray": [ROW], "tensor": None, "names": None}
    assert ask({"data": data, "jsonData": None})["data"]["ndarray"] == [[10.0, -10.0]]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"reward": 1},
        {"reward": 0.5, "request": {}, "response": None},
        {"request": {"data": {"ndarray": [ROW]}}, "truth": {"data": {"ndarray": ["setosa"]}}},
        {"response": {"data": {"names": [], "tensor": {"shape": [1, 2], "values": [1, 2]}}}},
        {"request": {"jsonData": {"instances": [ROW]}}, "truth": {"strData": "setosa"}},
        {"request": {"data": {"ndarray": [ROW], "tensor": None}, "meta": {}}},
    ],
)
def test_feedback_is_taken(document: object) -> None:
    assert seldon.read_feedback(Request(json.dumps(document).encode())) == document


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"reward": "x"},
        {"reward": True},
        {"truth": [1]},
        {"truth": {"data": {"ndarray": "zzz"}}},
        {"truth": {"data": "zzz"}},
        {"truth": {"strData": 1}},
        {"truth": {"data": {"tftensor": "zzz"}}},
        {"response": {"data": {"tensor": {"shape": [1, 2], "values": ["a", "b"]}}}},
        {"response": {"data": {"tensor": {"shape": [1, 2], "values": [1.0]}}}},
        {
            "request": {
                "data": {"ndarray": [ROW], "tensor": {"shape": [1, 4], "values": ROW}},
            },
        },
        {"request": {"data": {"ndarray": [ROW]}, "strData": "x"}},
    ],
)
def test_feedback_of_other_types_is_refused(document: object) -> None:
    with pytest.raises(RequestError) as caught:
        seldon.read_feedback(Request(json.dumps(document).encode()))
    assert caught.value.status == 400


def test_metadata_describes_the_graph_of_one_model() -> None:
    graph = seldon.graph_metadata(UNIT)
    assert graph["name"] == "default"
    assert graph["models"]["classifier"] == seldon.model_metadata(UNIT)
    assert graph["graphinputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(
    [
        *("data", "jsonData", "ndarray", "tensor", "shape", "values", "meta", "tags"),
        *("tftensor", "dtype", "tensorShape", "dim", "size", "floatVal", "tensorContent"),
    ]
)
MESSAGES = st.recursive(JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=4))


@given(st.binary() | MESSAGES.map(lambda document: json.dumps(document).encode()))
def test_whatever_is_sent_is_answered_or_refused(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        assert seldon.predictions(UNIT, Request(body)).status == 200


def test_tags_nested_deeper_than_json_is_written_are_refused() -> None:
    tags = b'{"a":' * 300 + b"1" + b"}" * 300
    body = b'{"data":{"ndarray":[[1,2,3,4]]},"meta":{"tags":' + tags + b"}}"
    assert refusal(body)["reason"] == "WRONG_TYPE"
