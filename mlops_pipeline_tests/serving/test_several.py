"""Several named inputs over every protocol that names them, with a model of NumPy."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import inference_pb2 as v2_pb
from mlops_pipeline.serving import loading, openapi
from mlops_pipeline.serving.artifact import BareManifest
from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Input, Model, Signature, with_inputs
from mlops_pipeline.serving.protocols import tensorflow as tensorflow_module
from mlops_pipeline.serving.protocols.row_formats import read_payload
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.several import stacked
from mlops_pipeline_tests.serving.at_once import seldon, tensorflow, v2, v2_grpc
from mlops_pipeline_tests.serving.everywhere import answers_by_name, read, request_of

INPUTS = (
    Input("count", (), np.dtype(np.int64)),
    Input("image", (2, -1), np.dtype(np.float32)),
    Input("word", (1,), np.dtype(object)),
)
CALLS: list[int] = []


def model() -> Model:
    """Return a model that answers the sum of an image, times the count, plus the word's length."""

    def compute(rows: Array, names: Sequence[str]) -> list[Array]:
        count, image, word = stacked(rows, INPUTS)
        assert (count.dtype.name, image.dtype.name, word.shape[1:]) == ("int64", "float32", (1,))
        CALLS.append(len(rows))
        lengths = np.array([len(text) for text in word[:, 0]])
        return [count * image.sum(axis=(1, 2)).astype(np.float64) + lengths]

    signature = Signature(
        name="serving_default",
        input="inputs",
        row_shape=(3,),
        dtype=np.dtype(object),
        outputs=("y",),
        default_outputs=("y",),
        compute=compute,
        is_rowwise=True,
        inputs=INPUTS,
        batch=BatchLimits(),
    )
    manifest = with_inputs(BareManifest("m", "tensorflow", {}, (), ()), signature)
    return Model("m", manifest, "", {"": signature}, signature, lambda _: signature)


MODEL = model()
IMAGES = [[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 1.0]]]
GIVEN: dict[str, tuple[str, list[int], list[Any]]] = {
    "word": ("BYTES", [2], ["ab", "ü"]),
    "image": ("FP32", [2, 2, 2], IMAGES),
    "count": ("INT64", [2, 1], [3, 5]),
}
ANSWER = [32.0, 11.0]
ROW = {"word": "ab", "image": IMAGES[0], "count": 3}


def test_each_protocol_that_names_inputs_answers() -> None:
    given = answers_by_name(MODEL, GIVEN)
    assert given["V2"]["outputs"][0]["data"] == ANSWER
    assert given["TF rows"] == {"predictions": ANSWER}
    assert given["TF columns"] == {"outputs": ANSWER}
    assert given["seldon jsonData"]["jsonData"] == {"predictions": ANSWER}
    assert given["one input less"] == "the inputs: missing 'word'"
    assert given["seldon ndarray"].startswith("the model has several inputs ('count', 'image', ")


