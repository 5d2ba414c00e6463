import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from mlops_pipeline.serving import grpc_operations
from mlops_pipeline.serving import inference_pb2 as pb
from mlops_pipeline.serving.batching import run_at_once
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.protocols import v2_raw
from mlops_pipeline.serving.protocols.seldon import reshaped
from mlops_pipeline.serving.scores import DTYPES, Array
from mlops_pipeline.serving.seldon_pb2 import SeldonMessage
from mlops_pipeline_tests.serving.at_once import seldon, seldon_grpc, tensorflow, v2, v2_grpc
from mlops_pipeline_tests.serving.test_seldon import JSON
from mlops_pipeline_tests.serving.toy_model import (
    toy_model,
    toy_signature,
    toy_unit,
)

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


def test_an_index_of_a_repository_is_refused() -> None:
    (entry,) = v2_grpc.index(MODEL, pb.RepositoryIndexRequest(ready=True)).models
    assert (entry.name, entry.state) == ("classifier", "READY")
    with pytest.raises(RequestError, match="no repository 'other'"):
        v2_grpc.index(MODEL, pb.RepositoryIndexRequest(repository_name="other"))


def test_rows_without_values_are_few() -> None:
    # A few bytes of a request must not become memory of the model: two thousand million sums.
    model = toy_model(toy_signature(row_shape=(-1,)))
    raw = pb.ModelInferRequest(model_name="classifier", raw_input_contents=[b""])
    raw.inputs.add(name="features", datatype="FP64", shape=[2_000_000_000, 0])
    empty = tensor(shape=[2_000_000_000, 0], data=[])
    data = {"tensor": {"shape": [2_000_000_000, 0], "values": []}}
    asking: tuple[Callable[[], object], ...] = (
        lambda: v2_grpc.infer(model, raw),
        lambda: v2.infer(model, Request(json.dumps({"inputs": [empty]}).encode())),
        lambda: seldon.predictions(toy_unit(model), Request(json.dumps({"data": data}).encode())),
    )
    for ask_once in asking:
        with pytest.raises(RequestError, match=r"has shape \[2000000000, 0\]"):
            ask_once()
    raw.inputs[0].shape[0] = 3
    assert list(v2_grpc.infer(model, raw).outputs[0].shape) == [3, 2]
    raw.inputs[0].shape[0] = 0
    raw.inputs[0].shape[1] = 784
    with pytest.raises(RequestError, match="the batch is empty"):
        v2_grpc.infer(model, raw)


def test_outputs_are_chosen_by_name() -> None:
    whole = ask({"inputs": [tensor()]})["outputs"]
    assert ask({"inputs": [tensor()], "outputs": []})["outputs"] == whole
    answer = ask({"inputs": [tensor()], "outputs": [{"name": "label"}]})
    assert answer["outputs"] == [{"name": "label", "shape": [1], "datatype": "INT64", "data": [1]}]
    assert answer["id"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": []},
        {"inputs": [tensor(), tensor()]},
        {"inputs": [tensor(name=None, shape=[1], data=[1])] * 4},
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


@pytest.mark.parametrize(
    ("datatype", "data", "sentence"),
    [
        ("UINT8", [-5, 1, 1, 1], "the datatype is UINT8, but a number is out of its range"),
        ("UINT8", [300, 1, 1, 1], "the datatype is UINT8, but a number is out of its range"),
        ("INT64", [5.1, 1, 1, 1], "the datatype is INT64, but a number is not whole"),
        ("INT64", [2**53 + 2, 1.0, 1, 1], r"beyond 2\^53 came as a float"),
        ("INT64", [2**63, 2**63, 2**63, 2**63], "out of its range"),
        ("UINT64", [2**64, 1, 1, 1], r"beyond 2\^53 came as a float"),
        ("UINT64", [-1, 1, 1, 1], "out of its range"),
        ("FP16", [70000, 1, 1, 1], "the datatype is FP16, but a number is too large"),
        ("FP32", [-1e39, 1, 1, 1], "the datatype is FP32, but a number is too large"),
        ("BOOL", [2, 0, 0, 1], "the datatype is BOOL: send true and false"),
        ("FP64", [True, 1, 1, 1], "numbers only"),
        ("BYTES", ["1", "2", "3", "4"], "must be one of UINT8|must be one of FP16"),
    ],
)
def test_the_data_have_to_be_of_the_datatype(
    datatype: str, data: list[float], sentence: str
) -> None:
    with pytest.raises(RequestError, match=sentence):
        ask({"inputs": [tensor(datatype=datatype, data=data)]})


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT8", [0, 255, 1, 2]),
        ("INT8", [-128, 127.0, 1, 2]),
        ("UINT64", [2**64 - 1, 1, 1, 1]),
        ("FP16", [65504, 0.5, 1, 1]),
        ("FP32", [0.1, 1, 1, 1]),
        ("BOOL", [True, False, True, True]),
        ("BOOL", [1, 0, 1, 1]),
    ],
)
def test_data_of_their_datatype_are_taken(datatype: str, data: list[float]) -> None:
    answer = ask({"inputs": [tensor(datatype=datatype, data=data)]})
    assert answer["outputs"][0]["data"][0] == float(sum(data))


