import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.models import Signature
from mlops_pipeline_tests.serving.at_once import tensorflow
from mlops_pipeline_tests.serving.test_seldon import JSON
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature

MODEL = toy_model()
ROW = [1.0, 2.0, 3.0, 4.0]
SCORES = [10.0, -10.0]


def ask(document: object, *, several: bool = False) -> Any:
    model = toy_model(toy_signature(several=True)) if several else MODEL
    return json.loads(tensorflow.predict(model, Request(json.dumps(document).encode())).body)


@pytest.mark.parametrize("instances", [[ROW, ROW], [{"features": ROW}, {"features": ROW}]])
def test_row_format(instances: object) -> None:
    assert ask({"instances": instances}) == {"predictions": [SCORES, SCORES]}


@pytest.mark.parametrize("inputs", [[ROW], {"features": [ROW]}])
def test_column_format(inputs: object) -> None:
    assert ask({"inputs": inputs, "signature_name": "serving_default"}) == {"outputs": [SCORES]}


def test_several_outputs_are_named() -> None:
    row = {"scores": SCORES, "label": 1}
    assert ask({"instances": [ROW]}, several=True) == {"predictions": [row]}
    columns = {"scores": [SCORES], "label": [1]}
    assert ask({"inputs": [ROW]}, several=True) == {"outputs": columns}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"instances": [ROW], "inputs": [ROW]},
        {"instances": ROW},
        {"instances": [{"x": ROW}]},
        {"instances": [{"features": ROW}, 1]},
        {"instances": [{"features": {"b64": "eA=="}}]},
        {"inputs": {"x": [ROW]}},
        {"inputs": {"features": [ROW], "x": [ROW]}},
        {"instances": [ROW], "signature_name": "x"},
        {"instances": [ROW], "signature_name": 1},
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(document: object) -> None:
    with pytest.raises(RequestError) as caught:
        ask(document)
    answer = tensorflow.error(caught.value)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), JSON))
def test_whatever_is_sent_is_answered_or_refused(document: object) -> None:
    with contextlib.suppress(RequestError):
        ask(document)


def test_status_and_metadata_have_the_numeric_version() -> None:
    (version,) = tensorflow.status(MODEL)["model_version_status"]
    assert version["version"] == str(int(MODEL.digest[:13], 16))
    assert version["state"] == "AVAILABLE"
    metadata = tensorflow.metadata(MODEL)
    assert metadata["model_spec"]["name"] == "classifier"
    definition = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [size["size"] for size in definition["inputs"]["features"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "4"]


def described(*signatures: Signature) -> Any:
    model = replace(MODEL, signatures={one.name: one for one in signatures})
    found = tensorflow.metadata(model)["metadata"]["signature_def"]["signature_def"]
    return {name: definition["outputs"] for name, definition in found.items()}


def test_metadata_have_every_output_that_may_be_asked_for() -> None:
    outputs = described(toy_signature())["serving_default"]
    assert outputs["scores"]["dtype"] == "DT_DOUBLE"
    assert outputs["label"]["tensor_shape"]["unknown_rank"]
    assert set(outputs) == {"scores", "label"}


def test_an_output_of_unknown_rank_is_not_described_by_another_signature() -> None:
    known = {"scores": Tensor("scores", (-1, 2), "FP64")}
    one = replace(toy_signature(), described=known)
    found = described(one, replace(toy_signature(), name="other"))
    assert found["serving_default"]["scores"]["dtype"] == "DT_DOUBLE"
    assert found["other"]["scores"]["dtype"] == "DT_INVALID"
    assert found["other"]["scores"]["tensor_shape"]["unknown_rank"]
