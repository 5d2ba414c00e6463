from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Value

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_pb2 as tf
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline_tests.serving.at_once import seldon_grpc
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit

UNIT = toy_unit()
UNKNOWN_TYPE = bytes((1 << 3, 99))
ROW = [1.0, 2.0, 3.0, 4.0]


def message_of(*rows: object) -> pb.SeldonMessage:
    message = pb.SeldonMessage()
    message.data.ndarray.extend(rows)
    return message


def test_tensor_is_answered_with_tensor() -> None:
    tensor = pb.Tensor(shape=[1, 4], values=ROW)
    answer = seldon_grpc.predict(UNIT, pb.SeldonMessage(data=pb.DefaultData(tensor=tensor)))
    assert list(answer.data.names) == ["t:0", "t:1"]
    assert list(answer.data.tensor.shape) == [1, 2]
    assert list(answer.data.tensor.values) == [10.0, -10.0]


def test_tftensor_is_answered_with_tftensor() -> None:
    message = pb.SeldonMessage()
    tensor_proto.write(message.data.tftensor, np.array([ROW, ROW], np.float32))
    answer = seldon_grpc.predict(UNIT, message).data
    assert list(answer.names) == ["t:0", "t:1"]
    scores = tensor_proto.read(answer.tftensor, where="tftensor")
    assert scores.dtype == np.float64
    assert scores.tolist() == [[10.0, -10.0]] * 2


def test_text_is_answered_with_ndarray_even_to_tftensor() -> None:
    def compute(rows: Any, names: Any) -> list[Any]:
        return [np.array(["yes"] * len(rows), dtype=object)]

    unit = toy_unit(toy_model(replace(toy_signature(), compute=compute)))
    message = pb.SeldonMessage()
    tensor_proto.write(message.data.tftensor, np.array([ROW]))
    assert list(seldon_grpc.predict(unit, message).data.ndarray) == ["yes"]


def test_what_has_no_rows_is_refused_with_what_to_send() -> None:
    for message in (pb.SeldonMessage(strData="x"), pb.SeldonMessage(binData=b"x")):
        with pytest.raises(RequestError, match=r"float64 of shape \[n, 4\].*data.tftensor"):
            seldon_grpc.predict(UNIT, message)


def test_ndarray_is_answered_with_ndarray() -> None:
    answer = seldon_grpc.predict(UNIT, message_of(ROW))
    assert list(answer.data.ndarray[0]) == [10.0, -10.0]


def test_json_data_is_answered_in_its_form() -> None:
    message = pb.SeldonMessage()
    message.jsonData.struct_value["instances"] = [ROW]
    answer = seldon_grpc.predict(UNIT, message)
    assert list(answer.jsonData.struct_value["predictions"][0]) == [10.0, -10.0]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"instances": [ROW], "inputs": [ROW]}, "AMBIGUOUS"),
        ({"inputs": {"features": [ROW], "other": [[9.0]]}}, "WRONG_INPUT"),
        ({"inputs": {"wrong": [ROW]}}, "WRONG_INPUT"),
        ({"inputs": [ROW], "signature_name": "other"}, "UNKNOWN_SIGNATURE"),
    ],
)
def test_json_data_that_would_be_answered_only_in_part_is_refused(
    asked: dict[str, object], reason: str
) -> None:
    message = pb.SeldonMessage()
    message.jsonData.struct_value.update(asked)
    with pytest.raises(RequestError) as caught:
        seldon_grpc.predict(UNIT, message)
    assert caught.value.reason == reason


def test_a_tensor_in_feedback_matches_its_shape() -> None:
    tensor = pb.Tensor(shape=[2, 4], values=ROW)
    message = pb.SeldonMessage(data=pb.DefaultData(tensor=tensor))
    with pytest.raises(RequestError, match=r"truth.data.tensor has shape \[2, 4\], but 4 values"):
        seldon_grpc.feedback(UNIT, pb.Feedback(truth=message))
    message.data.tensor.shape[0] = 1
    assert seldon_grpc.feedback(UNIT, pb.Feedback(truth=message)).meta.puid


