"""In the graph: a model that is only published, and one that is trained twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_pipeline.catalog.registry import Catalog, RegisteredModel
from mlops_pipeline.catalog.spec import trained_elsewhere
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.delivery.criteria import model_criteria
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.offered_files import Offer
from mlops_pipeline.delivery.planning import plan_model
from mlops_pipeline.delivery.publishing import publish
from mlops_pipeline.platforms.layers import Ready
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.assets.test_gates import PLATFORM, Graph, KeptPlatform
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY
from mlops_pipeline_tests.worker_here import worker_here

RIGHT = [[float(n < 5), float(n >= 5)] for n in range(10)]


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    PLATFORM["kept"] = FakePlatform()
    PLATFORM["kept"].serving_environment.scores = RIGHT
    yield PLATFORM["kept"]
    PLATFORM.clear()


def graph_of(model: RegisteredModel, instance: dg.DagsterInstance, folder: Path) -> Graph:
    definitions = make_definitions(
        KeptPlatform(platform="kept", settings={}),
        catalog=Catalog((model,)),
        settings=Settings(home=folder, models=(), datasets={}),
    )
    return Graph(definitions, instance)


def made(graph: Graph, *, ops: dict[str, Any] | None = None) -> str:
    for part in (("object_store",), ("gateway",), ("toy", "dataset")):
        assert graph.materialize(*part) == ""
    return graph.materialize("toy", "model", ops=ops)


@pytest.mark.usefixtures("worker_here")
def test_an_unevaluated_model_is_accepted_in_a_run(platform: FakePlatform, tmp_path: Path) -> None:
    model = RegisteredModel(replace(TOY, train=trained_elsewhere), REGISTERED.source)
    judge = Judge(platform, by="a test")
    files = tmp_path / "files"
    files.mkdir()
    (files / "model.joblib").write_text("weights")
    platform.serving_environment.scores = RIGHT[:1]
    offer = Offer(model, files, "published from a test", is_unevaluated=True)

    def planned() -> str:
        seen = {"object_store": Ready({})}
        steps = plan_model(model, platform=platform, file=None, seen=seen)
        return next(step.action for step in steps if step.asset == "toy/model")

    with dg.DagsterInstance.ephemeral() as instance:
        graph = graph_of(model, instance, tmp_path)
        assert "no artifact of it was published" in made(graph)
        assert planned() == "held"
        ref = publish(offer, judge).ref
        assert planned() == "unevaluated"
        assert "accuracy_at_least_threshold" in graph.materialize("toy", "model")
        accepting = {"fake__toy__model__checks": {"config": {"accept_unevaluated": True}}}
        assert graph.materialize("toy", "model", ops=accepting) == ""
        assert judge.find_unmet(model_criteria(model.spec), ref) == ()
        assert graph.materialize("toy", "model") == ""
        assert planned() == "keep"


def test_a_model_is_trained_twice_if_its_file_says_so(
    platform: FakePlatform, tmp_path: Path
) -> None:
    model = replace(REGISTERED, spec=replace(TOY, trains_reproducibly=True))
    with dg.DagsterInstance.ephemeral() as instance, worker_here(remembers=False):
        assert made(graph_of(model, instance, tmp_path)) == ""
        key = dg.AssetCheckKey(dg.AssetKey(["fake", "toy", "model"]), "trains_reproducibly")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=2)
        event = record.event.dagster_event if record.event else None
        assert event is not None
        found = event.asset_check_evaluation_data
        assert (found.passed, found.blocking) == (True, False)
        assert found.description == "a second training gave the same bytes"
