"""TensorFlow's TensorProto as arrays, without TensorFlow: for TF Serving's gRPC and `tftensor`.

A tensor's values are its `tensor_content`, or the field of its type. If that field has fewer values
than the shape, the last one is repeated; without any, all are zero, false or empty.

https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/framework/tensor.proto
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from mlops_pipeline.serving import packed, texts
from mlops_pipeline.serving import tensorflow_pb2 as pb
from mlops_pipeline.serving.cells import as_objects
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.memory import LARGE
from mlops_pipeline.serving.models import check_numbers
from mlops_pipeline.serving.payloads import is_possible
from mlops_pipeline.serving.scores import Array, of_bytes

TYPES: Mapping["np.dtype[Any]", pb.DataType] = {
    np.dtype(np.float16): pb.DT_HALF,
    np.dtype(np.float32): pb.DT_FLOAT,
    np.dtype(np.float64): pb.DT_DOUBLE,
    np.dtype(np.int8): pb.DT_INT8,
    np.dtype(np.int16): pb.DT_INT16,
    np.dtype(np.int32): pb.DT_INT32,
    np.dtype(np.int64): pb.DT_INT64,
    np.dtype(np.uint8): pb.DT_UINT8,
    np.dtype(np.uint16): pb.DT_UINT16,
    np.dtype(np.uint32): pb.DT_UINT32,
    np.dtype(np.uint64): pb.DT_UINT64,
    np.dtype(np.bool_): pb.DT_BOOL,
}
"""numpy's type → TensorFlow's DataType."""
_DTYPES: Mapping[int, "np.dtype[Any]"] = {number: dtype for dtype, number in TYPES.items()}
_FIELDS = {
    pb.DT_FLOAT: "float_val",
    pb.DT_DOUBLE: "double_val",
    pb.DT_HALF: "half_val",
    pb.DT_BFLOAT16: "half_val",
    pb.DT_INT64: "int64_val",
    pb.DT_UINT32: "uint32_val",
    pb.DT_UINT64: "uint64_val",
    pb.DT_BOOL: "bool_val",
    pb.DT_STRING: "string_val",
    **dict.fromkeys((pb.DT_INT8, pb.DT_INT16, pb.DT_INT32, pb.DT_UINT8, pb.DT_UINT16), "int_val"),
}
"""DataType → field of its values."""
_PACKED = ("float_val", "double_val")


def type_name(dtype: "np.dtype[Any]") -> str:
    """Return TensorFlow's name for an array's type: `DT_FLOAT`; strings have the type `O`."""
    name: str = pb.DataType.Name(TYPES.get(dtype, pb.DT_STRING))
    return name


def readable(*, text: bool) -> Mapping[str, str]:
    """Return the name of each type that `read` accepts → the field of its values in JSON."""
    kinds = (pb.DT_STRING,) if text else (*TYPES.values(), pb.DT_BFLOAT16)
    fields = pb.TensorProto.DESCRIPTOR.fields_by_name
    return {pb.DataType.Name(kind): fields[_FIELDS[kind]].json_name for kind in kinds}


def read(
    tensor: pb.TensorProto, *, where: str, text: bool = False, most_repeated: int = LARGE
) -> Array:
    """Return the numbers of a tensor in its shape; with `text`, the strings of a DT_STRING.

    `where` begins an error's message. `most_repeated` is the maximum size, in bytes, of a tensor
    that does not contain each value. The default is what a small request, which is answered in the
    event loop, may contain.

    Raises:
        RequestError: it has another type, or its values do not match type and shape.
    """
    shape = _shape(tensor, where)
    if text is not (tensor.dtype == pb.DT_STRING):
        expected = "text: DT_STRING" if text else "numbers"
        raise RequestError("WRONG_TYPE", f"{where} is {_name(tensor.dtype)}; expected {expected}")
    if not text and tensor.dtype not in _DTYPES and tensor.dtype != pb.DT_BFLOAT16:
        known = ", ".join(readable(text=False))
        raise RequestError(
            "WRONG_TYPE", f"{where} is {_name(tensor.dtype)}; expected numbers: {known}"
        )
    wanted = _FIELDS[tensor.dtype]
    for field, _ in tensor.ListFields():
        if field.name.endswith("_val") and (field.name != wanted or tensor.tensor_content):
            raise RequestError(
                "WRONG_INPUT",
                f"{where}: expected the values of {_name(tensor.dtype)} either in {wanted} or in "
                f"tensor_content, got {field.name}",
            )
    values = _content(tensor, where) if tensor.tensor_content else _values(tensor, wanted, where)
    if not tensor.tensor_content and values.size < prod(shape):
        values = _repeated(values, prod(shape), where, most=most_repeated)
    if values.size != prod(shape):
        raise RequestError("WRONG_SHAPE", f"{where} has shape {shape}, but {values.size} values")
    return values.reshape(shape)


def _repeated(values: Array, count: int, where: str, *, most: int) -> Array:
    """Return `count` values: the given ones, and the last one, or zero, for the others."""
    rest: Any = values[-1] if values.size else np.zeros(1, values.dtype)[0]
    if values.dtype.kind == "O":
        rest = rest or ""
    size = len(rest) if isinstance(rest, str | bytes) else 0
    if count * (values.itemsize + size) > most:
        raise RequestError(
            "WRONG_SHAPE",
            f"{where} has {count} values, but contains only {values.size}; a request whose values "
            f"are repeated may have at most {most} bytes with them: send each value",
        )
    repeated = np.empty(count, dtype=values.dtype)
    repeated[: values.size], repeated[values.size :] = values, rest
    return repeated


def _shape(tensor: pb.TensorProto, where: str) -> list[int]:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise RequestError("WRONG_SHAPE", f"{where}: its shape must be known, with sizes ≥ 0")
    if not is_possible(shape):
        raise RequestError("WRONG_SHAPE", f"{where}: its shape {str(shape)[:80]} is too large")
    return shape


def _name(dtype: int) -> str:
    """Return a DataType's name; the number of one that this server does not know."""
    return pb.DataType.Name(dtype) if dtype in pb.DataType.values() else f"the DataType {dtype}"


