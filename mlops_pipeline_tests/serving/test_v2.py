import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlserver.grpc import dataplane_pb2 as pb

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.protocols import v2, v2_grpc
from mlops_pipeline_tests.serving.test_seldon import JSON
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model

MODEL = toy_model()
ROW = [1.0, 2.0, 3.0, 4.0]


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "predict", "shape": [1, 4], "datatype": "FP64", "data": ROW, **fields}


def ask(document: object) -> Any:
    return json.loads(v2.infer(MODEL, Request(json.dumps(document).encode())).body)


@pytest.mark.parametrize("data", [ROW, [ROW]])
def test_infers_from_flat_and_nested_data(data: object) -> None:
    answer = ask({"id": "7", "inputs": [tensor(data=data)]})
    assert answer == {
        "model_name": "classifier",
        "model_version": MODEL.digest,
        "id": "7",
        "parameters": {},
        "outputs": [{"name": "scores", "shape": [1, 2], "datatype": "FP64", "data": [10.0, -10.0]}],
    }


def test_outputs_are_chosen_by_name() -> None:
    answer = ask({"inputs": [tensor()], "outputs": [{"name": "label"}]})
    assert answer["outputs"] == [{"name": "label", "shape": [1], "datatype": "INT64", "data": [1]}]
    assert answer["id"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": []},
        {"inputs": [tensor(), tensor()]},
        {"inputs": tensor()},
        {"inputs": [1]},
        {"inputs": [tensor(name=1)]},
        {"inputs": [tensor(datatype="BYTES")]},
        {"inputs": [tensor(datatype=[])]},
        {"inputs": [tensor(shape=[-1, 4])]},
        {"inputs": [tensor(shape=[2, 4])]},
        {"inputs": [tensor(shape="x")]},
        {"inputs": [tensor(data=["1", "2", "3", "4"])]},
        {"inputs": [tensor(data=None)]},
        {"inputs": [tensor()], "outputs": [{"name": "x"}]},
        {"inputs": [tensor()], "outputs": 1},
        {"inputs": [tensor()], "id": 1},
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(document: object) -> None:
    with pytest.raises(RequestError) as caught:
        ask(document)
    answer = v2.error(caught.value)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]


def test_tensorflow_models_have_their_inputs_name() -> None:
    model = toy_model(manifest=toy_manifest(framework="tensorflow"))
    body = json.dumps({"inputs": [tensor()]}).encode()
    with pytest.raises(RequestError, match="'features'"):
        v2.infer(model, Request(body))


@given(
    st.dictionaries(
        st.sampled_from(["inputs", "outputs", "id"]),
        JSON
        | st.lists(
            st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data"]), JSON | st.just("FP64")
            )
        ),
    )
)
def test_whatever_is_sent_is_answered_or_refused(document: object) -> None:
    with contextlib.suppress(RequestError):
        ask(document)


def grpc_request(**fields: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="classifier", **fields)
    request.inputs.add(name="predict", datatype="FP64", shape=[1, 4])
    return request


def test_grpc_infers_from_typed_contents() -> None:
    request = grpc_request(id="7")
    request.inputs[0].contents.fp64_contents.extend(ROW)
    answer = v2_grpc.infer(MODEL, request)
    assert (answer.model_name, answer.model_version, answer.id) == ("classifier", MODEL.digest, "7")
    assert list(answer.outputs[0].shape) == [1, 2]
    assert list(answer.outputs[0].contents.fp64_contents) == [10.0, -10.0]


def test_grpc_answers_raw_contents_with_raw_contents() -> None:
    import numpy as np

    request = grpc_request(raw_input_contents=[np.array(ROW).tobytes()])
    answer = v2_grpc.infer(MODEL, request)
    assert np.frombuffer(answer.raw_output_contents[0]).tolist() == [10.0, -10.0]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model_name": "other"}, 404),
        ({"model_name": "classifier", "model_version": "1"}, 404),
        ({"model_name": "classifier"}, 400),
    ],
)
def test_grpc_refuses_another_model_and_no_input(fields: dict[str, str], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        v2_grpc.infer(MODEL, pb.ModelInferRequest(**fields))
    assert caught.value.status == status


def test_grpc_refuses_contents_that_do_not_fit() -> None:
    for request in (grpc_request(), grpc_request(raw_input_contents=[b"123"])):
        with pytest.raises(RequestError):
            v2_grpc.infer(MODEL, request)
    negative = grpc_request()
    negative.inputs[0].shape[0] = -1
    with pytest.raises(RequestError):
        v2_grpc.infer(MODEL, negative)
