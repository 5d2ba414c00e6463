"""What the UI calls "Unsynced", and what it does not."""

import pytest

from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, LayerState
from mlops_pipeline_tests.assets.whole_graph import ALL, WholeGraph

pytestmark = pytest.mark.usefixtures("worker_here")
LAYERS = ALL[:2]


def test_a_look_at_layers_makes_no_model_stale(graph_that_is_up: WholeGraph) -> None:
    """`up MODEL` materializes the layers and one model: the others are as they were."""
    assert graph_that_is_up.materialize(LAYERS).success
    assert graph_that_is_up.stale() == set()

    graph_that_is_up.platform.layers[1].state = Broken("it does not answer")
    assert graph_that_is_up.materialize(LAYERS).success
    assert graph_that_is_up.stale() == set()


@pytest.mark.parametrize("state", [Drifted(("another port",)), Absent()])
def test_an_asset_on_a_changed_layer_is_stale(
    graph_that_is_up: WholeGraph, state: LayerState
) -> None:
    graph_that_is_up.platform.layers[1].state = state
    graph_that_is_up.materialize(LAYERS)
    assert graph_that_is_up.stale() == {"toy/deployment"}
    assert graph_that_is_up.materialize(["toy/deployment"]).success
    assert graph_that_is_up.stale() == set()


def test_an_asset_on_another_artifact_is_stale(graph_that_is_up: WholeGraph) -> None:
    assert graph_that_is_up.materialize(
        ["toy/model"], toy__model={"hyperparameters": {"depth": 4}}
    ).success
    assert graph_that_is_up.stale() == {"toy/deployment"}
    assert graph_that_is_up.materialize(["toy/deployment"]).success
    assert graph_that_is_up.stale() == {"toy/predictions"}
    assert graph_that_is_up.materialize(["toy/predictions"]).success
    assert graph_that_is_up.stale() == set()
