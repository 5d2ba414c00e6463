"""Embedded deployments on fakes: what each failure and each kill leaves."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    FatalStateError,
    NotFoundError,
    UnavailableError,
    UnknownNameError,
    WaitTimeoutError,
)
from mlops_pipeline.platforms.embedded import deployments
from mlops_pipeline.platforms.embedded.routing import cluster_names
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION, PREDICTOR_ANNOTATION
from mlops_pipeline_tests.embedded.rig import predictor
from mlops_pipeline_tests.platforms.embedded.rig import FakeRig, Killed, fake_rig_in


@pytest.fixture(autouse=True)
def _no_power_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test writes thousands of files, and waiting for the disk takes milliseconds each."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[FakeRig]:
    with fake_rig_in(tmp_path / "s") as rig:
        yield rig


def test_servers_are_started_then_routed_then_the_old_ones_stopped(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    (old,) = rig.servers()
    rig.gateway.published.clear()
    rig.apply(predictor(rig.publish("two", loading=3)))
    (new,) = rig.servers()
    assert (rig.supervisor.started, rig.supervisor.stopped) == ([old, new], [old])
    given = [
        (kind, [[e.program for t in r.targets for e in t.endpoints] for r in routes])
        for kind, routes in rig.gateway.published
    ]
    assert given == [
        ("routes", [[old]]),
        ("clusters", [[new], [old]]),
        ("routes", [[new]]),
        ("clusters", [[new]]),
    ]


def test_a_version_that_does_not_start_changes_nothing(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("good")))
    before = rig.servers()
    with pytest.raises(FatalStateError, match=r"(?s)exit status 3.*changed: model.joblib"):
        rig.apply(predictor(rig.publish("bad", exit=3)))
    with pytest.raises(FatalStateError, match=r"exit status 1"):
        rig.apply(predictor(rig.publish("worse", exit=1, loading=60, lasting=3)))
    assert rig.servers() == before
    assert rig.predict() == ["good"]
    assert rig.apply(predictor("s3://models/toy/good")).action == "unchanged"


def test_a_version_that_is_never_ready_changes_nothing(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("good")))
    before, start = rig.servers(), rig.clock.time
    with pytest.raises(UnavailableError, match="loading the model"):
        rig.apply(predictor(rig.publish("slow", loading=60)))
    assert rig.clock.time - start == pytest.approx(rig.settings.ready_timeout, abs=0.2)
    assert rig.servers() == before
    assert rig.predict() == ["good"]


def test_one_of_two_servers_that_does_not_start_takes_the_other_along(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("good")))
    before = rig.servers()
    with pytest.raises(FatalStateError):
        rig.apply(
            predictor(rig.publish("fine"), traffic=50),
            predictor(rig.publish("bad", exit=4), "other", traffic=50),
        )
    assert rig.servers() == before
    assert rig.predict(times=3) == ["good"] * 3


def test_an_artifact_that_did_not_serve_is_downloaded_again(rig: FakeRig) -> None:
    uri = rig.publish("bad", exit=3)
    with pytest.raises(FatalStateError):
        rig.apply(predictor(uri))
    assert list(rig.state.models.iterdir()) == []
    rig.publish("bad")
    assert rig.apply(predictor(uri)).action == "created"


@pytest.mark.parametrize(
    ("uri", "graph", "message"),
    [
        ("s3://models/toy/nothing", {}, "no objects below s3://models/toy/nothing"),
        ("s3://nowhere/toy/one", {}, "does not exist"),
        ("s3://models/toy/one", {"envSecretRefName": "other"}, "secret other does not exist"),
    ],
)
def test_what_is_not_there_is_named_before_anything_changes(
    rig: FakeRig, uri: str, graph: dict[str, str], message: str
) -> None:
    rig.publish("one")
    with pytest.raises(NotFoundError, match=message):
        rig.apply(predictor(uri, graph=graph))
    assert rig.deployments.find("toy", namespace="seldon") is None
    assert (rig.supervisor.started, rig.gateway.published) == ([], [])


def test_routes_that_the_gateway_refuses_leave_the_version_before(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("good")))
    before = rig.servers()
    rig.gateway.refusal = "no such cluster"
    with pytest.raises(FatalStateError, match="no such cluster"):
        rig.apply(predictor(rig.publish("other")))
    rig.gateway.refusal = ""
    assert rig.servers() == before
    assert rig.predict() == ["good"]
    assert rig.apply(predictor("s3://models/toy/good")).action == "unchanged"


def test_deployments_require_the_gateway(rig: FakeRig) -> None:
    rig.down()
    with pytest.raises(UnavailableError, match="run `mlops-pipeline up gateway`"):
        rig.apply(predictor(rig.publish("one")))
    assert rig.supervisor.started == []


def test_a_replaced_server_answers_the_last_requests(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    (cluster, _) = sorted(cluster_names(rig.gateway.routes), reverse=True)
    rig.gateway.requests[cluster] = 2
    start = rig.clock.time
    rig.clock.steps.append(lambda: _finish(rig, cluster, after=start + 3))
    rig.apply(predictor(rig.publish("two")))
    assert rig.clock.time - start == pytest.approx(3, abs=0.2)
    assert len(rig.servers()) == 1


def _finish(rig: FakeRig, cluster: str, *, after: float) -> None:
    if rig.clock.time >= after:
        rig.gateway.requests[cluster] = 0


def test_a_request_without_an_end_keeps_a_replaced_server_for_the_time_of_draining(
    rig: FakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.gateway.requests.update(dict.fromkeys(cluster_names(rig.gateway.routes), 1))
    start = rig.clock.time
    assert rig.apply(predictor(rig.publish("two"))).action == "updated"
    assert rig.clock.time - start == pytest.approx(rig.settings.drain_timeout, abs=0.2)
    assert len(rig.servers()) == 1
    assert "2 requests; stopping these servers anyway" in caplog.text


def test_deleting_takes_the_route_the_servers_and_the_files(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.apply(predictor(rig.publish("other")), name="other")
    (program,) = rig.servers()
    assert f"==> {program} <==" in rig.deployments.logs("toy", namespace="seldon", lines=5)
    rig.deployments.delete("toy", namespace="seldon")
    assert rig.deployments.status("toy", namespace="seldon") == ()
    assert [route.name for route in rig.gateway.routes] == ["other"]
    assert rig.supervisor.files.names() == [*rig.servers(name="other")]
    assert len(list(rig.state.models.iterdir())) == 1
    with pytest.raises(NotFoundError, match="there is no deployment seldon/toy; there are: seldon"):
        rig.deployments.delete("toy", namespace="seldon")


def test_deleting_takes_what_a_killed_server_has_left(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    (program,) = rig.servers()
    text = rig.supervisor.files.find(program) or ""
    (name,) = re.findall(r"MLOPS_SCRATCH='([^']+)'", text)
    left = rig.state.run / name
    assert f"directory={rig.state.run}" in text
    (left / "component-x").mkdir(parents=True)
    rig.deployments.delete("toy", namespace="seldon")
    assert not left.exists()


def test_nothing_is_deleted_while_its_servers_cannot_be_stopped(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.supervisor.unavailable = "connection refused"
    (status,) = rig.deployments.status("toy", namespace="seldon")
    assert (status.state, status.digest, status.replicas) == ("unsupervised", "one", 1)
    with pytest.raises(UnavailableError, match="deleting toy requires the supervisor"):
        rig.deployments.delete("toy", namespace="seldon")
    assert rig.predict() == ["one"]
    rig.supervisor.unavailable = ""
    rig.deployments.delete("toy", namespace="seldon")
    assert rig.servers() == {}


def test_a_deployment_is_stopped_while_the_platform_is_down(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.down()
    (status,) = rig.deployments.status("toy", namespace="seldon")
    assert (status.state, status.replicas, status.digest) == ("stopped", 0, "")
    rig.up()
    assert rig.apply(predictor(rig.publish("one"))).action == "unchanged"
    assert rig.predict() == ["one"]


def test_a_server_that_starts_again_is_starting_and_one_that_ended_has_failed(
    rig: FakeRig,
) -> None:
    rig.apply(predictor(rig.publish("one", loading=2), replicas=2))
    first, _ = rig.servers()
    rig.supervisor.kill(first)
    (status,) = rig.deployments.status("toy", namespace="seldon")
    assert (status.state, status.replicas) == ("starting", 1)
    assert status.reason.startswith(f"{first}: process")
    rig.supervisor.halt(first)
    (status,) = rig.deployments.status("toy", namespace="seldon")
    assert (status.state, status.reason) == ("failed", f"{first}: its process is not running")


# Kills


def _replace(rig: FakeRig) -> None:
    rig.apply(predictor(rig.publish("two"), replicas=2))


def _split(rig: FakeRig) -> None:
    rig.apply(
        predictor(rig.publish("one"), traffic=50),
        predictor(rig.publish("two"), "canary", traffic=50),
    )


def _delete(rig: FakeRig) -> None:
    rig.deployments.delete("toy", namespace="seldon")


@pytest.mark.parametrize("change", [_replace, _split])
def test_an_apply_killed_at_any_step_is_finished_by_the_next(
    tmp_path: Path, change: Callable[[FakeRig], None]
) -> None:
    for step in _steps():
        with fake_rig_in(tmp_path / str(step)) as rig:
            rig.apply(predictor(rig.publish("one")))
            killed = _is_killed(rig, change, step=step)
            assert set(rig.predict(times=4)) <= {"one", "two"}
            change(rig)
            assert "two" in rig.predict(times=20)
            (record,) = rig.records.list()
            assert rig.servers().keys() == record.programs
            assert set(rig.supervisor.files.names()) == record.programs
            assert rig.apply(predictor("s3://models/toy/one")).action == "updated"
            assert len(list(rig.state.models.iterdir())) == 1
        if not killed:
            return


def test_what_a_killed_apply_started_is_replaced_by_another_version(tmp_path: Path) -> None:
    for step in _steps():
        with fake_rig_in(tmp_path / str(step)) as rig:
            rig.apply(predictor(rig.publish("one")))
            killed = _is_killed(rig, _replace, step=step)
            rig.apply(predictor(rig.publish("three")))
            assert set(rig.predict(times=4)) == {"three"}
            assert len(rig.servers()) == len(rig.supervisor.files.names()) == 1
            assert len(list(rig.state.models.iterdir())) == 1
        if not killed:
            return


def test_a_deletion_killed_at_any_step_is_finished_by_the_next(tmp_path: Path) -> None:
    for step in _steps():
        with fake_rig_in(tmp_path / str(step)) as rig:
            rig.apply(predictor(rig.publish("one")))
            killed = _is_killed(rig, _delete, step=step)
            if killed and rig.servers():
                _delete(rig)
            assert rig.servers() == {}
            assert rig.gateway.routes == ()
            assert rig.supervisor.files.names() == []
            with pytest.raises(UnknownNameError):
                _delete(rig)
        if not killed:
            return


def test_an_apply_killed_between_its_record_and_its_routes_drops_nothing_later(
    tmp_path: Path,
) -> None:
    for step in _steps():
        rig = FakeRig(tmp_path / str(step))
        rig.apply(predictor(rig.publish("one")))
        killed = _is_killed(rig, _replace, step=step)
        _replace(rig)
        assert rig.dropped == []
        if not killed:
            return


def _steps() -> range:
    """More than any change has: each test ends with the first that was not killed."""
    return range(200)


def _is_killed(rig: FakeRig, change: Callable[[FakeRig], None], *, step: int) -> bool:
    """Kill the process that makes the change before its call number `step`; False: it ended."""
    rig.calls_left = step
    try:
        change(rig)
    except Killed:
        return True
    finally:
        rig.calls_left = None
    return False


def test_a_wait_that_runs_out_says_what_was_last_seen(rig: FakeRig) -> None:
    with pytest.raises(WaitTimeoutError) as error:
        rig.apply(predictor(rig.publish("slow", loading=60)))
    said = str(error.value)
    assert said.startswith("timed out after 20 s waiting for the servers of toy/default in seldon;")
    assert said.endswith("see `mlops-pipeline logs toy`")


def test_a_candidate_that_is_promoted_keeps_its_servers(rig: FakeRig) -> None:
    one, two = rig.publish("one"), rig.publish("two")
    stem: dict[str, Any] = {"annotations": {PREDICTOR_ANNOTATION: "default"}}
    rig.apply(predictor(one, traffic=90, **stem), predictor(two, "candidate", traffic=10, **stem))
    servers = set(rig.servers())
    rig.apply(predictor(two, **stem))
    assert len(servers) == 2
    assert set(rig.servers()) < servers
    assert set(rig.predict(times=4)) == {"two"}


def test_an_upgrade_replaces_no_server_until_the_deployment_is_applied_again(
    rig: FakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release continues with the servers that were started before it."""

    def version(digest: str, **more: Any) -> dict[str, Any]:
        annotations = {DIGEST_ANNOTATION: digest, PREDICTOR_ANNOTATION: "default"}
        return {**predictor(f"s3://models/toy/{digest}", **more), "annotations": annotations}

    rig.publish("one")
    rig.publish("two")
    rig.apply(version("one"))
    (stable,) = rig.servers()
    monkeypatch.setattr(deployments, "version", lambda _: "2.0")
    rig.apply(version("one", traffic=90), version("two", name="default-candidate", traffic=10))
    assert stable in rig.servers()
    both = rig.servers()
    monkeypatch.setattr(deployments, "version", lambda _: "3.0")
    rig.apply(version("one", name="default-former", traffic=0), version("two", traffic=100))
    assert rig.servers() == both
    rig.apply(version("one", traffic=100))
    assert list(rig.servers()) == [stable]
    monkeypatch.setattr(deployments, "version", lambda _: "4.0")
    assert rig.apply(version("one", traffic=100)).action == "updated"
    assert stable not in rig.servers()