def _content(tensor: pb.TensorProto, where: str) -> Array:
    """Return the numbers in `tensor_content`."""
    if tensor.dtype == pb.DT_STRING:
        raise RequestError("WRONG_INPUT", f"{where}: send strings in string_val")
    content, dtype = tensor.tensor_content, _DTYPES.get(tensor.dtype, np.dtype(np.uint16))
    if len(content) % dtype.itemsize:
        raise RequestError(
            "WRONG_SHAPE",
            f"{where}: {len(content)} bytes are not numbers of {_name(tensor.dtype)}",
        )
    values: Array = np.frombuffer(content, dtype=dtype.newbyteorder("<"))
    if dtype.kind == "b" and values.view(np.uint8).max() > 1:
        raise RequestError("WRONG_TYPE", f"{where}: a byte of DT_BOOL must be 0 or 1")
    if tensor.dtype == pb.DT_BFLOAT16:
        return packed.from_brain_floats(values)
    return values.astype(dtype)  # A copy in aligned memory that can be written to.


def _values(tensor: pb.TensorProto, field: str, where: str) -> Array:
    """Return the numbers in the field of the tensor's type."""
    dtype = _DTYPES.get(tensor.dtype)
    if field == "string_val":
        return as_objects([*map(of_bytes, tensor.string_val)])
    if field in _PACKED:
        assert dtype is not None
        only_values = pb.TensorProto()
        only_values.CopyFrom(tensor)
        for name in ("dtype", "tensor_shape", "version_number"):
            only_values.ClearField(name)
        return packed.read(only_values, field, dtype)
    values = np.array(getattr(tensor, field), dtype=np.int64 if field != "uint64_val" else dtype)
    stored = np.dtype(np.uint16) if field == "half_val" else dtype
    assert stored is not None
    check_numbers(values, stored, said=f"{where} is {_name(tensor.dtype)}")
    values = values.astype(stored)
    if tensor.dtype == pb.DT_BFLOAT16:
        return packed.from_brain_floats(values)
    return values.view(np.float16) if field == "half_val" else values


def write(tensor: pb.TensorProto, values: Array, *, by_content: bool = False) -> None:
    """Write an answer's values to an empty tensor: numbers, booleans, or text as `object`.

    `by_content`: numbers as `tensor_content`, as `tf.make_tensor_proto` writes them; otherwise in
    the field of their type, as TF Serving does.
    """
    tensor.dtype = TYPES.get(values.dtype, pb.DT_STRING)
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    field = _FIELDS[tensor.dtype]
    if tensor.dtype == pb.DT_STRING:
        tensor.string_val.extend(texts.to_bytes(values))
    elif by_content:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        tensor.tensor_content = little.tobytes()
    elif field in _PACKED:
        packed.extend(tensor, field, values)
    else:
        numbers: Array = np.ascontiguousarray(values).ravel()
        bits = numbers.view(np.uint16) if field == "half_val" else numbers
        getattr(tensor, field).extend(bits.tolist())


def from_json(document: object, *, where: str) -> pb.TensorProto:
    """Return a tensor in protobuf's JSON: `{"dtype": "DT_FLOAT", "tensorShape": …}`.

    Raises:
        RequestError: it is not one.
    """
    tensor = pb.TensorProto()
    _check_base64(document, where)
    try:
        ParseDict(document, tensor)
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RequestError(
            "WRONG_TYPE",
            f"{where} must be a TensorProto in JSON, with dtype, tensorShape and tensorContent (in "
            f"base64) or the values of its type: {str(error)[:300]}",
        ) from error
    return tensor


def _check_base64(document: object, where: str) -> None:
    """Require that the bytes in a tensor's JSON are base64: protobuf skips other characters.

    Raises:
        RequestError: a text is not.
    """
    if type(document) is not dict:
        return
    for field in ("tensorContent", "tensor_content"):
        if document.get(field) is not None:
            texts.from_base64(document[field], where=f"{where}.{field}")
    for field in ("stringVal", "string_val"):
        strings = document.get(field)
        for text in strings if type(strings) is list else ():
            texts.from_base64(text, where=f"{where}.{field}")


def to_json(values: Array) -> dict[str, Any]:
    """Return numbers as a tensor in protobuf's JSON."""
    tensor = pb.TensorProto()
    write(tensor, values, by_content=True)
    document: dict[str, Any] = MessageToDict(tensor)
    return document
