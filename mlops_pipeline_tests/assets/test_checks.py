"""A failed blocking check stops what is downstream: in one run, and in later ones."""

from typing import Any

import dagster as dg
import pytest

from mlops_pipeline.assets.checks import Proposition, make_checks, require_passed
from mlops_pipeline.clients.errors import IntegrityError, UnavailableError
from mlops_pipeline.delivery.judging import Verdict

UPSTREAM, DOWNSTREAM = dg.AssetKey(["fake", "up"]), dg.AssetKey(["fake", "down"])


class World:
    """What the checks find: the test changes it between runs."""

    def __init__(self) -> None:
        self.good = True
        self.error: Exception | None = None

    def evaluate(self, _context: Any, _resource: Any, _reference: Any) -> Verdict:
        if self.error is not None:
            raise self.error
        return Verdict(self.good, "as it should be" if self.good else "too bad")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def graph(world: World) -> dg.Definitions:
    propositions = [
        Proposition("is_good", "It is good.", world.evaluate, blocking=True),
        Proposition("is_pretty", "It is pretty.", lambda *_: Verdict(False, "it is not")),
    ]

    @dg.asset(key=UPSTREAM)
    def up() -> None: ...

    @dg.asset(key=DOWNSTREAM, deps=[UPSTREAM])
    def down(context: dg.AssetExecutionContext) -> None:
        require_passed(context.instance, UPSTREAM, propositions)

    return dg.Definitions(
        assets=[up, down],
        asset_checks=[make_checks(UPSTREAM, propositions, takes_reference=False)],
        resources={"platform": dg.ResourceDefinition.none_resource()},
        executor=dg.in_process_executor,
    )


def _materialize(
    graph: dg.Definitions, instance: dg.DagsterInstance, *keys: dg.AssetKey
) -> dg.ExecuteInProcessResult:
    job = graph.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance, asset_selection=list(keys), raise_on_error=False
    )


def _materialized(result: dg.ExecuteInProcessResult) -> set[dg.AssetKey]:
    return {e.asset_key for e in result.get_asset_materialization_events() if e.asset_key}


def test_in_one_run(graph: dg.Definitions, world: World) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert _materialized(_materialize(graph, instance, UPSTREAM, DOWNSTREAM)) == {
            UPSTREAM,
            DOWNSTREAM,
        }
        world.good = False
        result = _materialize(graph, instance, UPSTREAM, DOWNSTREAM)
        assert not result.success
        assert _materialized(result) == {UPSTREAM}


def test_across_runs(graph: dg.Definitions, world: World) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world.good = False
        assert not _materialize(graph, instance, UPSTREAM).success

        result = _materialize(graph, instance, DOWNSTREAM)

        assert not _materialized(result)
        failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
        assert failure is not None
        assert failure.description is not None
        assert "is_good failed (too bad)" in failure.description

        world.good = True
        assert _materialize(graph, instance, UPSTREAM).success
        assert _materialized(_materialize(graph, instance, DOWNSTREAM)) == {DOWNSTREAM}


def test_a_check_of_an_older_materialization_does_not_count(graph: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert _materialize(graph, instance, UPSTREAM).success
        instance.report_runless_asset_event(dg.AssetMaterialization(UPSTREAM))

        result = _materialize(graph, instance, DOWNSTREAM)

        failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
        assert failure is not None
        assert "was not evaluated on the latest materialization" in str(failure.description)


def test_a_check_that_was_never_evaluated_lets_nothing_pass(graph: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert not _materialized(_materialize(graph, instance, DOWNSTREAM))


def test_a_check_that_raises_fails_with_the_reason(graph: dg.Definitions, world: World) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world.error = IntegrityError("model.joblib was changed")
        result = _materialize(graph, instance, UPSTREAM)
        evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert evaluations["is_good"].description == "model.joblib was changed"
        assert not evaluations["is_good"].passed


def test_a_check_without_an_answer_has_no_verdict(graph: dg.Definitions, world: World) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world.error = UnavailableError("the store is down")
        result = _materialize(graph, instance, UPSTREAM, DOWNSTREAM)
        assert "is_good" not in {e.check_name for e in result.get_asset_check_evaluations()}
        assert _materialized(result) == {UPSTREAM}
