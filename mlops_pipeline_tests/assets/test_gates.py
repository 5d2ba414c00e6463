"""The real graph on a platform in memory: what is red stops what is downstream."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from mlops_pipeline.assets import deployment_checks, failures, layers
from mlops_pipeline.catalog.registry import Catalog
from mlops_pipeline.clients.errors import (
    ConflictError,
    FatalStateError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.delivery.artifacts import BUCKET, ArtifactStore
from mlops_pipeline.delivery.criteria import NOT_WORSE
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import VerdictLog, standing
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.resources.references import encode
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED, TOY, published_files

PLATFORM: dict[str, FakePlatform] = {}

pytestmark = pytest.mark.usefixtures("worker_here")


class KeptPlatform(PlatformResource):
    """Builds the one platform of a test."""

    def build(self) -> FakePlatform:
        return PLATFORM["kept"]


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    PLATFORM["kept"] = FakePlatform()
    rows = np.arange(20, dtype=float).reshape(10, 2)[:, 0]
    PLATFORM["kept"].serving_environment.scores = [[float(v < 10), float(v >= 10)] for v in rows]
    yield PLATFORM["kept"]
    PLATFORM.clear()


@pytest.fixture
def graph(platform: FakePlatform, tmp_path: Path) -> Iterator["Graph"]:
    settings = Settings(home=tmp_path, models=(), datasets={})
    definitions = make_definitions(
        KeptPlatform(platform="kept", settings={}),
        catalog=Catalog((REGISTERED,)),
        settings=settings,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(definitions, instance)


class Graph:
    """Materializes assets one at a time, as people do in the UI."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.job = definitions.resolve_job_def("everything")
        self.instance = instance

    def materialize(
        self, *path: str, ops: dict[str, Any] | None = None, tags: dict[str, str] | None = None
    ) -> str:
        """Materialize one asset; return "" or why it failed."""
        result = self.job.execute_in_process(
            run_config={"ops": ops or {}},
            instance=self.instance,
            tags=tags,
            asset_selection=[dg.AssetKey(["fake", *path])],
            raise_on_error=False,
        )
        failures = [e.step_failure_data for e in result.get_step_failure_events()]
        described = [f.user_failure_data.description for f in failures if f.user_failure_data]
        errors = [str(f.error) for f in failures if f.error]
        return "\n".join([*filter(None, described), *errors])


