"""Servers of the embedded platform that are asked one by one, on fakes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.platforms.embedded import asking
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.embedded.servers import Loopback, Servers
from mlops_pipeline.platforms.platform import PredictorCounts
from mlops_pipeline_tests.embedded.rig import predictor
from mlops_pipeline_tests.fakes.predictions import metrics_page
from mlops_pipeline_tests.platforms.embedded.rig import FakeRig, fake_rig_in


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[FakeRig]:
    with fake_rig_in(tmp_path / "s") as rig:
        yield rig


def counts(rig: FakeRig, loopback: Loopback | None = None) -> tuple[PredictorCounts, ...]:
    return asking.counts(route(rig), servers(rig, loopback), lost={})


def route(rig: FakeRig) -> Route:
    (record,) = rig.records.list()
    return record.route


def servers(rig: FakeRig, loopback: Loopback | None = None) -> Servers:
    loopback = loopback or rig.supervisor.loopback
    return Servers(rig.state, rig.settings, rig.supervisor, loopback=loopback, clock=rig.clock)


def showing(rig: FakeRig, page: str | None) -> Loopback:
    """Let whatever listens on a port of a server show this page."""
    return replace(rig.supervisor.loopback, page=lambda _: page)


def test_a_server_that_does_not_run_is_left_out(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one"), replicas=2))
    first, second = sorted(rig.servers())
    rig.supervisor.halt(first)
    (found,) = counts(rig)
    assert [c.server for c in found.servers] == [second]
    (ready,) = rig.deployments.servers("toy", namespace="seldon").values()
    assert len(ready) == 1


def test_a_server_that_was_killed_counts_again_from_zero(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.predict(times=3)
    (before,) = counts(rig)[0].servers
    rig.supervisor.kill(before.server)
    (after,) = counts(rig)[0].servers
    assert (before.answered, after.answered) == (3, 0)
    assert after.started > before.started


def test_a_predictor_without_servers_has_no_counts(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one"), replicas=0))
    assert counts(rig) == (PredictorCounts("default", ()),)
    assert rig.deployments.servers("toy", namespace="seldon") == {"default": ()}


@pytest.mark.parametrize("page", [None, "up 1\n", "<html></html>"])
def test_a_server_of_another_kind_has_no_counts(rig: FakeRig, page: str | None) -> None:
    rig.apply(predictor(rig.publish("one")))
    assert counts(rig, showing(rig, page)) == (PredictorCounts("default", ()),)


def test_a_damaged_page_is_an_error(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    (server,) = rig.servers()
    page = metrics_page(answered=1, started=1.0).replace('failed"} 0.0', "here")
    with pytest.raises(UnavailableError, match=rf"{server}: .*here"):
        counts(rig, showing(rig, page))


def test_another_programs_answers_on_the_port_do_not_count(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    (pid,) = rig.servers().values()
    there = showing(rig, metrics_page(answered=1, started=1.0, more=f"mlops_process_id {pid + 1}"))
    deaf = replace(there, listeners=lambda _: set())
    assert counts(rig, deaf) == (PredictorCounts("default", ()),)
    ((found,),) = [c.servers for c in counts(rig, there)]  # A child of the server's command.
    assert found.answered == 1
    (ready,) = asking.ready(route(rig), servers(rig, deaf)).values()
    assert ready == ()


def test_what_the_gateway_lost_is_told_by_predictor(rig: FakeRig) -> None:
    uri = rig.publish("one")
    rig.apply(predictor(uri, traffic=50), predictor(uri, "canary", traffic=50))
    found = asking.counts(route(rig), servers(rig), lost={"canary": 3})
    assert [(c.predictor, c.lost) for c in found] == [("default", None), ("canary", 3)]
