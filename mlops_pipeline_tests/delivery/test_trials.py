"""Only rows that are not for the older artifact are no reason to compare on other ones."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    CommandError,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.delivery import trials
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.criteria import NOT_WORSE, model_criteria, own_criteria
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.trials import Trial, compare_with
from mlops_pipeline.serving import cells
from mlops_pipeline.serving.schema import ARRAY, Column, InputColumn, Schema
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY, published_files


class Pair:
    """A new artifact and the older one that it is compared with."""

    def __init__(self, folder: Path, *, schemas: Mapping[str, Schema] | None = None) -> None:
        self._schemas = schemas or {}
        self.platform = FakePlatform()
        self.environment = self.platform.serving_environment
        self.artifacts = ArtifactStore(self.platform.store)
        self.old, self.new = (self._publish(folder / name, name) for name in ("old", "new"))

    def _publish(self, folder: Path, content: str) -> ModelRef:
        manifest, files, evaluation = published_files(folder, content=content)
        if content == "old":  # As a version without tasks published it.
            manifest = replace(manifest, task="")
        manifest = replace(manifest, schema=self._schemas.get(content))
        return self.artifacts.publish(manifest, files=files, evaluation=evaluation)

    def compare(self) -> Trial:
        return compare_with(
            TOY, self.new, self.old, artifacts=self.artifacts, environment=self.environment
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("exit_code", [None, -9, 1, 3, 125, 137])
def test_an_interrupted_trial_gives_no_verdict(pair: Pair, exit_code: int | None) -> None:
    pair.environment.error = CommandError("it was ended after 120 s", exit_code=exit_code)
    with pytest.raises(UnavailableError, match="it was ended after 120 s"):
        pair.compare()
    pair.environment.error = None
    pair.environment.scores = [[float(n < 5), float(n >= 5)] for n in range(10)]
    assert pair.compare().comparison.lost == 0


@pytest.mark.parametrize("exit_code", [None, -9, 1, 5, 124, 137])
def test_nor_is_one_of_the_skew_guard(pair: Pair, exit_code: int | None) -> None:
    judge = Judge(pair.platform, by="a test")
    (skew,) = (c for c in own_criteria(TOY) if c.name.startswith("predicts"))
    pair.environment.error = CommandError("it was ended", exit_code=exit_code)
    with pytest.raises(UnavailableError, match="it was ended"):
        judge.evaluate(skew, pair.new)
    assert judge.log.entries(pair.new) == []
    pair.environment.error = CommandError("it does not load", exit_code=4)
    assert not judge.evaluate(skew, pair.new).passed


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("could not write model.joblib: no space left on device"),
        UnavailableError("the serving image is not on this machine"),
        AccessDeniedError("the object store rejected the keys"),
    ],
)
def test_what_this_machine_lacks_is_no_verdict(pair: Pair, error: PipelineError) -> None:
    judge = Judge(pair.platform, by="a test")
    (skew,) = (c for c in own_criteria(TOY) if c.name.startswith("predicts"))
    pair.environment.error = error
    with pytest.raises(type(error), match=str(error)):
        judge.evaluate(skew, pair.new)
    assert judge.log.entries(pair.new) == []


@pytest.mark.parametrize("exit_code", [4, 6])
def test_one_that_does_not_load_or_refuses_the_rows_is_compared_apart(
    pair: Pair, exit_code: int
) -> None:
    pair.environment.error = CommandError("no such class", exit_code=exit_code)
    seen = pair.compare()
    assert seen.comparison.lost is None
    assert f"{pair.old.digest[:12]} cannot answer the new rows: no such class" in seen.unpaired


def test_one_of_another_framework_is_compared_apart(pair: Pair) -> None:
    server = replace(TOY.server, implementation="TENSORFLOW_SERVER")
    other = replace(TOY, framework="tensorflow", server=server)
    seen = compare_with(
        other, pair.new, pair.old, artifacts=pair.artifacts, environment=pair.environment
    )
    assert "it is a sklearn model" in seen.unpaired
    assert pair.environment.calls == 0


A, B, C = Column("a"), Column("b"), Column("c")


def test_the_older_one_is_asked_with_its_own_order_of_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(
        tmp_path, schemas={"old": Schema((B, A), form=ARRAY), "new": Schema((A, B), form=ARRAY)}
    )
    asked: list[Any] = []

    def predict(model: Path, rows: Path, **_: object) -> list[list[float]]:
        asked.append(cells.load(rows))
        return [[float(n < 5), float(n >= 5)] for n in range(10)]

    monkeypatch.setattr(pair.environment, "predict", predict)
    assert pair.compare().comparison.lost == 0
    assert asked[0].tolist() == [[2.0 * n + 1, 2.0 * n] for n in range(10)]


@pytest.mark.parametrize(
    ("old", "reason"),
    [
        (Schema((A, C), form=ARRAY), "the rows have no column 'c'"),
        (Schema((A, B)), "it takes a row of the form table, the rows are of the form array"),
    ],
)
def test_one_of_other_columns_is_compared_apart(tmp_path: Path, old: Schema, reason: str) -> None:
    pair = Pair(tmp_path, schemas={"old": old, "new": Schema((A, B), form=ARRAY)})
    assert reason in pair.compare().unpaired
    assert pair.environment.calls == 0


def test_inputs_of_other_shapes_are_not_paired() -> None:
    def schema(*sizes: int) -> Schema:
        return Schema.of_inputs(InputColumn("image", shape=sizes), InputColumn("age", "int"))

    assert trials._describe_columns(schema(2, 2), schema(2, 2)) == ""
    assert "'image' has rows of the shape [4], the new rows have the shape [2, 2]" in (
        trials._describe_columns(schema(2, 2), schema(4))
    )


def test_one_that_is_gone_or_damaged_is_not_passed_over(pair: Pair) -> None:
    objects = pair.platform.store.objects
    weights = ("models", f"toy/{pair.old.digest}/model.joblib")
    whole = objects[weights]
    objects[weights] = b"other"
    with pytest.raises(IntegrityError, match=r"changed: model\.joblib"):
        pair.compare()
    objects[weights] = whole
    pair.artifacts.delete(pair.old)
    with pytest.raises(NotFoundError, match="there is no artifact"):
        pair.compare()


def test_the_environments_silence_is_not_a_verdict_on_the_new_one(pair: Pair) -> None:
    judge = Judge(pair.platform, by="a test")
    pair.platform.deployments.apply(
        seldon_deployment(TOY, pair.old, secret=pair.platform.object_store_secret())
    )
    (not_worse,) = (c for c in model_criteria(TOY) if c.name == NOT_WORSE)
    pair.environment.error = CommandError("killed", exit_code=-9)
    with pytest.raises(UnavailableError):
        judge.evaluate(not_worse, pair.new)
    assert judge.log.entries(pair.new) == []
