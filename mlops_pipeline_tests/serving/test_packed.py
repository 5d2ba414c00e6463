import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import packed
from mlops_pipeline.serving import seldon_pb2 as pb

DOUBLE = np.dtype(np.float64)


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_floats_are_read_and_written_as_protobuf_does(values: list[float]) -> None:
    message = v2.InferTensorContents(fp32_contents=values)
    read = packed.read(message, "fp32_contents", np.dtype(np.float32))
    assert read.tolist() == list(message.fp32_contents)
    written = v2.InferTensorContents()
    packed.extend(written, "fp32_contents", read)
    assert written == message


@pytest.mark.parametrize("size", [0, 1, 15, 16, 2047, 2048, 300_000])
def test_every_length_is_read_and_written(size: int) -> None:
    values = np.arange(size, dtype=np.float64)
    message = pb.Tensor()
    packed.extend(message, "values", values)
    assert list(message.values) == values.tolist()
    assert packed.read(message, "values", DOUBLE).tolist() == values.tolist()


def test_values_are_appended() -> None:
    message = pb.Tensor(shape=[2, 1], values=[1.0])
    packed.extend(message, "values", np.array([2.0]))
    assert message == pb.Tensor(shape=[2, 1], values=[1.0, 2.0])


def test_fields_that_a_message_does_not_know_are_ignored() -> None:
    unknown = bytes((15 << 3 | 2, 3)) + b"abc"
    known = pb.Tensor(values=[1.0, 2.0]).SerializeToString()
    for content in (known + unknown, unknown + known, unknown):
        message = pb.Tensor.FromString(content)
        assert packed.read(message, "values", DOUBLE).tolist() == list(message.values)
