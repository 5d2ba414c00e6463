"""A regression is compared, proved and judged by its own metric."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.assets import predictions
from mlops_pipeline.catalog.spec import ModelSpec, Thresholds
from mlops_pipeline.catalog.tasks import Metric, Regression, Task
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import DIGEST_TAG, Predictions
from mlops_pipeline.delivery import verification
from mlops_pipeline.delivery.artifacts import BUCKET
from mlops_pipeline.delivery.criteria import NOT_WORSE, model_criteria
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.judging import Judge, Verdict
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.delivery.verification import ask_holdout, max_difference
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files

SPEC = replace(
    TOY,
    task=Regression(),
    dataset=replace(TOY.dataset, classes=()),
    thresholds=Thresholds({"rmse": 2.0, "r2": 0.5}),
)
X = np.arange(200.0).reshape(100, 2)
Y = X[:, 0] / 10
RMSE = SPEC.task.metrics[0]
NOISE = np.random.default_rng(7).normal(0, 1, 100)


def _of(predictions: NDArray[Any]) -> NDArray[Any]:
    return predictions.reshape(-1, 1)


class Measured(Task):
    """A regression with other metrics."""

    name = "regression"

    def __init__(self, *metrics: Metric) -> None:
        self.metrics = metrics


class Shop:
    """A platform with artifacts of the regression."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.platform = FakePlatform()
        self.judge = Judge(self.platform, by="a test")

    def publish(self, name: str, predictions: NDArray[Any]) -> ModelRef:
        """Store an artifact that predicts this for the hold-out set."""
        files, evaluation = self.folder / name / "model", self.folder / name / "evaluation"
        for folder in (files, evaluation):
            folder.mkdir(parents=True)
        (files / "model.joblib").write_text(name)
        np.savez(evaluation / "holdout.npz", x=X, y=Y, scores=predictions)
        manifest = Manifest(
            name="toy",
            framework="sklearn",
            task="regression",
            files=hash_files(files),
            inputs=(Tensor("x", (-1, 2), "FP64"),),
            outputs=(Tensor("predict", (-1,), "FP64"),),
            metrics=SPEC.task.measure(Y, predictions),
            evaluation=hash_files(evaluation),
        )
        return self.judge.artifacts.publish(manifest, files=files, evaluation=evaluation)

    def deploy(self, ref: ModelRef, answers: NDArray[Any]) -> None:
        """Deploy an artifact that answers this where it is served."""
        self.platform.deployments.apply(seldon_deployment(SPEC, ref, secret="s"))
        self.platform.serving_environment.scores = answers.tolist()

    def evaluate(self, name: str, ref: ModelRef, spec: ModelSpec = SPEC) -> Verdict:
        (criterion,) = (c for c in model_criteria(spec) if c.name == name)
        return self.judge.evaluate(criterion, ref)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_each_threshold_is_a_check_that_names_its_metric_and_direction(shop: Shop) -> None:
    assert [criterion.name for criterion in model_criteria(SPEC)][:2] == [
        "rmse_at_most_threshold",
        "r2_at_least_threshold",
    ]
    good, bad = shop.publish("good", _of(Y + NOISE)), shop.publish("bad", _of(Y + 9))
    assert shop.evaluate("rmse_at_most_threshold", good).passed
    assert shop.evaluate("r2_at_least_threshold", good).passed
    refused = shop.evaluate("rmse_at_most_threshold", bad)
    assert not refused.passed
    assert refused.description == "the RMSE on the hold-out set is 9, the threshold is 2"
    assert not shop.evaluate("r2_at_least_threshold", bad).passed


def test_a_loss_is_told_from_noise(shop: Shop) -> None:
    old = shop.publish("old", _of(Y + NOISE))
    shop.deploy(old, _of(Y + NOISE))
    as_good = shop.publish("as good", _of(Y + NOISE[::-1] * 1.05))
    verdict = shop.evaluate(NOT_WORSE, as_good)
    assert verdict.passed
    assert "on the same 100 hold-out rows. The rise is 0.0" in verdict.description
    assert "not significant); 0 is allowed" in verdict.description
    worse = shop.publish("worse", _of(Y + 2 * NOISE))
    verdict = shop.evaluate(NOT_WORSE, worse)
    assert not verdict.passed
    assert verdict.metadata["loss"] == pytest.approx(float(np.sqrt((NOISE**2).mean())))
    assert 0 < verdict.metadata["low"] < verdict.metadata["loss"] < verdict.metadata["high"]
    tolerant = replace(SPEC, thresholds=replace(SPEC.thresholds, max_loss=2.0))
    assert shop.evaluate(NOT_WORSE, worse, tolerant).passed
    assert shop.platform.serving_environment.calls == 2  # Once per pair.


