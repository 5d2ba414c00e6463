import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_pb2 as pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.scores import DATATYPES
from mlops_pipeline_tests.embedded.generated import tensors
from mlops_pipeline_tests.serving.tensorflow_messages import (
    meta_graph_pb2,
    tensor_pb2,
    types_pb2,
)

VALUES = np.array([[0, 1, 1], [1, 0, 1]])


def tensor_of(shape: list[int], **fields: Any) -> pb.TensorProto:
    tensor = pb.TensorProto(**fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def test_fields_are_those_of_tensorflow() -> None:
    pairs = (
        (pb.TensorProto, tensor_pb2.TensorProto),
        (pb.TensorShapeProto, tensor_pb2.TensorProto().tensor_shape),
        (pb.TensorInfo, meta_graph_pb2.TensorInfo),
        (pb.SignatureDef, meta_graph_pb2.SignatureDef),
    )
    for ours, theirs in pairs:
        known = {field.name: (field.number, field.type) for field in theirs.DESCRIPTOR.fields}
        for field in ours.DESCRIPTOR.fields:
            assert known[field.name] == (field.number, field.type), field.full_name
    for name, number in pb.DataType.items():
        assert types_pb2.DataType.Value(name) == number


@pytest.mark.parametrize("dtype", DATATYPES)
@pytest.mark.parametrize("by_content", [True, False])
def test_every_type_is_written_and_read(dtype: "np.dtype[Any]", by_content: bool) -> None:  # noqa: FBT001
    tensor = pb.TensorProto()
    tensor_proto.write(tensor, VALUES.astype(dtype), by_content=by_content)
    assert bool(tensor.tensor_content) is by_content
    theirs = tensor_pb2.TensorProto.FromString(tensor.SerializeToString())
    assert types_pb2.DataType.Name(theirs.dtype) == tensor_proto.type_name(dtype)
    values = tensor_proto.read(pb.TensorProto.FromString(theirs.SerializeToString()), where="x")
    assert values.dtype == dtype
    assert values.tolist() == VALUES.astype(dtype).tolist()
    values[0] = 1  # A model may write to its rows.


def test_numbers_of_every_size_survive() -> None:
    for dtype, number in (
        ("u8", 2**64 - 1),
        ("i8", -(2**63)),
        ("u4", 2**32 - 1),
        ("i1", -128),
        ("f2", -65504.0),
        ("f8", 5e-324),
    ):
        tensor = pb.TensorProto()
        tensor_proto.write(tensor, np.array([number], dtype))
        assert tensor_proto.read(tensor, where="x").tolist() == [number]


def test_brain_floats_are_read() -> None:
    # bfloat16 is the first half of a float32.
    content = np.array([1.5, -2.0], "<f4").view("<u2")[1::2].tobytes()
    tensor = tensor_of([2], dtype=pb.DT_BFLOAT16, tensor_content=content)
    assert tensor_proto.read(tensor, where="x").tolist() == [1.5, -2.0]
    tensor = tensor_of([1], dtype=pb.DT_BFLOAT16, half_val=[0x3FC0])
    assert tensor_proto.read(tensor, where="x").tolist() == [1.5]


def test_a_missing_rest_repeats_the_last_value() -> None:
    tensor = tensor_of([2, 2], dtype=pb.DT_FLOAT, float_val=[1.0, 2.0])
    assert tensor_proto.read(tensor, where="x").tolist() == [[1.0, 2.0], [2.0, 2.0]]
    tensor = tensor_of([3], dtype=pb.DT_STRING, string_val=[b"a", b"b"])
    assert tensor_proto.read(tensor, where="x", text=True).tolist() == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("DT_FLOAT", [0.0, 0.0]), ("DT_INT64", [0, 0]), ("DT_BOOL", [False] * 2), ("DT_HALF", [0, 0])],
)
def test_a_tensor_without_values_is_zero(dtype: str, wanted: list[Any]) -> None:
    # TensorFlow writes zeros so if it compresses a tensor.
    tensor = tensor_of([2], dtype=pb.DataType.Value(dtype))
    values = tensor_proto.read(tensor, where="x")
    assert values.tolist() == wanted
    assert tensor_proto.type_name(values.dtype) == dtype