def test_meta_is_kept_and_completed() -> None:
    message = message_of(ROW)
    message.meta.puid = "p"
    message.meta.tags["a"].number_value = 1
    message.meta.requestPath["scaler"] = "scale:2"
    meta = seldon_grpc.predict(UNIT, message).meta
    assert meta.puid == "p"
    assert meta.requestPath["scaler"] == "scale:2"
    assert meta.tags["a"].number_value == 1
    assert meta.tags["model_digest"].string_value == UNIT.model.digest
    assert meta.requestPath["classifier"] == "toy:1"
    assert len(seldon_grpc.predict(UNIT, message_of(ROW)).meta.puid) == 32


@pytest.mark.parametrize(
    "message",
    [
        pb.SeldonMessage(),
        pb.SeldonMessage(strData="x"),
        pb.SeldonMessage(binData=b"x"),
        pb.SeldonMessage(data=pb.DefaultData()),
        pb.SeldonMessage(data=pb.DefaultData(tftensor=tf.TensorProto(dtype=tf.DT_STRING))),
        pb.SeldonMessage(data=pb.DefaultData(tftensor=tf.TensorProto.FromString(UNKNOWN_TYPE))),
        pb.SeldonMessage(data=pb.DefaultData(tensor=pb.Tensor(shape=[1, -4], values=ROW))),
        pb.SeldonMessage(data=pb.DefaultData(tensor=pb.Tensor(shape=[2, 4], values=ROW))),
        pb.SeldonMessage(
            data=pb.DefaultData(tensor=pb.Tensor(shape=[1, 4], values=[float("nan")] * 4))
        ),
        pb.SeldonMessage(jsonData=Value(string_value="x")),
        message_of(1.0),
        message_of([True, False, True, False]),
        message_of([1.0, True, 1.0, 1.0]),
        message_of(["1", "2", "3", "4"]),
        message_of([None, 1.0, 1.0, 1.0]),
        message_of({"a": 1.0}),
        message_of(ROW, ROW[:3]),
        message_of(),
    ],
)
def test_a_bad_message_is_refused(message: pb.SeldonMessage) -> None:
    with pytest.raises(RequestError) as caught:
        seldon_grpc.predict(UNIT, message)
    assert caught.value.status == 400


def test_field_numbers_are_those_of_seldon() -> None:
    # From prediction.proto of Seldon Core 1.17.1.
    def numbers(name: str) -> dict[str, int]:
        fields = pb.DESCRIPTOR.message_types_by_name[name].fields
        return {field.name: field.number for field in fields}

    assert numbers("SeldonMessage") == {
        "status": 1, "meta": 2, "data": 3, "binData": 4, "strData": 5, "jsonData": 6,
        "customData": 7,
    }  # fmt: skip
    assert numbers("DefaultData") == {"names": 1, "tensor": 2, "ndarray": 3, "tftensor": 4}
    assert numbers("Tensor") == {"shape": 1, "values": 2}
    assert numbers("Meta") == {"puid": 1, "tags": 2, "routing": 3, "requestPath": 4, "metrics": 5}
    assert numbers("Status") == {"code": 1, "info": 2, "reason": 3, "status": 4}


def test_metadata_messages() -> None:
    model = seldon_grpc.model_metadata(UNIT)
    assert (model.name, list(model.versions)) == ("classifier", [UNIT.model.digest])
    graph = seldon_grpc.graph_metadata(UNIT)
    assert graph.models["classifier"].platform == "sklearn"
    assert list(graph.inputs[0].shape) == [-1, 4]
    assert seldon_grpc.feedback(UNIT, pb.Feedback(reward=1)).meta.puid


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_in_every_form(number: float) -> None:
    message = pb.SeldonMessage()
    message.jsonData.struct_value["instances"] = [[1.0, 2.0, 3.0, number]]
    with pytest.raises(RequestError, match="NaN and Infinity"):
        seldon_grpc.predict(UNIT, message)
    with pytest.raises(RequestError, match="NaN and Infinity"):
        seldon_grpc.predict(UNIT, message_of([1.0, 2.0, 3.0, number]))
