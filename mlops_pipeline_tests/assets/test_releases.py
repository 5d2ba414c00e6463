"""A release in the UI: what the deployment's page shows, and what a person can do there."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.driver import Releases
from mlops_pipeline.resources.references import decode
from mlops_pipeline_tests.assets.whole_graph import WholeGraph, whole_graph
from mlops_pipeline_tests.toy import REGISTERED, TOY

SPEC = replace(
    TOY,
    release=ReleaseSpec(
        "canary", steps=(Step(20, answers=10), Step(40, answers=10)), keep_seconds=3600.0
    ),
)
OTHER = {"hyperparameters": {"kernel": "other"}}
DEPLOYED = ("toy/deployment", "toy/predictions")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeGraph]:
    """Yield a graph in which the second artifact is being released beside the first one."""
    with whole_graph(tmp_path_factory.mktemp("released")) as made:
        made.use(RegisteredModel(SPEC, REGISTERED.source))
        assert made.materialize().success
        assert made.materialize(toy__model=OTHER).success
        yield made


@pytest.fixture
def graph(begun: WholeGraph) -> Iterator[WholeGraph]:
    """Yield the same graph, and put everything back that the test changes on the platform."""
    store, deployments = begun.platform.store, begun.platform.deployments
    objects, applied = dict(store.objects), dict(deployments.applied)
    yield begun
    store.objects, deployments.applied = objects, applied
    deployments.restart(TOY.server.deployment, namespace=TOY.server.namespace)
    begun.platform.alone.skew = 0.0


def _digests(graph: WholeGraph) -> tuple[str, str]:
    """Return the digests of the stable version and of the candidate."""
    release = Releases(SPEC, graph.platform, by="test").find()
    assert release is not None
    return release.stable, release.candidate


def _deployed(graph: WholeGraph) -> str:
    found = decode(graph.metadata("toy/deployment"))
    assert isinstance(found, DeploymentRef)
    return found.digest


def _lines(graph: WholeGraph) -> list[str]:
    return str(graph.metadata("toy/deployment")["release"].value).split("\n\n")


def _rows(value: Any) -> list[dict[str, Any]]:
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def _count(graph: WholeGraph, predictor: str, answered: int, failed: int = 0) -> None:
    name, namespace = TOY.server.deployment, TOY.server.namespace
    graph.platform.deployments.count(
        name, predictor, namespace=namespace, answered=answered, failed=failed
    )


def _act(graph: WholeGraph, step: str = "") -> dg.ExecuteInProcessResult:
    """Run the job of releases as the Launchpad does; without a step, with its default config."""
    config = {"ops": {"fake__toy__deployment": {"config": {"release": step}}}} if step else None
    return graph.definitions.resolve_job_def("toy_release").execute_in_process(
        instance=graph.instance, run_config=config, raise_on_error=False
    )


def _failure(run: dg.ExecuteInProcessResult) -> str:
    (event,) = run.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def test_a_new_artifact_begins_a_release_and_the_stable_version_stays_the_value(
    graph: WholeGraph,
) -> None:
    stable, candidate = _digests(graph)
    (begun, *_) = graph.instance.fetch_materializations(graph.key("toy/deployment"), 9).records[
        -2::-1
    ]
    made = begun.asset_materialization
    assert made is not None
    ref = decode(graph.metadata("toy/model"))

    assert ref is not None
    assert candidate == ref.digest != stable
    assert str(made.metadata["artifact"].value).endswith(f"/{stable}")
    assert (made.tags or {})["dagster/data_version"] == stable
    assert [made.metadata[key].value for key in ("stable", "candidate", "share")] == [
        stable,
        candidate,
        20,
    ]
    lines = str(made.metadata["release"].value).split("\n\n")
    assert lines[:2] == [
        f"{candidate[:12]} has 20 % of the traffic, {stable[:12]} the rest",
        "step 1 of 2",
    ]
    assert lines[-2].startswith("since 20")
    assert lines[-1].startswith("requested by Dagster run ")
    assert graph.stale() == set()


def test_the_job_takes_the_step_that_follows_and_shows_the_evidence(graph: WholeGraph) -> None:
    _act(graph)  # The first look counts nothing.
    _count(graph, "default", 80, 1)
    _count(graph, "default-candidate", 19)

    run = _act(graph)

    assert run.success
    page = graph.metadata("toy/deployment")
    assert page["share"].value == 40
    errors = _rows(page["release_evidence"])[0]
    assert errors == {
        "step": 1,
        "share": "20 %",
        "metric": "errors",
        "requests": "of clients",
        "candidate": 0,
        "of its answers": 19,
        "stable": 1,
        "of stable answers": 81,
    }
    limits = {row["metric"]: row for row in _rows(page["release_limits"])}
    assert limits["errors"]["limit"] == 0.01
    assert limits["errors"]["rolled back at"] == 200.0
    for name in ("traffic", "e_values", "answers", "latency"):
        assert str(page[f"release_{name}"].value).startswith(f"![{name}](data:image/png;base64,")
        assert len(str(page[f"release_{name}"].value)) < 60_000


def test_a_wait_says_what_is_missing(graph: WholeGraph) -> None:
    stable, candidate = _digests(graph)

    assert _act(graph).success

    page = graph.metadata("toy/deployment")
    assert (page["share"].value, page["change"].value) == (20, "unchanged")
    assert _lines(graph)[:3] == [
        f"{candidate[:12]} has 20 % of the traffic, {stable[:12]} the rest",
        "step 1 of 2",
        "0 of 10 answers",
    ]


def test_a_person_pauses_resumes_promotes_and_takes_it_back_in_the_launchpad(
    graph: WholeGraph,
) -> None:
    stable, candidate = _digests(graph)

    assert _act(graph, "pause").success
    assert "paused" in _lines(graph)
    assert graph.metadata("toy/deployment")["change"].value == "updated"
    assert _act(graph, "resume").success
    assert "paused" not in _lines(graph)

    assert _act(graph, "promote").success
    assert _deployed(graph) == candidate
    page = graph.metadata("toy/deployment")
    assert (page["share"].value, _lines(graph)[0]) == (
        100,
        f"{candidate[:12]} has all traffic",
    )
    assert [row["outcome"] for row in _rows(page["releases"])] == ["promoted"]
    assert "Dagster run" in _rows(page["releases"])[0]["decided by"]

    assert _act(graph, "abort").success
    assert _deployed(graph) == stable
    page = graph.metadata("toy/deployment")
    assert [row["outcome"] for row in _rows(page["releases"])] == ["rolled back", "promoted"]
    assert "stable" not in page
    assert "no release of toy is in progress" in _failure(_act(graph, "promote"))


def test_an_aborted_artifact_is_not_released_again_by_itself(graph: WholeGraph) -> None:
    stable, candidate = _digests(graph)
    assert _act(graph, "abort").success
    assert _deployed(graph) == stable

    failed = graph.materialize(DEPLOYED)

    assert f"the artifact toy {candidate[:12]} is not released again" in _failure(failed)
    assert _deployed(graph) == stable


def test_a_release_can_be_aborted_while_a_layer_is_red_and_the_store_is_away(
    graph: WholeGraph,
) -> None:
    stable, _ = _digests(graph)
    graph.platform.store.silent = {"get", "sizes"}
    graph.platform.store.fail_after = 0
    try:
        run = _act(graph, "abort")
    finally:
        graph.platform.store.silent, graph.platform.store.fail_after = set(), None

    assert _deployed(graph) == stable
    assert not run.success  # The check cannot read the rows that it asks for.
    page = graph.metadata("toy/deployment")
    assert str(page["releases"].value).startswith("could not be read: ")
    assert _lines(graph)[0].startswith("the release of ")

    assert _act(graph).success  # The next look writes the record.
    assert [row["outcome"] for row in _rows(graph.metadata("toy/deployment")["releases"])] == [
        "aborted"
    ]


def test_both_versions_may_answer_the_check_and_the_predictions(graph: WholeGraph) -> None:
    _, candidate = _digests(graph)
    graph.gateway.others = [candidate] * 4

    assert graph.materialize(DEPLOYED).success

    page = graph.metadata("toy/predictions")
    assert page["answers_of_other_version"].value == 3  # The check got the first one.
    assert (page["wrong_digests"].value, page["max_difference"].value) == (0, 0.0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"release": "promote", "unpin": True}, "options of a deployment; give one of them"),
        ({"release": "abort", "artifact": "abc"}, "options of a deployment; give one of them"),
    ],
)
def test_a_release_and_options_of_a_deployment_are_refused_together(
    graph: WholeGraph, config: dict[str, object], said: str
) -> None:
    before = graph.platform.deployments.list()
    assert said in _failure(graph.materialize(DEPLOYED, toy__deployment=config))
    assert graph.platform.deployments.list() == before


def test_a_re_executed_run_does_not_decide_again(graph: WholeGraph) -> None:
    before = graph.platform.deployments.list()
    copy = graph.definitions.resolve_job_def("toy_release").execute_in_process(
        instance=graph.instance,
        run_config={"ops": {"fake__toy__deployment": {"config": {"release": "promote"}}}},
        tags={"dagster/parent_run_id": "0" * 8, "dagster/root_run_id": "0" * 8},
        raise_on_error=False,
    )
    assert "a re-executed run does not repeat `release: promote`" in _failure(copy)
    assert graph.platform.deployments.list() == before