def test_a_tensor_without_strings_has_empty_ones() -> None:
    tensor = tensor_of([2], dtype=pb.DT_STRING)
    assert tensor_proto.read(tensor, where="x", text=True).tolist() == ["", ""]


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"dtype": pb.DT_FLOAT, "float_val": [1.0]}, 16384),
        ({"dtype": pb.DT_DOUBLE}, 8192),
        ({"dtype": pb.DT_STRING, "string_val": [b"x" * 120]}, 512),
    ],
)
def test_repeated_values_have_the_size_of_a_small_request(
    fields: dict[str, Any], most: int
) -> None:
    text = fields["dtype"] == pb.DT_STRING
    assert tensor_proto.read(tensor_of([most], **fields), where="x", text=text).size == most
    for shape in ([most + 1], [1 << 20, 4]):
        with pytest.raises(RequestError, match="65536 bytes with them: send each value"):
            tensor_proto.read(tensor_of(shape, **fields), where="x", text=text)


def test_text_is_written_as_bytes() -> None:
    tensor = pb.TensorProto()
    tensor_proto.write(tensor, np.array(["ü", "b"], dtype=object), by_content=True)
    assert (tensor.dtype, list(tensor.string_val)) == (pb.DT_STRING, ["ü".encode(), b"b"])


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (tensor_of([1], dtype=pb.DT_STRING, string_val=[b"x"]), "x is DT_STRING; expected numbers"),
        (pb.TensorProto.FromString(bytes((1 << 3, 99))), "x is the DataType 99; expected numbers"),
        (tensor_of([1]), "x is DT_INVALID"),
        (tensor_of([-1], dtype=pb.DT_FLOAT), "its shape must be known"),
        (tensor_of([1] * 40, dtype=pb.DT_FLOAT), "is too large"),
        (tensor_of([2**40], dtype=pb.DT_FLOAT, float_val=[1.0]), "is too large"),
        (
            tensor_of([2**30, 2**30], dtype=pb.DT_FLOAT, float_val=[1.0]),
            "has 1152921504606846976 values, but contains only 1",
        ),
        (tensor_of([2_000_000_000, 0], dtype=pb.DT_FLOAT), "is too large"),
        (tensor_of([0, 1 << 30, 1 << 30], dtype=pb.DT_FLOAT), "is too large"),
        (tensor_of([1], dtype=pb.DT_FLOAT, float_val=[1.0, 2.0]), "but 2 values"),
        (tensor_of([1], dtype=pb.DT_FLOAT, double_val=[1.0]), "either in float_val or in"),
        (
            tensor_of([1], dtype=pb.DT_FLOAT, float_val=[1.0], tensor_content=b"1234"),
            "either in float_val or in",
        ),
        (tensor_of([1], dtype=pb.DT_FLOAT, tensor_content=b"123"), "3 bytes are not numbers"),
        (tensor_of([2], dtype=pb.DT_FLOAT, tensor_content=b"1234"), "but 1 values"),
        (tensor_of([1], dtype=pb.DT_UINT8, int_val=[300]), "x is DT_UINT8, but"),
        (tensor_of([1], dtype=pb.DT_HALF, half_val=[70_000]), "x is DT_HALF, but"),
        (tensor_of([1], dtype=pb.DT_BOOL, tensor_content=b"\2"), "must be 0 or 1"),
    ],
)
def test_a_wrong_tensor_is_refused_in_a_sentence(tensor: pb.TensorProto, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        tensor_proto.read(tensor, where="x")
    assert caught.value.status == 400


@given(tensors())
def test_whatever_is_sent_is_read_or_refused(tensor: pb.TensorProto) -> None:
    with contextlib.suppress(RequestError):
        values = tensor_proto.read(tensor, where="x")
        assert list(values.shape) == [dim.size for dim in tensor.tensor_shape.dim]
