"""One graph whose every asset was materialized twice, for the tests of what the UI shows."""

from collections.abc import Iterator

import pytest

from mlops_pipeline_tests.assets.whole_graph import WholeGraph, whole_graph
from mlops_pipeline_tests.worker_here import worker_here


@pytest.fixture(scope="session")
def graph_that_is_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeGraph]:
    """Who changes something leaves everything as it should be."""
    with whole_graph(tmp_path_factory.mktemp("graph")) as made:
        with worker_here():
            for _ in range(2):
                run = made.materialize()
                failures = [e.step_failure_data for e in run.get_step_failure_events()]
                assert run.success, failures
                assert made.stale() == set()
        yield made