def test_a_single_input_needs_no_name() -> None:
    nameless = tensor()
    del nameless["name"]
    assert ask({"inputs": [nameless]})["outputs"][0]["data"] == [10.0, -10.0]


def test_a_data_frames_columns_are_taken_as_rows() -> None:
    inputs = [
        {"name": name, "shape": [2, 1], "datatype": "INT64", "data": [i, 10 * i]}
        for i, name in enumerate("abcd")
    ]
    assert ask({"inputs": inputs})["outputs"][0]["data"] == [6.0, -6.0, 60.0, -60.0]
    with pytest.raises(RequestError, match=r"columns of one length.*\[n, 4\]"):
        ask({"inputs": [*inputs[:3], tensor(shape=[1], data=[1])]})
    with pytest.raises(RequestError, match=r"expected shape \[n, 4\], got \[2, 3\]"):
        ask({"inputs": inputs[:3]})
    scalars = [{**given, "shape": [], "data": [1]} for given in inputs]
    for wrong in (scalars, scalars[:2], [scalars[0], *inputs[1:]]):
        with pytest.raises(RequestError, match="columns of one length"):
            ask({"inputs": wrong})


def binary(document: object, *contents: bytes, length: str | None = None) -> Request:
    head = json.dumps(document).encode()
    length = str(len(head)) if length is None else length
    body = b"".join([head, *contents])
    return Request(body, b"application/octet-stream", json_bytes=length.encode())


def of_bytes(size: int, **fields: Any) -> dict[str, Any]:
    described = tensor(parameters={"binary_data_size": size}, **fields)
    del described["data"]
    return described


def test_binary_tensors_are_answered_as_json_or_as_bytes() -> None:
    row = np.array(ROW).tobytes()
    answer = v2.infer(MODEL, binary({"inputs": [of_bytes(32)]}, row))
    assert json.loads(answer.body)["outputs"][0]["data"] == [10.0, -10.0]
    every = {"parameters": {"binary_data_output": True}}
    answer = v2.infer(MODEL, binary({"inputs": [of_bytes(32)], **every}, row))
    ((name, length),) = answer.headers
    assert (name, answer.content_type) == (v2_raw.LENGTH, b"application/octet-stream")
    (output,) = json.loads(answer.body[: int(length)])["outputs"]
    assert output == {
        "name": "scores",
        "shape": [1, 2],
        "datatype": "FP64",
        "parameters": {"binary_data_size": 16},
    }
    assert np.frombuffer(answer.body[int(length) :]).tolist() == [10.0, -10.0]


