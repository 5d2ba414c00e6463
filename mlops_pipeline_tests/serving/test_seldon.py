import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.protocols import seldon
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
    answer = ask({"data": {"names": ["a"], "ndarray": [ROW]}})
    assert answer["data"] == {"names": ["t:0", "t:1"], "ndarray": [[10.0, -10.0]]}


def test_tensor_is_answered_with_tensor() -> None:
    answer = ask({"data": {"tensor": {"shape": [2, 4], "values": ROW * 2}}})
    tensor = {"shape": [2, 2], "values": [10.0, -10.0, 10.0, -10.0]}
    assert answer["data"] == {"names": ["t:0", "t:1"], "tensor": tensor}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([ROW], [[10.0, -10.0]]),
        ({"instances": [ROW]}, {"predictions": [[10.0, -10.0]]}),
        ({"inputs": [ROW]}, {"outputs": [[10.0, -10.0]]}),
        ({"inputs": {"features": [ROW]}}, {"outputs": [[10.0, -10.0]]}),
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


def test_puid_comes_from_the_header_too() -> None:
    assert ask({"data": {"ndarray": [ROW]}}, puid="from-header")["meta"]["puid"] == "from-header"


def test_names_are_the_models_own_where_it_has_them() -> None:
    own = toy_unit(toy_model(manifest=toy_manifest(output_names=("yes", "no"))))
    answer = seldon.predictions(own, Request(json.dumps({"data": {"ndarray": [ROW]}}).encode()))
    assert json.loads(answer.body)["data"]["names"] == ["yes", "no"]


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
        ({"data": {"tftensor": {}}}, "UNSUPPORTED"),
        ({"data": {"ndarray": ROW}}, "WRONG_SHAPE"),
        ({"data": {"ndarray": [ROW[:3]]}}, "WRONG_SHAPE"),
        ({"data": {"ndarray": []}}, "EMPTY_BATCH"),
        ({"data": {"ndarray": [ROW, ROW[:3]]}}, "RAGGED"),
        ({"data": {"ndarray": [["1", 2, 3, 4]]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": [[None, 2, 3, 4]]}}, "WRONG_TYPE"),
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


def test_a_wrong_content_type_is_refused_and_curls_is_not() -> None:
    body = json.dumps({"data": {"ndarray": [ROW]}}).encode()
    assert refusal(body, b"text/plain")["reason"] == "WRONG_CONTENT_TYPE"
    for kind in (b"", b"application/json; charset=utf-8", b"application/x-www-form-urlencoded"):
        assert seldon.predictions(UNIT, Request(body, kind)).status == 200


def test_the_executor_may_send_a_form() -> None:
    body = b"json=%7B%22data%22%3A%7B%22ndarray%22%3A%5B%5B1%2C2%2C3%2C4%5D%5D%7D%7D"
    answer = seldon.microservice(UNIT, Request(body, b"application/x-www-form-urlencoded"))
    assert json.loads(answer.body)["data"]["ndarray"] == [[10.0, -10.0]]


def test_feedback_is_taken() -> None:
    assert seldon.feedback(UNIT, Request(b'{"reward": 1}')).status == 200
    with pytest.raises(RequestError):
        seldon.feedback(UNIT, Request(b"[]"))


def test_metadata_describes_the_graph_of_one_model() -> None:
    graph = seldon.graph_metadata(UNIT)
    assert graph["name"] == "default"
    assert graph["models"]["classifier"] == seldon.model_metadata(UNIT)
    assert graph["graphinputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(["data", "jsonData", "ndarray", "tensor", "shape", "values", "meta", "tags"])
MESSAGES = st.recursive(JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=4))


@given(st.binary() | MESSAGES.map(lambda document: json.dumps(document).encode()))
def test_whatever_is_sent_is_answered_or_refused(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        assert seldon.microservice(UNIT, Request(body)).status == 200


def test_tags_nested_deeper_than_json_is_written_are_refused() -> None:
    tags = b'{"a":' * 300 + b"1" + b"}" * 300
    body = b'{"data":{"ndarray":[[1,2,3,4]]},"meta":{"tags":' + tags + b"}}"
    assert refusal(body)["reason"] == "WRONG_TYPE"