def test_an_artifact_of_another_task_is_not_compared(shop: Shop, tmp_path: Path) -> None:
    manifest, files, evaluation = published_files(tmp_path / "older")
    older = shop.judge.artifacts.publish(
        replace(manifest, task=""), files=files, evaluation=evaluation
    )
    shop.deploy(older, _of(Y))
    verdict = shop.evaluate(NOT_WORSE, shop.publish("new", _of(Y)))
    assert not verdict.passed
    assert "it is a model for classification, the new one for regression" in verdict.description
    assert "--accept-worse" in verdict.description


def test_a_damaged_comparison_is_made_again(shop: Shop) -> None:
    shop.deploy(shop.publish("old", _of(Y + NOISE)), _of(Y + NOISE))
    new = shop.publish("new", _of(Y + NOISE))
    assert shop.evaluate(NOT_WORSE, new).passed
    (key,) = (k for k in shop.platform.store.objects if "/beside-" in k[1])
    shop.platform.store.objects[key] = b'{"rows": 3}'
    assert key[0] == BUCKET
    assert shop.evaluate(NOT_WORSE, new).passed
    assert shop.platform.serving_environment.calls == 2


def test_scores_are_compared_relative_to_their_size() -> None:
    assert max_difference([[0.5], [2e5]], [[0.5], [2e5 + 2]]) == pytest.approx(1e-5, rel=1e-4)
    assert max_difference([[0.25, 0.75], [1.0, 0.0]], [[0.5, 0.5], [1.0, 0.0]]) == 0.25
    assert max_difference([[0.0], [0.0]], [[1e-5], [2e-5]]) == 1.0
    assert max_difference([[1e-9], [0.0]], [[0.0], [0.0]]) == 1e-9
    assert max_difference([[0.0]], [[1e-5]], among=[[1e-5], [300.0]]) == 1e-5
    assert max_difference(np.zeros((0, 1)), np.zeros((0, 1))) == 0.0
    assert max_difference([1.0], [[1.0]]) == float("inf")


Answering = Callable[[list[Any]], list[Any]]


def _client(answering: Answering) -> Callable[..., Any]:
    """Return a client of a deployment that answers so, as a server of one output does: flat."""

    class Client(Predictions):
        def __init__(self, url: str, *, trust: str = "") -> None:
            super().__init__(url, self._post_rows)

        def _post_rows(self, payload: bytes) -> HttpAnswer:
            rows = answering(json.loads(payload)["data"]["ndarray"])
            body = {
                "data": {"names": [], "ndarray": rows},
                "meta": {"tags": {DIGEST_TAG: "abc"}},
            }
            return HttpAnswer(200, {}, json.dumps(body).encode())

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            return None

    return Client