def test_tritons_brain_floats_are_read() -> None:
    content = np.array([ROW], ml_dtypes.bfloat16).tobytes()
    document = {"inputs": [of_bytes(8, datatype="BF16")]}
    answer = json.loads(v2.infer(MODEL, binary(document, content)).body)
    assert answer["outputs"][0]["data"] == [10.0, -10.0]
    request = pb.ModelInferRequest(model_name="classifier", raw_input_contents=[content])
    request.inputs.add(datatype="BF16", shape=[1, 4])
    outputs = v2_grpc.infer(MODEL, request).raw_output_contents
    assert np.frombuffer(outputs[0]).tolist() == [10.0, -10.0]
    assert ask({"inputs": [tensor(datatype="BF16")]})["outputs"][0]["data"] == [10.0, -10.0]


def test_a_model_may_change_the_rows_of_a_binary_tensor_too() -> None:
    def doubling(rows: Array, names: Sequence[str]) -> Sequence[object]:
        rows *= 2  # In place.
        return toy_signature().compute(rows, names)

    model = toy_model(replace(toy_signature(), compute=doubling))
    row = np.array(ROW).tobytes()
    listed = Request(json.dumps({"inputs": [tensor()]}).encode())
    for request in (binary({"inputs": [of_bytes(32)]}, row), listed):
        (output,) = json.loads(v2.infer(model, request).body)["outputs"]
        assert output["data"] == [20.0, -20.0]


@pytest.mark.parametrize("content", [b"", b"0" * 32])
def test_binary_tensors_without_the_header_are_refused_with_its_name(content: bytes) -> None:
    request = binary({"inputs": [of_bytes(32)]}, content)._replace(json_bytes=b"")
    with pytest.raises(RequestError, match="Inference-Header-Content-Length is missing"):
        v2.infer(MODEL, request)


