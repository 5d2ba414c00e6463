"""A process that exports SavedModels that are odd, serves each by every protocol, and prints how.

`python -m mlops_pipeline_tests.serving.saved_models FOLDER` prints JSON: name → `{"answers":
protocol → answer, "versions": numbers, "outputs": description}`, or `{"refused": sentence}` where
the loader refuses it; and `tensors` → values as TensorFlow and as the server reads them.
"""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving import bare, loading, tensor_proto
from mlops_pipeline.serving import tensorflow_pb2 as tf_pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs_pb
from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.errors import StartError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols import tensorflow, v2
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.schema import Column, InputColumn, Schema
from mlops_pipeline.serving.settings import Place
from mlops_pipeline_tests.serving import at_once
from mlops_pipeline_tests.serving.everywhere import answers, answers_by_name

LONG = 2**53 + 1
ROWS: Mapping[str, tuple[list[Any], str]] = {
    "booleans": ([[True, False], [True, True]], "BOOL"),
    "long integers": ([[LONG, 1], [-LONG, 2]], "INT64"),
    "bytes": ([[[0, 255]], [[1, 2]]], "UINT8"),
    "one row at a time": ([[1.0, 2.0]], "FP32"),
    "unknown length": ([[1.0, 2.0, 3.0]], "FP32"),
}
"""Rows and their datatype in V2, where they are not `USUAL`."""
USUAL = ([[1.0, 2.0], [3.0, 4.5]], "FP32")
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "one of two outputs": {"model_output": "b"},
    "a named signature": {"signature_name": "other"},
    "a refused output": {"model_output": "loss"},
    "a misspelt parameter": {"signature": "other"},
    "a signature that cannot be served": {"signature_name": "single"},
}


LATER: Mapping[str, str] = {"two versions": "several outputs"}
"""Model → the model in the folder of its second version."""


def main(folder: Path) -> None:
    """Export, load and ask every model."""
    import tensorflow as tf

    found: dict[str, Any] = {"tensors": _tensors(tf)}
    models = _models(tf)
    for name, make in models.items():
        where = folder / name
        _export(tf, make(), where / "1")
        if name in LATER:
            _export(tf, models[LATER[name]](), where / "2")
        found[name] = _ask(name, where)
    for name, make in _named_models(tf).items():
        _export(tf, make(), folder / name / "1")
        manifest = bare.describe(folder / name)
        found[name] = _ask_by_name(name, folder / name, replace(manifest, schema=SCHEMAS.get(name)))
    sys.stdout.write(json.dumps(found))


def _tensors(tf: Any) -> dict[str, list[Any]]:
    """Return tensors that TensorFlow writes, as both read them, and ours as TensorFlow reads them.

    Each is a name → [type and values by TensorFlow, by the server].
    """
    arrays = {
        str(dtype): np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype) for dtype in tensor_proto.TYPES
    }
    found: dict[str, list[Any]] = {}
    their_class = type(tf.make_tensor_proto(0))
    for name, array in arrays.items():
        for by_content in (True, False):
            tensor = tf_pb.TensorProto()
            tensor_proto.write(tensor, array, by_content=by_content)
            theirs = their_class.FromString(tensor.SerializeToString())
            key = f"{name} of ours, {by_content=}"
            found[key] = [_shown(tf.make_ndarray(theirs)), _shown(array)]
    bare_zeros = tf.make_tensor_proto(0.0, shape=[2, 3])
    bare_zeros.ClearField("float_val")
    written = {
        **{name: tf.make_tensor_proto(array) for name, array in arrays.items()},
        "repeated": tf.make_tensor_proto(1.5, shape=[2, 3]),
        "bfloat16": tf.make_tensor_proto([1.5, 2.0], dtype=tf.bfloat16),
        "strings": tf.make_tensor_proto([["a", "ü"], ["", "b"]]),
        "repeated strings": tf.make_tensor_proto("a", shape=[3]),
        "no values": bare_zeros,
    }
    for name, tensor in written.items():
        ours = tf_pb.TensorProto.FromString(tensor.SerializeToString())
        text = tensor.dtype == tf_pb.DT_STRING
        values = tensor_proto.read(ours, where=name, text=text)
        wanted = tf.make_ndarray(tensor)
        if text:
            values = np.array([text.encode() for text in values.ravel()]).reshape(values.shape)
            wanted = wanted.astype(bytes)
        elif name == "bfloat16":
            wanted = wanted.astype(np.float32)
        found[name] = [_shown(wanted), _shown(values)]
    return found


def _shown(values: Any) -> list[Any]:
    return [str(values.dtype), repr(values.tolist())]