def _spoil_dataset(platform: FakePlatform, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the profile of the stored snapshot says."""
    for (bucket, key), data in list(platform.store.objects.items()):
        if key.endswith("profile.json"):
            profile = json.loads(data)
            change(profile)
            platform.store.objects[bucket, key] = json.dumps(profile).encode()


def test_red_data_trains_nothing(graph: Graph, platform: FakePlatform) -> None:
    for part in (("object_store",), ("gateway",), ("toy", "dataset")):
        assert graph.materialize(*part) == ""
    spoils: dict[str, Callable[[dict[str, Any]], None]] = {
        "has_expected_schema": lambda p: p["train"].update(shape=[10, 3]),
        "has_no_missing_values": lambda p: p["test"].update(missing=1),
        "has_all_classes": lambda p: p["test"]["rows_per_class"].update(low=0),
    }
    for name, spoil in spoils.items():
        kept = dict(platform.store.objects)
        _spoil_dataset(platform, spoil)
        assert name in graph.materialize("toy", "dataset")

        refused = graph.materialize("toy", "model")

        assert "stopped after fake/toy/dataset" in refused
        assert f"{name} failed" in refused
        platform.store.objects = kept
    assert graph.materialize("toy", "dataset") == ""
    assert graph.materialize("toy", "model") == ""


def _artifact(platform: FakePlatform) -> ModelRef:
    digest = next(
        key.split("/")[1]
        for bucket, key in platform.store.objects
        if bucket == BUCKET and key.endswith("/manifest.json")
    )
    return ModelRef("toy", f"s3://models/toy/{digest}", digest)


def test_a_red_artifact_is_not_deployed(graph: Graph, platform: FakePlatform) -> None:
    for part in (("object_store",), ("gateway",), ("toy", "dataset"), ("toy", "model")):
        assert graph.materialize(*part) == ""
    ref = _artifact(platform)
    key = (BUCKET, f"toy/{ref.digest}/model.joblib")
    good, scores = platform.store.objects[key], platform.serving_environment.scores

    platform.store.objects[key] = b"other"
    assert "matches_its_manifest" in graph.materialize("toy", "model")
    assert "matches_its_manifest failed (" in graph.materialize("toy", "deployment")
    platform.store.objects[key] = good

    _forget_evidence(platform)
    platform.serving_environment.scores = [[0.5, 0.5]] * 10
    assert "predicts_the_same" in graph.materialize("toy", "model")
    assert "predicts_the_same_where_it_is_served failed" in graph.materialize("toy", "deployment")
    platform.serving_environment.scores = scores

    assert not platform.deployments.applied


def _forget_evidence(platform: FakePlatform) -> None:
    for place in [p for p in platform.store.objects if "served-by" in p[1]]:
        del platform.store.objects[place]


def test_a_refused_artifact_is_refused_in_every_instance(
    graph: Graph, platform: FakePlatform, tmp_path: Path
) -> None:
    for part in (("object_store",), ("gateway",), ("toy", "dataset")):
        assert graph.materialize(*part) == ""
    scores = platform.serving_environment.scores
    platform.serving_environment.scores = [[0.5, 0.5]] * 10
    assert "predicts_the_same" in graph.materialize("toy", "model")
    refusal = "predicts_the_same_where_it_is_served failed"

    definitions = make_definitions(
        KeptPlatform(platform="kept", settings={}),
        catalog=Catalog((REGISTERED,)),
        settings=Settings(home=tmp_path, models=(), datasets={}),
    )
    with dg.DagsterInstance.ephemeral() as elsewhere:
        other = Graph(definitions, elsewhere)
        for part in (("object_store",), ("gateway",)):
            assert other.materialize(*part) == ""
        ref = _artifact(platform)
        key = dg.AssetKey(["fake", "toy", "model"])
        elsewhere.report_runless_asset_event(dg.AssetMaterialization(key, metadata=encode(ref)))
        assert refusal in other.materialize("toy", "deployment")

    platform.serving_environment.scores = scores
    platform.serving_environment.name = "another-environment"
    refused = graph.materialize("toy", "deployment")
    assert "predicts_the_same_where_it_is_served was not evaluated on" in refused
    assert "with environment another-environ" in refused
    assert graph.materialize("toy", "model") == ""
    assert _refusals(platform) == ()
    platform.serving_environment.name = "fake-environment"
    assert refusal in graph.materialize("toy", "deployment")


def _refusals(platform: FakePlatform) -> tuple[str, ...]:
    return standing(VerdictLog(platform.store).entries(_artifact(platform))).refused_by


def test_a_worse_artifact_passes_once_when_that_is_accepted(
    graph: Graph, platform: FakePlatform, tmp_path: Path
) -> None:
    manifest, files, evaluation = published_files(tmp_path, content="better")
    better = ArtifactStore(platform.store).publish(manifest, files=files, evaluation=evaluation)
    platform.deployments.apply(seldon_deployment(TOY, better, secret="s"))
    for part in (("object_store",), ("gateway",), ("toy", "dataset")):
        assert graph.materialize(*part) == ""
    weak = {"fake__toy__model": {"config": {"hyperparameters": {"depth": 1}}}}

    assert NOT_WORSE in graph.materialize("toy", "model", ops=weak)

    (found,) = (a.ref for a in ArtifactStore(platform.store).list("toy") if a.ref != better)
    judged = standing(VerdictLog(platform.store).entries(found)).judged[NOT_WORSE]
    assert judged.sentence.startswith(
        f"the accuracy is 0.5000, and that of the deployed {better.digest[:12]} is 1.0000, "
        "on the same 10 hold-out rows: 5 rows became wrong, 0 became right. The drop is 0.5000"
    )
    accepting = {"fake__toy__model__checks": {"config": {"accept_worse": True}}}
    copied = {"dagster/parent_run_id": "the run before"}
    assert NOT_WORSE in graph.materialize("toy", "model", ops=weak | accepting, tags=copied)
    assert NOT_WORSE not in graph.materialize("toy", "model", ops=weak | accepting)
    stands = standing(VerdictLog(platform.store).entries(found))
    assert NOT_WORSE not in stands.refused_by
    assert [(a.kind, list(a.checks)) for a in stands.accepted] == [("worse", [NOT_WORSE])]
    assert NOT_WORSE in graph.materialize("toy", "model", ops=weak)
    assert NOT_WORSE in standing(VerdictLog(platform.store).entries(found)).refused_by


def test_failed_layers_stop_dependent_assets(
    graph: Graph, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert graph.materialize("object_store") == ""
    monkeypatch.setattr(platform.store, "get", lambda *_: b"something else")
    assert "round_trips_an_object" in graph.materialize("object_store")
    assert "round_trips_an_object failed" in graph.materialize("toy", "dataset")
    monkeypatch.undo()

    assert graph.materialize("object_store") == ""
    for part in (("toy", "dataset"), ("toy", "model")):
        assert graph.materialize(*part) == ""
    assert "routes was not evaluated" in graph.materialize("toy", "deployment")
    assert all(p.blocking for p in layers.layer_propositions(platform.layers[1]))


def test_a_layer_is_retried_only_after_a_failure_that_may_pass(
    graph: Graph, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_PAUSE", 0)
    layer = platform.layers[0]
    layer.failures = [UnavailableError("it restarts"), UnavailableError("it restarts")]
    assert graph.materialize("object_store") == ""
    permanent = [
        ConflictError("the volume is somebody else's; delete it"),
        FatalStateError("its pod cannot start"),
        WaitTimeoutError("timed out after 60 s waiting for it"),
    ]
    layer.failures = [*permanent]
    for left, error in zip((2, 1, 0), permanent, strict=True):
        assert graph.materialize("object_store").startswith(str(error))
        assert len(layer.failures) == left
    layer.failures = [UnavailableError("it is gone")] * 4
    assert "it is gone" in graph.materialize("object_store")
    assert len(layer.failures) == 1


def test_predictions_ask_only_a_deployment_that_answers(
    graph: Graph, platform: FakePlatform
) -> None:
    assert "never materialized" in graph.materialize("toy", "predictions")
    assert deployment_checks.ANSWERS.blocking