def test_each_output_may_be_binary_or_not_and_the_request_too() -> None:
    outputs = [{"name": "label"}, {"name": "scores", "parameters": {"binary_data": True}}]
    body = json.dumps({"inputs": [tensor()], "outputs": outputs}).encode()
    answer = v2.infer(MODEL, Request(body))
    length = int(answer.headers[0][1])
    label, scores = json.loads(answer.body[:length])["outputs"]
    assert (label["data"], scores["parameters"]) == ([1], {"binary_data_size": 16})
    assert np.frombuffer(answer.body[length:]).tolist() == [10.0, -10.0]


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_binary_columns_are_taken_in_their_order(datatype: str) -> None:
    dtype = DTYPES[datatype]
    given = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype)
    size = 2 * dtype.itemsize
    inputs = [of_bytes(size, name=name, shape=[2, 1], datatype=datatype) for name in "abcd"]
    answer = v2.infer(MODEL, binary({"inputs": inputs}, *(one.tobytes() for one in given)))
    assert json.loads(answer.body)["outputs"][0]["data"] == [3.0, -3.0, 1.0, -1.0]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (binary({"inputs": [of_bytes(32)]}, b"0" * 31), "is 32, but 31 bytes follow"),
        (binary({"inputs": [of_bytes(-1)]}, b""), "is -1, but 0 bytes follow"),
        (
            binary({"inputs": [of_bytes(24, shape=[1, 3])]}, b"0" * 32),
            "8 bytes follow the inputs",
        ),
        (binary({"inputs": [tensor()]}, b"0" * 32), "32 bytes follow the inputs"),
        (
            binary({"inputs": [of_bytes(31)]}, b"0" * 31),
            "data of the input 'predict' is not a tensor of FP64",
        ),
        (binary({"inputs": [of_bytes(24)]}, b"0" * 24), r"shape \[1, 4\], but 3 values"),
        (binary({"inputs": [{**of_bytes(32), "data": ROW}]}, b"0" * 32), "has data and binary"),
        (binary({"inputs": [of_bytes(4, datatype="BOOL")]}, b"\2" * 4), "must be 0 or 1"),
        (binary({"inputs": [of_bytes(4, datatype="BYTES")]}, b"\2" * 4), "datatype must be one"),
        (binary({"inputs": [of_bytes(32)]}, b"0" * 32, length="9999"), "must be the length"),
        (binary({"inputs": [of_bytes(32)]}, b"0" * 32, length="-1"), "must be the length"),
        (binary({"inputs": [of_bytes(32)]}, b"0" * 32, length="5"), "not JSON"),
        (
            binary({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}),
            "binary_data_output must be true or false",
        ),
    ],
)
def test_binary_tensors_that_do_not_fit_are_refused(request_: Request, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        v2.infer(MODEL, request_)


@given(st.binary(max_size=64), st.integers(-2, 70), st.text("0123456789-x", max_size=4))
def test_whatever_bytes_are_sent_are_answered_or_refused(
    content: bytes, size: int, length: str
) -> None:
    document = {"inputs": [of_bytes(size)]}
    for request in (binary(document, content), binary(document, content, length=length)):
        with contextlib.suppress(RequestError):
            v2.infer(MODEL, request)


def test_integers_keep_their_digits() -> None:
    long = 2**53 + 1
    signature = replace(toy_signature(dtype="int64", row_shape=()), compute=lambda rows, _: [rows])
    model = toy_model(signature)
    request = {"inputs": [tensor(shape=[2], datatype="INT64", data=[long, -long])]}
    body = json.dumps(request).encode()
    assert b"[9007199254740993,-9007199254740993]" in v2.infer(model, Request(body)).body
    call = pb.ModelInferRequest(model_name="classifier")
    call.inputs.add(datatype="INT64", shape=[1]).contents.int64_contents.append(long)
    assert list(v2_grpc.infer(model, call).outputs[0].contents.int64_contents) == [long]
    body = b'{"instances": [9007199254740993]}'
    assert b"[9007199254740993]" in tensorflow.predict(model, Request(body)).body
    unit = toy_unit(model)
    for data in (
        '{"ndarray":[9007199254740993]}',
        '{"tensor":{"shape":[1],"values":[9007199254740993]}}',
    ):
        answer = seldon.predictions(unit, Request(f'{{"data":{data}}}'.encode()))
        assert b"[9007199254740993]" in answer.body
    message = SeldonMessage()
    message.data.tensor.shape.append(1)
    message.data.tensor.values.append(2.0**60)
    with pytest.raises(RequestError, match=r"2\^53"):
        seldon_grpc.predict(unit, message)


def test_tensorflow_models_have_their_inputs_name() -> None:
    model = toy_model()
    model = model.with_default(replace(model.default, takes_columns=False))
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
    request = grpc_request(raw_input_contents=[np.array(ROW).tobytes()])
    answer = v2_grpc.infer(MODEL, request)
    assert np.frombuffer(answer.raw_output_contents[0]).tolist() == [10.0, -10.0]


@pytest.mark.parametrize("version", ["", "1", str(MODEL.version), MODEL.digest])
def test_grpc_answers_every_name_of_the_version(version: str) -> None:
    request = grpc_request(raw_input_contents=[np.array(ROW).tobytes()], model_version=version)
    assert v2_grpc.infer(MODEL, request).model_version == MODEL.digest
    assert v2_grpc.ready(MODEL, pb.ModelReadyRequest(name="classifier", version=version)).ready


def test_grpc_lists_the_only_model() -> None:
    (entry,) = v2_grpc.index(MODEL, pb.RepositoryIndexRequest()).models
    assert (entry.name, entry.version, entry.state) == ("classifier", MODEL.digest, "READY")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model_name": "other"}, 404),
        ({"model_name": "classifier", "model_version": "2"}, 404),
        ({"model_name": "classifier"}, 400),
    ],
)
def test_grpc_refuses_another_model_and_no_input(fields: dict[str, Any], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        v2_grpc.infer(MODEL, pb.ModelInferRequest(**fields))
    assert caught.value.status == status


def test_grpc_refuses_contents_that_do_not_fit() -> None:
    for request in (grpc_request(), grpc_request(raw_input_contents=[b"123"])):
        with pytest.raises(RequestError):
            v2_grpc.infer(MODEL, request)
    twice = grpc_request(raw_input_contents=[np.array(ROW).tobytes()])
    twice.inputs[0].contents.fp64_contents.extend(ROW)
    with pytest.raises(RequestError, match="FP64 only in raw_input_contents, got fp64_contents"):
        v2_grpc.infer(MODEL, twice)
    other = grpc_request()
    other.inputs[0].contents.fp32_contents.extend(ROW)
    with pytest.raises(RequestError, match="FP64 only in fp64_contents, got fp32_contents"):
        v2_grpc.infer(MODEL, other)
    negative = grpc_request()
    negative.inputs[0].shape[0] = -1
    with pytest.raises(RequestError):
        v2_grpc.infer(MODEL, negative)


def fields(message: Any) -> dict[str, Any]:
    """Return name → number, type, whether it is repeated and type of message, of every field."""
    found = {
        field.name: (field.number, field.type, field.label, _name(field.message_type))
        for field in message.fields
    }
    for inner in message.nested_types:
        found |= {f"{inner.name}.{name}": value for name, value in fields(inner).items()}
    return found


def _name(message: Any) -> str:
    return message.name if message else ""


BEYOND_TRITON = {
    "ModelMetadataResponse": {"properties", "PropertiesEntry.key", "PropertiesEntry.value"}
}
"""Message → fields that the specification has, and Triton's messages have not."""


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.message_types_by_name))
def test_messages_are_those_of_other_people(name: str) -> None:
    theirs = fields(service_pb2.DESCRIPTOR.message_types_by_name[name])
    ours = fields(pb.DESCRIPTOR.message_types_by_name[name])
    assert ours.keys() - theirs.keys() == BEYOND_TRITON.get(name, set())
    common = ours.keys() & theirs.keys()
    assert {field: ours[field] for field in common} == {field: theirs[field] for field in common}