def test_v2_over_grpc_answers_raw_and_typed_contents() -> None:
    request = v2_pb.ModelInferRequest(model_name="m")
    raw = v2_pb.ModelInferRequest(model_name="m")
    fields = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}
    for name, (kind, shape, values) in GIVEN.items():
        array = np.array(values, dtype=object if kind == "BYTES" else None).ravel()
        flat = [v.encode() for v in values] if kind == "BYTES" else array.tolist()
        added = request.inputs.add(name=name, datatype=kind, shape=shape)
        getattr(added.contents, fields[kind]).extend(flat)
        raw.inputs.add(name=name, datatype=kind, shape=shape)
        content = b"".join(len(v).to_bytes(4, "little") + v for v in flat if type(v) is bytes)
        dtype = np.float32 if kind == "FP32" else np.int64
        raw.raw_input_contents.append(content or array.astype(dtype).tobytes())
    assert list(v2_grpc.infer(MODEL, request).outputs[0].contents.fp64_contents) == ANSWER
    answer = v2_grpc.infer(MODEL, raw).raw_output_contents[0]
    assert np.frombuffer(answer, np.float64).tolist() == ANSWER


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"instances": [ROW, {**ROW, "x": 1}]}, "instances, row 2: unexpected 'x'"),
        ({"instances": [ROW, [1, 2]]}, "instances, row 2: expected an object with the inputs 'c"),
        ({"instances": [1, 2]}, "row 1: expected an object with the inputs .* got the number 1"),
        ({"instances": []}, "instances: expected an object with the inputs 'count', 'image', 'w"),
        ({"inputs": [1]}, "inputs: expected an object with the inputs 'count', 'image', 'word', g"),
        ({"inputs": {"word": ["a"]}}, "inputs: missing 'count', 'image'"),
        ({"instances": [{**ROW, "count": 1.5}]}, "input 'count': the model expects int64, but a"),
        ({"instances": [{**ROW, "count": "1"}]}, r"instances\.count may contain numbers only"),
        ({"instances": [{**ROW, "word": 5}]}, "input 'word': row 1, column 'word': expected a st"),
        ({"instances": [{**ROW, "image": [1.0]}]}, r"input 'image': expected shape \[n, 2, \*\]"),
        (
            {"inputs": {"word": ["a"], "count": [1, 2], "image": IMAGES}},
            "different numbers of rows: 2 in 'count', 2 in 'image', 1 in 'word'",
        ),
    ],
)
def test_a_wrong_input_is_refused_with_its_name(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        tensorflow.predict(MODEL, request_of(asked))


def test_wrong_tensors_are_refused() -> None:
    tensors = [
        {"name": name, "datatype": kind, "shape": shape, "data": values}
        for name, (kind, shape, values) in GIVEN.items()
    ]
    for inputs, sentence in (
        ([*tensors, tensors[0]], "two inputs have the same name"),
        ([*tensors, {**tensors[0], "name": "x"}], "the inputs: unexpected 'x'"),
        ([], "the inputs: missing 'count', 'image', 'word'"),
    ):
        with pytest.raises(RequestError, match=sentence):
            v2.infer(MODEL, request_of({"inputs": inputs}))


def test_requests_share_a_call_unless_their_lengths_differ() -> None:
    async def work(*asked: object) -> list[Any]:
        shared = replace(MODEL, compute=Batcher(lambda *_: None).compute)
        return await asyncio.gather(
            *[tensorflow_module.predict(shared, request_of({"instances": [row]})) for row in asked]
        )

    CALLS.clear()
    two, longer = {**ROW, "count": 1}, {**ROW, "image": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]}
    answers = asyncio.run(work(two, ROW))
    assert [read(answer)["predictions"] for answer in answers] == [[12.0], [32.0]]
    assert CALLS == [2]
    answers = asyncio.run(work(two, longer))
    assert [read(answer)["predictions"] for answer in answers] == [[12.0], [20.0]]
    assert CALLS == [2, 1, 1], "the call of both fails, and is repeated one by one"


def test_metadata_and_openapi_have_each_input() -> None:
    unit = Unit(MODEL, image="m:1")
    described = {t["name"]: (t["datatype"], t["shape"]) for t in v2.metadata(MODEL)["inputs"]}
    assert described == {
        "count": ("INT64", (-1,)),
        "image": ("FP32", (-1, 2, -1)),
        "word": ("BYTES", (-1, 1)),
    }
    assert [t["name"] for t in seldon.model_metadata(unit)["inputs"]] == list(described)
    signatures = tensorflow.metadata(MODEL)["metadata"]["signature_def"]["signature_def"]
    inputs = next(iter(signatures.values()))["inputs"]
    assert {n: i["dtype"] for n, i in inputs.items()} == {
        "count": "DT_INT64",
        "image": "DT_FLOAT",
        "word": "DT_STRING",
    }
    schemas = openapi.document(unit)["components"]["schemas"]["PredictRequest"]["oneOf"]
    row = schemas[0]["properties"]["instances"]["items"]
    assert row["required"] == list(described)
    assert row["properties"]["word"] == {"type": "string"}


def test_the_warm_up_proves_that_rows_may_share_a_call() -> None:
    assert loading.warm(MODEL).default.batch == BatchLimits()


@pytest.mark.parametrize("kind", ["dataframe_records", "dataframe_split"])
def test_a_data_frame_is_refused_with_the_names_of_the_inputs(kind: str) -> None:
    with pytest.raises(RequestError, match="the model has several inputs"):
        read_payload(MODEL.default, {kind: [ROW]}, None)