def _ask(name: str, folder: Path) -> dict[str, Any]:
    rows, datatype = ROWS.get(name, USUAL)
    try:
        manifest = loading.verify(folder, place=Place.POD)
        model = loading.load(folder, manifest, PARAMETERS.get(name, {}), graph_name=None)
    except StartError as error:
        return {"refused": str(error)}
    if model.default.dtype.kind == "O":
        return {"texts": _ask_texts(model)}
    return {
        "answers": answers(model, rows, datatype=datatype, refusals=True),
        "versions": [model.number, *model.unserved],
        "outputs": tensorflow.describe(model, model.default)["outputs"],
    }


def _ask_texts(model: Model) -> dict[str, Any]:
    """Return protocol → answer to one row of text, and of bytes that are not text."""
    binary = base64.b64encode(b"\xff\x00").decode()
    body = json.dumps({"instances": ["ü", {"b64": binary}]}).encode()
    request = tfs_pb.PredictRequest(model_spec={"name": model.name})
    rows = np.array(["ü".encode(), b"\xff\x00"], dtype=object)
    tensor_proto.write(request.inputs[model.default.input], rows)
    message = json.dumps({"binData": binary}).encode()
    predicted = at_once.tensorflow.predict(model, Request(body))
    answered = at_once.seldon.predictions(Unit(model, "image:1"), Request(message))
    lengths = at_once.tensorflow_grpc.predict(model, request).outputs["y"]
    return {
        "TF": json.loads(predicted.body)["predictions"],
        "TF gRPC": list(lengths.int_val),
        "seldon binData": json.loads(answered.body)["data"]["tensor"]["values"],
    }


def _export(tf: Any, signatures: Mapping[str, Any], folder: Path) -> None:
    module = tf.Module()
    concrete = {}
    for name, (function, specs) in signatures.items():
        traced = tf.function(function)
        setattr(module, f"_{name}", traced)
        concrete[name] = traced.get_concrete_function(*specs)
    tf.saved_model.save(module, str(folder), signatures=concrete)


def _models(tf: Any) -> Mapping[str, Callable[[], Mapping[str, Any]]]:
    def spec(*shape: int | None, dtype: Any = tf.float32, name: str = "x") -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    def alone(function: Callable[..., Any], *specs: Any) -> Callable[[], Mapping[str, Any]]:
        return lambda: {"serving_default": (function, specs or (spec(None, 2),))}

    return {
        "text": alone(lambda x: {"label": tf.strings.as_string(tf.argmax(x, 1))}),
        "text that is not ASCII": alone(
            lambda x: {"label": tf.fill(tf.shape(x), tf.constant("ü🌷"))}
        ),
        "complex": alone(lambda x: {"y": tf.complex(x, x)}),
        "a table of logs": alone(lambda x: {"y": tf.math.log(x)}),
        "booleans": alone(lambda x: {"y": tf.logical_not(x)}, spec(None, 2, dtype=tf.bool)),
        "long integers": alone(lambda x: {"y": x}, spec(None, 2, dtype=tf.int64)),
        "bytes": alone(lambda x: {"y": x}, spec(None, 1, 2, dtype=tf.uint8)),
        "brain floats": alone(lambda x: {"y": x * 2}, spec(None, 2, dtype=tf.bfloat16)),
        "half floats": alone(lambda x: {"y": x * 2}, spec(None, 2, dtype=tf.float16)),
        "unknown rank": alone(lambda x: {"y": x * 2}, tf.TensorSpec(None, tf.float32, name="x")),
        "unknown length": alone(lambda x: {"y": tf.cumsum(x, axis=1)}, spec(None, None)),
        "several outputs": alone(lambda x: {"b": x[:, :1], "a": x * 2}),
        "two versions": alone(lambda x: {"y": x}),
        "one of two outputs": alone(lambda x: {"b": x[:, :1], "a": x * 2}),
        "a named signature": lambda: {
            "serving_default": (lambda x: {"y": x}, (spec(None, 2),)),
            "other": (lambda x: {"y": x * 3}, (spec(None, 2),)),
        },
        "one row at a time": alone(lambda x: {"y": x * 2}, spec(1, 2)),
        "no default": lambda: {
            "one": (lambda x: {"y": x}, (spec(None, 2),)),
            "two": (lambda x: {"y": x * 3}, (spec(None, 2),)),
        },
        "a misspelt parameter": alone(lambda x: {"y": x}),
        "a number besides": alone(lambda x: {"loss": tf.reduce_sum(x), "y": x * 2}),
        "a refused output": alone(lambda x: {"loss": tf.reduce_sum(x), "y": x * 2}),
        "a number alone": alone(lambda x: {"loss": tf.reduce_sum(x)}),
        "rows of its own": alone(lambda x: {"y": tf.zeros((5, 2)) + tf.reduce_sum(x)}),
        "columns first": alone(lambda x: {"y": tf.reshape(x, (-1, 1))}),
        "a signature that cannot be served": lambda: {
            "serving_default": (lambda x: {"y": x}, (spec(None, 2),)),
            "single": (lambda x: {"y": x}, (spec(),)),
        },
        "bytes come in": alone(lambda x: {"y": tf.strings.length(x)}, spec(None, dtype=tf.string)),
        "complex comes in": alone(
            lambda x: {"y": tf.math.real(x)}, spec(None, 2, dtype=tf.complex64)
        ),
        "a number comes in": alone(lambda x: {"y": x * 2}, spec()),
        "nothing": lambda: {"serving_default": (lambda x: {}, (spec(None, 2),))},
        "no signature": dict,
        "no name": lambda: {"serving_default": (lambda x: x * 2, (spec(None, 2),))},
        "totals": alone(lambda x: {"total": tf.reduce_sum(x, axis=1)}),
    }


