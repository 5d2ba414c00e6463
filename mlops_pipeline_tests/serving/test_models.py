from dataclasses import replace

import grpc
import numpy as np
import pytest

from mlops_pipeline.serving.artifact import BareManifest, Tensor
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.grpc_server import STATUS
from mlops_pipeline.serving.models import conform, predict
from mlops_pipeline.serving.scores import Array, as_scores
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_signature


def test_predicts_the_default_output() -> None:
    ((name, scores),) = predict(toy_signature(), np.ones((2, 4)))
    assert name == "scores"
    assert scores.tolist() == [[4.0, -4.0], [4.0, -4.0]]


def test_predicts_the_requested_outputs_in_their_order() -> None:
    answered = predict(toy_signature(), np.ones((1, 4)), ["label", "scores"])
    assert [name for name, _ in answered] == ["label", "scores"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones(4), "WRONG_SHAPE"),
        (np.ones((1, 5)), "WRONG_SHAPE"),
        (np.ones((1, 4, 1)), "WRONG_SHAPE"),
        (np.float64(1.0), "WRONG_SHAPE"),
        (np.ones((0, 4)), "EMPTY_BATCH"),
        (np.ones(0), "EMPTY_BATCH"),
        (np.full((1, 4), np.nan), "NOT_FINITE"),
        (np.full((1, 4), np.inf), "NOT_FINITE"),
    ],
)
def test_refuses_what_is_not_a_batch_of_rows(values: Array, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        predict(toy_signature(), np.asarray(values))
    assert caught.value.reason == reason
    assert caught.value.status == 400


def test_a_wrong_shape_is_refused_with_the_right_one() -> None:
    with pytest.raises(RequestError, match=r"expected shape \[n, 4\], got \[1, 3\]"):
        predict(toy_signature(), np.ones((1, 3)))


def test_an_unknown_length_takes_any() -> None:
    signature = toy_signature(row_shape=(-1, 2))
    assert conform(signature, np.ones((3, 7, 2))).shape == (3, 7, 2)
    with pytest.raises(RequestError, match=r"expected shape \[n, \*, 2\]"):
        conform(signature, np.ones((3, 7, 3)))


def test_numbers_too_large_for_float32_are_refused() -> None:
    with pytest.raises(RequestError) as caught:
        conform(toy_signature(dtype="float32"), np.full((1, 4), 1e39))
    assert caught.value.reason == "OUT_OF_RANGE"


def test_integers_are_converted() -> None:
    assert conform(toy_signature(dtype="float32"), np.ones((1, 4), np.int64)).dtype == np.float32


@pytest.mark.parametrize(("value", "fits"), [(3.0, True), (3.5, False), (300.0, False)])
def test_an_integer_model_takes_whole_numbers_in_its_range(value: float, fits: bool) -> None:  # noqa: FBT001
    signature = toy_signature(dtype="uint8")
    if fits:
        assert conform(signature, np.full((1, 4), value)).dtype == np.uint8
    else:
        with pytest.raises(RequestError, match="the model expects uint8, but a number is"):
            conform(signature, np.full((1, 4), value))


def test_an_answer_that_is_not_finite_is_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="is not finite"), np.errstate(over="ignore"):
        predict(toy_signature(), np.full((1, 4), 1e308))


def test_a_models_exception_becomes_a_sentence() -> None:
    def fail(rows: Array, names: object) -> list[Array]:
        raise ValueError("cannot\nat all")

    with pytest.raises(RequestError, match=r"the model cannot answer these rows: cannot$"):
        predict(replace(toy_signature(), compute=fail), np.ones((1, 4)))


def test_an_unknown_output_or_signature_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="it has scores, label"):
        predict(toy_signature(), np.ones((1, 4)), ["x"])
    with pytest.raises(RequestError, match="the model has serving_default"):
        toy_model().signature("x")
    model = toy_model()
    assert model.signature("") is model.default


def test_a_model_without_a_manifest_is_described_by_the_signature_of_its_unit() -> None:
    other = replace(toy_signature(dtype="float32", row_shape=(-1, 2)), name="other", input="x")
    model = replace(
        toy_model(),
        manifest=BareManifest("toy", "tensorflow", {}, inputs=(), outputs=()),
        choose=lambda parameters: other if parameters else toy_signature(),
    )
    first = model.for_unit({})
    assert first.manifest.inputs == (Tensor("features", (-1, 4), "FP64"),)
    assert first.for_unit({"a": "b"}).manifest.inputs == (Tensor("x", (-1, -1, 2), "FP32"),)
    assert toy_model().for_unit({}).manifest == toy_manifest()


def test_an_output_is_computed_only_once() -> None:
    with pytest.raises(RequestError, match="only once"):
        predict(toy_signature(), np.ones((1, 4)), ["scores", "label", "scores"])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([np.float64(0.5), np.float32(0.25)], [0.5, 0.25]),
        ([np.longdouble(0.5), 1], [0.5, 1.0]),
        ([np.int64(1), np.uint8(2), 3], [1, 2, 3]),
        ([np.bool_(True), False], [True, False]),
        ([np.str_("low"), "high"], ["low", "high"]),
        ([np.bytes_(b"low"), b"high"], ["low", "high"]),
        ([np.datetime64("2026-01-01"), np.timedelta64(2, "D")], ["2026-01-01", "2 days"]),
        ([np.str_("low"), np.int64(1)], ["low", "1"]),
    ],
)
def test_numpys_scalars_in_an_array_of_objects_are_written(
    values: list[object], wanted: list[object]
) -> None:
    answer = np.empty(len(values), dtype=object)
    answer[:] = values
    assert as_scores(answer, rows=len(values), output="label").tolist() == wanted


def test_an_answer_that_no_protocol_can_write_is_not_the_requests_fault() -> None:
    def answer(rows: Array, names: object) -> list[Array]:
        return [np.array([None] * len(rows))]

    with pytest.raises(RequestError, match="contains values of type NoneType") as caught:
        predict(replace(toy_signature(), compute=answer), np.ones((1, 4)))
    assert (caught.value.reason, caught.value.status) == ("UNWRITABLE", 500)
    assert STATUS[caught.value.status] is grpc.StatusCode.INTERNAL
