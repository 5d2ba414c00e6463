"""A rollback in the UI or on the command line pins: later runs leave the artifact in place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.delivery.desired import DesiredState
from mlops_pipeline_tests.assets.whole_graph import WholeGraph, whole_graph
from mlops_pipeline_tests.toy import TOY

pytestmark = pytest.mark.usefixtures("worker_here")
DEPLOYED = ("toy/deployment", "toy/predictions")
OTHER = {"hyperparameters": {"kernel": "other"}}


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[WholeGraph]:
    with whole_graph(tmp_path) as made:
        yield made


def _digest(graph: WholeGraph, name: str) -> str:
    key = "artifact" if name == "toy/deployment" else "uri"
    return str(graph.metadata(name)[key].value).rpartition("/")[2]


def test_a_pinned_artifact_stays_until_somebody_unpins_it(graph: WholeGraph) -> None:
    assert graph.materialize().success
    old = _digest(graph, "toy/model")
    assert graph.materialize(toy__model=OTHER).success
    new = _digest(graph, "toy/model")
    assert _digest(graph, "toy/deployment") == new != old

    assert graph.materialize(DEPLOYED, toy__deployment={"artifact": old[:10]}).success
    assert _digest(graph, "toy/deployment") == old
    assert graph.stale() == set()

    assert graph.materialize(toy__model=OTHER).success
    assert _digest(graph, "toy/deployment") == old
    shown = str(graph.metadata("toy/deployment")["pin"].value)
    assert shown.startswith(f"{old[:12]} is pinned since ")
    assert shown.endswith(f"the newer artifact {new[:12]} waits")
    assert graph.stale() == set()

    assert graph.materialize(DEPLOYED, toy__deployment={"unpin": True}).success
    assert _digest(graph, "toy/deployment") == new
    assert "pin" not in graph.metadata("toy/deployment")
    found = DesiredState(TOY, graph.platform).find()
    assert found is not None
    assert (found.is_pinned, found.by[:12]) == (False, "Dagster run ")


def test_a_rollback_needs_no_record_of_the_model_and_no_green_layer(graph: WholeGraph) -> None:
    assert graph.materialize().success
    old = _digest(graph, "toy/model")
    assert graph.materialize(toy__model=OTHER).success
    for name in ("toy/model", "gateway"):
        graph.instance.wipe_assets([graph.key(name)])
    assert not graph.materialize(DEPLOYED).success
    assert graph.materialize(DEPLOYED, toy__deployment={"artifact": old}).success
    assert _digest(graph, "toy/deployment") == old


def test_an_unknown_artifact_is_refused_and_nothing_changes(graph: WholeGraph) -> None:
    assert graph.materialize().success
    before = graph.platform.deployments.list()
    failed = graph.materialize(DEPLOYED, toy__deployment={"artifact": "abc"})
    (event,) = failed.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert "matches no artifact of toy" in (data.description or "")
    assert graph.platform.deployments.list() == before


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"artifact": "abc", "unpin": True}, "the config has both"),
        ({"accept_refused": True}, "name it with `artifact`"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    graph: WholeGraph, config: dict[str, object], said: str
) -> None:
    assert graph.materialize().success
    failed = graph.materialize(DEPLOYED, toy__deployment=config)
    (event,) = failed.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert said in (data.description or "")