A, B = [[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]
WORDS, TIMES = ["ab", "üü"], [3, 5]
NAMED: Mapping[str, Mapping[str, tuple[str, list[int], list[Any]]]] = {
    "two inputs": {"b": ("FP32", [2, 2], B), "a": ("FP64", [2, 2], A)},
    "words and numbers": {"word": ("BYTES", [2], WORDS), "times": ("INT64", [2, 1], TIMES)},
    "a table": {"word": ("BYTES", [2, 1], WORDS), "times": ("INT64", [2], TIMES)},
    "inputs of any size": {"a": ("FP32", [2, 2], A), "b": ("FP32", [2, 2], B)},
    "text comes in": {"x": ("BYTES", [2], WORDS)},
    "text in a column": {"x": ("BYTES", [2, 1], WORDS)},
}
"""Input → datatype, shape and values of two rows."""
TABLE = Schema((Column("times", "int", range=(0, 9)), Column("word", "string", nullable=True)))
SIZED = Schema.of_inputs(InputColumn("a", shape=(2,)), InputColumn("b", shape=(2,)))
SCHEMAS = {
    "a table": TABLE,
    "text in a column": Schema.text("sentence"),
    "another schema": TABLE,
    "fractions for integers": Schema((Column("times"), Column("word", "string"))),
    "inputs of any size": SIZED,
}


def _named_models(tf: Any) -> Mapping[str, Callable[[], Mapping[str, Any]]]:
    def spec(*shape: int | None, dtype: Any = tf.float32, name: str = "x") -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    def repeated(word: Any, times: Any) -> Any:
        length = tf.strings.length(word, "UTF8_CHAR")
        return {"y": tf.reshape(length, (-1, 1)) * tf.reshape(tf.cast(times, tf.int32), (-1, 1))}

    def lengths(x: Any) -> Any:
        return {"y": tf.reshape(tf.strings.length(x, "UTF8_CHAR"), (-1, 1))}

    def alone(function: Callable[..., Any], *specs: Any) -> Callable[[], Mapping[str, Any]]:
        return lambda: {"serving_default": (function, specs)}

    word = spec(None, dtype=tf.string, name="word")
    pair = (spec(None, 2, name="a"), spec(None, 2, name="b"))
    return {
        "two inputs": alone(lambda a, b: {"y": 10 * a + b}, *pair),
        "words and numbers": alone(repeated, word, spec(None, 1, dtype=tf.int64, name="times")),
        "a table": alone(repeated, word, spec(None, 1, name="times")),
        "fractions for integers": alone(
            repeated, word, spec(None, 1, dtype=tf.int64, name="times")
        ),
        "inputs of any size": alone(
            lambda a, b: {"y": a + b}, spec(None, None, name="a"), spec(None, None, name="b")
        ),
        "another schema": alone(lambda a, b: {"y": a + b}, *pair),
        "text comes in": alone(lengths, spec(None, dtype=tf.string)),
        "text in a column": alone(lengths, spec(None, 1, dtype=tf.string)),
        "ragged": alone(
            lambda x: {"y": x.row_lengths()}, tf.RaggedTensorSpec((None, None), tf.float32)
        ),
    }


def _ask_by_name(name: str, folder: Path, manifest: Manifest) -> dict[str, Any]:
    try:
        model = loading.load(folder, manifest, {}, graph_name="m")
    except StartError as error:
        return {"refused": str(error)}
    answered = answers_by_name(model, NAMED[name])
    kinds = {tensor["name"]: tensor["datatype"] for tensor in v2.metadata(model)["inputs"]}
    sizes = [tensor["shape"] for tensor in v2.metadata(model)["inputs"]]
    batch = model.default.batch.rows
    return {"answers": answered, "inputs": kinds, "shapes": sizes, "batch": batch}


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(Path(sys.argv[1]))
