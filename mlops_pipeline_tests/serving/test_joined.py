"""Rows of several named inputs: from a dataset and its files to a request."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog import loaded, worker
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    InvalidSpecError,
    ModelSpec,
    ServerSpec,
    Thresholds,
    trained_elsewhere,
)
from mlops_pipeline.clients.prediction import request_for
from mlops_pipeline.delivery.probing import probe
from mlops_pipeline.serving import cells, joined
from mlops_pipeline.serving.artifact import EXAMPLE, Manifest, Tensor, digest_of
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Input, Model, Signature, with_inputs
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.schema import Column, InputColumn, Schema, parse_schema
from mlops_pipeline_tests.serving.at_once import seldon
from mlops_pipeline_tests.serving.everywhere import read, request_of

SCHEMA = Schema.of_inputs(
    InputColumn("image", shape=(2, 2), range=(0.0, 9.0)),
    InputColumn("age", "int", range=(0, 120)),
    InputColumn("word", "string"),
)
GIVEN: dict[str, Any] = {
    "image": np.arange(12.0).reshape(3, 2, 2) / 2,
    "age": np.array([3, 5, 8]),
    "word": ["ab", "ü", ""],
}
X = joined.of_arrays(SCHEMA, GIVEN, where="the rows")


def spec(**fields: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "name": "toy",
        "description": "",
        "framework": "tensorflow",
        "dataset": DatasetSpec(
            lambda _: Dataset(GIVEN, [0, 1, 0], GIVEN, [1, 0, 1]),  # type: ignore[arg-type]
            schema=SCHEMA,
            classes=("no", "yes"),
        ),
        "train": trained_elsewhere,
        "server": ServerSpec("TENSORFLOW_SERVER", deployment="toy", graph="toy"),
        "thresholds": Thresholds(min_accuracy=0.5),
    }
    return ModelSpec(**values | fields)


def as_lists(rows: Any) -> Any:
    return joined.listed(SCHEMA, rows)


def test_rows_survive_every_file(tmp_path: Path) -> None:
    expected = as_lists(X)
    assert expected[1] == {"image": [[2.0, 2.5], [3.0, 3.5]], "age": 5, "word": "ü"}
    assert as_lists(cells.unpack("x", cells.pack("x", X))) == expected
    cells.save(tmp_path / "rows.npy", X)
    assert as_lists(cells.load(tmp_path / "rows.npy")) == expected
    text = json.loads(json.dumps(expected))
    assert as_lists(joined.of_list(SCHEMA, text, where="the example")) == expected
    assert cells.unpack("x", cells.pack("x", X[:0])).shape == (0, 3)
    given = loaded.given(SCHEMA, X)
    assert [given[name].shape for name in SCHEMA.names] == [(3, 2, 2), (3,), (3,)]
    assert given["word"].tolist() == GIVEN["word"]


def test_a_dataset_is_written_described_and_read_back(tmp_path: Path) -> None:
    worker.write_dataset(spec(), None, tmp_path)
    dataset = worker.read_dataset(tmp_path / worker.DATA)
    assert as_lists(dataset.x_train) == as_lists(X)
    profile = json.loads((tmp_path / worker.PROFILE).read_text())["train"]
    assert (profile["shape"], profile["missing"]) == ([3, 3], 0)
    described = json.loads((tmp_path / "description.json").read_text())
    assert "problems" not in described
    features = {row["feature"]: row for row in described["features"]}
    assert features.keys() == {"mean of image", "age", "word"}
    assert features["mean of image"]["min"] == 0.75
    assert (tmp_path / "histograms.png").stat().st_size > 1000


def test_a_holdout_file_has_an_array_for_each_input(tmp_path: Path) -> None:
    file = tmp_path / "holdout.npz"
    np.savez(file, **GIVEN, y=[1, 0, 1], scores=np.ones((3, 2)) / 2)
    worker.write_holdout(spec(), file, tmp_path / "out")
    dataset = worker.read_dataset(tmp_path / "out" / worker.DATA)
    assert as_lists(dataset.x_test) == as_lists(X)
    assert dataset.x_train.shape == (0, 3)
    assert np.load(tmp_path / "out" / worker.SCORES).shape == (3, 2)
    np.savez(file, image=GIVEN["image"], y=[1, 0, 1])
    with pytest.raises(ValueError, match=r"has image, y, but not age, word; .*\(image, age, word"):
        worker.write_holdout(spec(), file, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": np.full((3, 2, 2), 10.0)}, r"row 1, input 'image': expected a number from 0 to"),
        ({"image": np.ones((3, 2))}, r"'image': expected shape \[n, 2, 2\], got \[3, 2\]"),
        ({"image": [[["a", "b"], ["c", "d"]]] * 3}, "'image': expected a number .* array of <U1"),
        ({"age": [1, 2, 121]}, "row 3, input 'age': expected an integer from 0 to 120, got 121"),
        ({"age": [0.5, 1, 2]}, "'age': expected an integer .* got an array of float64"),
        ({"age": [1, 2]}, "different numbers of rows: 3 in 'image', 2 in 'age'"),
        ({"word": [1, 2, 3]}, "'word': expected a string"),
        ({"more": [1, 2, 3]}, "has the inputs .*'more'; expected 'image', 'age', 'word'"),
    ],
)
def test_a_dataset_that_the_schema_does_not_allow_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        joined.of_arrays(SCHEMA, {**GIVEN, **changes}, where="x_train")
    with pytest.raises(TypeError, match="x_train is ndarray; expected a dict of arrays by name"):
        joined.of_arrays(SCHEMA, np.ones((2, 2)), where="x_train")


def test_a_schema_of_inputs_is_part_of_a_manifest_and_its_digest() -> None:
    assert parse_schema(SCHEMA.as_json()) == SCHEMA
    assert cells.tensors_of(SCHEMA)[:2] == (
        Tensor("image", (-1, 2, 2), "FP64"),
        Tensor("age", (-1,), "INT64"),
    )
    # Tables were published without shapes: their digests must not change.
    assert "shape" not in Schema((Column("a"),)).as_json()["columns"][0]
    assert digest_of({"schema": SCHEMA.as_json()}) != digest_of({"schema": None})


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (Schema.of_inputs(InputColumn("a")), "at least two columns"),
        (Schema.of_inputs(InputColumn("a"), InputColumn("y")), "array of a hold-out file"),
        (Schema.of_inputs(InputColumn("a"), InputColumn("b", shape=(0,))), r"has shape=\(0,\)"),
        (Schema.of_inputs(InputColumn("a"), InputColumn("b", nullable=True)), "not nullable"),
        (
            Schema.of_inputs(InputColumn("a"), InputColumn("b", "string", shape=(2,))),
            "but is a string",
        ),
        (Schema((InputColumn("a"), InputColumn("b"))), "form 'inputs' has columns of the type"),
        (Schema((Column("a"), Column("b")), "inputs"), "form 'inputs' has columns of the type"),
    ],
)
def test_a_schema_of_inputs_that_cannot_be_used_is_refused(schema: Schema, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        spec(dataset=replace(spec().dataset, schema=schema, features=0, feature_names=()))


def test_only_tensorflow_takes_several_inputs() -> None:
    server = ServerSpec("SKLEARN_SERVER", deployment="toy", graph="toy")
    with pytest.raises(InvalidSpecError, match="is for a inputs, which a scikit-learn model does"):
        spec(framework="sklearn", server=server)
    with pytest.raises(InvalidSpecError, match="example is set, but the inputs are arrays"):
        spec(example=(1.0,))


def served() -> Model:
    def compute(rows: Any, names: Any) -> list[Any]:
        given = joined.separated(SCHEMA, rows)
        lengths = [len(word) for word in given["word"].tolist()]
        return [given["image"].sum(axis=(1, 2)) * given["age"] + lengths]

    floats, texts = np.dtype(np.float32), np.dtype(object)
    signature = Signature(
        name="serving_default",
        input="inputs",
        row_shape=(3,),
        dtype=texts,
        outputs=("y",),
        default_outputs=("y",),
        compute=compute,
        inputs=(
            Input("image", (2, 2), floats),
            Input("age", (), np.dtype(np.int64)),
            Input("word", (), texts),
        ),
        schema=SCHEMA,
    )
    manifest = with_inputs(Manifest("m", "tensorflow", {}, (), (), schema=SCHEMA), signature)
    return Model("m", manifest, "", {"": signature}, signature, lambda _: signature)


def ask(data: Any) -> Any:
    body = data if isinstance(data, bytes) else json.dumps({"data": data}).encode()
    answer = seldon.predictions(Unit(served(), "image:1"), request_of(json.loads(body)))
    return read(answer)["data"]["ndarray"]


def test_the_client_asks_rows_of_inputs_by_seldon_s_protocol() -> None:
    assert ask(request_for(X)) == [3 * 3 + 2, 11 * 5 + 1, 19 * 8]
    image = [[1.0, 2.0], [3.0, 4.0]]
    named = {"names": ["word", "age", "image"], "ndarray": [["abc", 2, image]]}
    assert ask(named) == [23.0]
    for data, said in (
        ({"ndarray": [[image, 2, "a"], [image, 121, "a"]]}, "row 2, input 'age': expected an int"),
        ({"ndarray": [[image, 2]]}, "the model has several inputs"),
        ({"ndarray": []}, "the batch is empty"),
        ({"names": ["a", "b", "c"], "ndarray": [[image, 2, "a"]]}, "data.names: missing 'image'"),
        ({"names": "abc", "ndarray": [[image, 2, "a"]]}, "data.names: it must be a list"),
    ):
        with pytest.raises(RequestError, match=said):
            ask(data)


def test_a_model_without_a_holdout_set_is_asked_its_example_or_a_guess(tmp_path: Path) -> None:
    assert as_lists(probe(spec(), tmp_path)) == [
        {"image": [[0.0, 0.0], [0.0, 0.0]], "age": 0, "word": ""}
    ]
    (tmp_path / EXAMPLE).write_text(json.dumps(as_lists(X)))
    assert as_lists(probe(spec(), tmp_path)) == as_lists(X[:1])