def test_methods_are_those_of_other_people() -> None:
    (ours,) = pb.DESCRIPTOR.services_by_name.values()
    theirs = service_pb2.DESCRIPTOR.services_by_name[ours.name]
    assert theirs.full_name == grpc_operations.V2
    for method in ours.methods:
        there = theirs.methods_by_name[method.name]
        assert (method.input_type.name, method.output_type.name) == (
            there.input_type.name,
            there.output_type.name,
        )


def test_a_message_that_is_none_is_named_as_the_specification_does() -> None:
    operation = grpc_operations.OPERATIONS[grpc_operations.V2]["ModelInfer"]
    with pytest.raises(
        RequestError, match=r"the message is not of the type inference\.ModelInferRequest$"
    ):
        run_at_once(operation.answer(toy_unit(), b"\xff"))


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        ([[1, 2, 3], [4, 5, 6]], [3, 2], r"shape \[3, 2\], but .* nested in the shape \[2, 3\]"),
        ([[1, 2, 3], [4, 5, 6]], [1, 2, 3], r"\[1, 2, 3\], but .* nested in the shape \[2, 3\]"),
        ([1, 2, 3], [2, 2], r"shape \[2, 2\], but 3 values"),
    ],
)
def test_values_that_are_nested_in_another_shape_are_refused(
    data: list[Any], shape: list[int], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        reshaped(np.array(data), shape, where="the input")
    flat = np.arange(6)
    assert reshaped(flat, [6, 1], where="the input").shape == (6, 1)
    assert reshaped(flat.reshape(6, 1), [6, 1], where="the input").shape == (6, 1)
    assert reshaped(flat[:1], [], where="the input").shape == ()