def test_flat_answers_are_judged_by_the_metrics(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = shop.publish("model", _of(Y + 1))
    deployment = DeploymentRef("toy-model", "seldon", "http://toy", ModelRef("toy", "", "abc"))
    holdout = shop.judge.artifacts.holdout(ref)
    monkeypatch.setattr(
        verification, "PredictionClient", _client(lambda rows: [r[0] / 10 + 1 for r in rows])
    )
    report = ask_holdout(SPEC, deployment, holdout)
    assert report.max_difference == pytest.approx(0, abs=1e-12)
    assert (report.rows, report.holdout_rows, report.failures) == (100, 100, ())
    assert report.quality.keys() == {"rmse", "r2"}
    assert report.quality["rmse"].value == pytest.approx(1.0)
    assert report.quality["r2"].low < report.quality["r2"].value < report.quality["r2"].high

    monkeypatch.setattr(verification, "PredictionClient", _client(lambda rows: rows))
    wrong = ask_holdout(SPEC, deployment, holdout)
    assert (wrong.max_difference, wrong.quality) == (None, {})


def test_an_artifact_whose_metric_was_measured_in_another_way_is_not_compared(shop: Shop) -> None:
    shop.deploy(shop.publish("old", _of(Y + NOISE)), _of(Y + NOISE))
    new = shop.publish("new", _of(Y + NOISE))

    def scaled(targets: NDArray[Any], predictions: NDArray[Any]) -> float:
        return 2 * RMSE.value(targets, predictions)

    spec = replace(
        SPEC, task=Measured(replace(RMSE, compute=scaled)), thresholds=Thresholds({"rmse": 9.0})
    )
    verdict = shop.evaluate(NOT_WORSE, new, spec)
    assert not verdict.passed
    assert "its RMSE was measured in another way" in verdict.description
    assert "--accept-worse" in verdict.description
    assert shop.evaluate(NOT_WORSE, new).passed


def test_a_metric_that_fails_in_the_comparison_can_be_accepted(shop: Shop) -> None:
    shop.deploy(shop.publish("old", _of(Y + NOISE)), _of(Y + NOISE))

    def fragile(targets: NDArray[Any], predictions: NDArray[Any]) -> float:
        if len(np.unique(targets)) < len(targets):
            raise ArithmeticError("a row occurs twice")
        return RMSE.value(targets, predictions)

    spec = replace(
        SPEC, task=Measured(replace(RMSE, compute=fragile)), thresholds=Thresholds({"rmse": 9.0})
    )
    verdict = shop.evaluate(NOT_WORSE, shop.publish("new", _of(Y)), spec)
    assert not verdict.passed
    assert "ArithmeticError: a row occurs twice" in verdict.description
    assert "--accept-worse" in verdict.description


def _serving(monkeypatch: pytest.MonkeyPatch, answering: Answering) -> DeploymentRef:
    monkeypatch.setattr(verification, "PredictionClient", _client(answering))
    return DeploymentRef("toy-model", "seldon", "http://toy", ModelRef("toy", "", "abc"))


def _never(_targets: NDArray[Any], predictions: NDArray[Any]) -> float:
    assert np.isfinite(predictions).all()
    raise ArithmeticError("it always fails")


@pytest.mark.parametrize(("lost", "says"), [(True, "rows were answered"), (False, "always fails")])
def test_a_metric_that_fails_keeps_what_went_wrong(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,  # noqa: FBT001
    says: str,
) -> None:
    def answer(rows: list[Any]) -> list[Any]:
        if lost:
            raise UnavailableError("the gateway is closed")
        return [row[0] / 10 for row in rows]

    holdout = shop.judge.artifacts.holdout(shop.publish("model", _of(Y)))
    spec = replace(SPEC, task=Measured(replace(RMSE, compute=_never), Regression.metrics[2]))
    report = ask_holdout(spec, _serving(monkeypatch, answer), holdout)
    assert report.quality.keys() == (set() if lost else {"r2"})
    assert report.failed_requests == (5 if lost else 0)
    assert ("the gateway is closed" if lost else "always fails") in report.failures[0]
    assert says in predictions.describe_unmeasured(report)


def test_answers_of_another_shape_are_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    holdout = shop.judge.artifacts.holdout(shop.publish("model", _of(Y)))
    report = ask_holdout(SPEC, _serving(monkeypatch, lambda rows: rows), holdout)
    assert "another shape" in predictions.describe_unmeasured(report)
    whole = replace(report, max_difference=0.0)
    assert "materialize the predictions again" in predictions.describe_unmeasured(whole)


def test_a_metric_that_is_newer_than_the_artifact_is_computed(shop: Shop) -> None:
    ref = shop.publish("older", _of(Y + 1))

    spec = replace(
        SPEC,
        task=Measured(*Regression.metrics, replace(RMSE, name="new_one", title="")),
        thresholds=Thresholds({"new_one": 2.0}),
    )
    verdict = shop.evaluate("new_one_at_most_threshold", ref, spec)
    assert verdict.passed
    assert verdict.description == "the new_one on the hold-out set is 1, the threshold is 2"
    other = shop.evaluate("accuracy_at_least_threshold", ref, TOY)
    assert not other.passed
    assert other.description.startswith("it is a model for regression, which has no accuracy")


def test_a_metric_that_is_undefined_for_the_reference_is_named(shop: Shop) -> None:
    def positive(targets: NDArray[Any], predictions: NDArray[Any]) -> float:
        return RMSE.value(targets, predictions) if predictions.min() >= 0 else np.nan

    spec = replace(
        SPEC, task=Measured(replace(RMSE, compute=positive)), thresholds=Thresholds({"rmse": 9.0})
    )
    shop.deploy(shop.publish("old", _of(Y)), _of(Y - 1))
    verdict = shop.evaluate(NOT_WORSE, shop.publish("new", _of(Y + 1)), spec)
    assert verdict.passed
    assert "is undefined, on the same 100 hold-out rows: there is no loss" in verdict.description
    assert "nan" not in verdict.description
    assert {"loss", "reference_value"}.isdisjoint(verdict.metadata)


def test_the_evidence_of_a_comparison_is_found_by_every_process(shop: Shop) -> None:
    shop.deploy(shop.publish("old", _of(Y + NOISE)), _of(Y + NOISE))
    new = shop.publish("new", _of(Y + NOISE))

    for max_loss in (0.0, 1.0):
        thresholds = Thresholds({"rmse": 2.0}, max_loss=max_loss)
        spec = replace(SPEC, task=Measured(*Regression.metrics), thresholds=thresholds)
        assert shop.evaluate(NOT_WORSE, new, spec).passed
    assert shop.platform.serving_environment.calls == 1
