"""Deployments as real processes behind the real gateway, with stand-in model servers."""

import os
import signal
import threading
from collections.abc import Iterator

import httpx
import pytest

from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline_tests.command_line import trusting
from mlops_pipeline_tests.embedded.load import Load
from mlops_pipeline_tests.embedded.rig import Rig, deployment, predictor, rig_in

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("deployments") / "a state folder") as rig:
        rig.up()
        yield rig


@pytest.fixture(autouse=True)
def _gone_afterwards(rig: Rig) -> Iterator[None]:
    yield
    for there in rig.platform.deployments.list():
        rig.platform.deployments.delete(there.name, namespace=there.namespace)
    assert len(rig.pids()) == 3


def test_a_deployment_answers_below_its_path_and_says_its_digest(rig: Rig) -> None:
    assert rig.apply(predictor(rig.publish("one"))).action == "created"
    answer = httpx.post(rig.url(), json={})
    assert answer.json()["path"] == "/api/v1.0/predictions"
    assert answer.headers["x-model-digest"] == "one"
    assert httpx.get(rig.url("v2/models/classifier?a=b")).json()["path"].endswith("?a=b")
    (status,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert (status.state, status.digest, status.traffic, status.replicas) == (
        "ready",
        "one",
        100,
        1,
    )
    assert rig.apply(predictor(rig.publish("one"))).action == "unchanged"
    found = rig.platform.deployments.find("toy", namespace="seldon")
    assert found == deployment(predictor("s3://models/toy/one"))


def test_a_server_sees_the_contract_and_no_keys(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.apply(
        predictor(
            rig.publish("one"),
            graph={"parameters": [{"name": "method", "value": 'it\'s; 100% #1 "x"'}]},
        )
    )
    seen = httpx.get(rig.url("environment")).json()
    assert seen["PREDICTIVE_UNIT_ID"] == "classifier"
    assert seen["SELDON_DEPLOYMENT_ID"] == "toy"
    assert seen["PREDICTOR_ID"] == "default"
    assert seen["PREDICTIVE_UNIT_IMAGE"].startswith("mlops-pipeline/serving:")
    assert httpx.Response(200, text=seen["PREDICTIVE_UNIT_PARAMETERS"]).json() == [
        {"name": "method", "value": 'it\'s; 100% #1 "x"', "type": "STRING"}
    ]
    secret = rig.platform.object_store()._credentials.secret_access_key
    assert not [v for v in seen.values() if secret in v or "RCLONE" in v]
    assert not [name for name in seen if name.startswith(("AWS_", "DAGSTER", "MLOPS_HOME"))]


def test_a_shadow_gets_copies_and_answers_nobody(rig: Rig) -> None:
    rig.apply(
        predictor(rig.publish("one")), predictor(rig.publish("two"), "new", shadow=True, traffic=0)
    )
    assert set(rig.predict(times=50)) == {"one"}
    endpoint = rig.platform._deployments._parts.records.list()[0].route.shadows()[0].endpoints[0]

    def describe_unready() -> str | None:
        url = f"http://127.0.0.1:{endpoint.http}/seen"
        seen = httpx.get(url, verify=trusting(url)).json()["seen"]
        return None if seen == 50 else f"{seen} copies"

    wait_until("50 copies", describe_unready, timeout=5)


def test_a_new_version_takes_over_without_a_failed_request(rig: Rig) -> None:
    versions = [f"v{number}" for number in range(9)]
    rig.apply(predictor(rig.publish("v0", thinking=0.02)))
    with Load(rig, clients=8, rate=200) as load:
        for version in versions[1:]:
            change = rig.apply(predictor(rig.publish(version, thinking=0.02)))
            assert change.action == "updated"
            assert set(rig.predict(times=5)) == {version}
    assert load.failures == []
    assert load.digests[0] == "v0"
    assert set(load.digests) == set(versions)
    assert len(load.digests) > 200


def test_scaling_keeps_the_servers_that_run(rig: Rig) -> None:
    uri = rig.publish("one", thinking=0.01)
    rig.apply(predictor(uri))
    first, url = rig.pid("server-"), rig.url()
    with Load(rig, clients=8, rate=200) as load:
        rig.apply(predictor(uri, replicas=3))
        with httpx.Client(verify=trusting(url)) as client:
            answers = [client.post(url, json={}) for _ in range(60)]
        pids = {answer.json()["pid"] for answer in answers}
        assert first in pids
        assert len(pids) == 3
        rig.apply(predictor(uri, replicas=1))
    assert load.failures == []
    assert rig.pid("server-") == first


def test_no_replicas_answer_503_in_a_sentence(rig: Rig) -> None:
    rig.apply(predictor(rig.publish("one"), replicas=0))
    answer = httpx.post(rig.url(), json={})
    assert answer.status_code == 503
    assert "no replicas" in answer.json()["status"]["info"]
    (status,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert status.state == "stopped"


def test_a_killed_server_comes_back_while_the_other_answers(rig: Rig) -> None:
    rig.apply(predictor(rig.publish("one"), replicas=2))
    with Load(rig, clients=8, rate=200) as load:
        pid = httpx.post(rig.url(), json={}).json()["pid"]
        os.kill(pid, signal.SIGKILL)

        def describe_unready() -> str | None:
            (status,) = rig.platform.deployments.status("toy", namespace="seldon")
            return None if status.replicas == 2 and pid not in rig.pids() else status.reason

        wait_until("both servers", describe_unready, timeout=10)
    assert load.failures == []


def test_the_gateway_killed_under_way_knows_its_routes(rig: Rig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.kill("gateway")
    rig.ensure("gateway")
    assert rig.predict() == ["one"]


def test_a_deployment_survives_down_and_up(rig: Rig) -> None:
    rig.apply(predictor(rig.publish("one")))
    rig.platform.down()
    (status,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert (status.state, status.replicas) == ("stopped", 0)
    rig.up()
    assert rig.apply(predictor(rig.publish("one"))).action == "unchanged"
    assert rig.predict() == ["one"]


def test_two_deployments_at_once(rig: Rig) -> None:
    uris = {name: rig.publish(name, loading=0.5) for name in ("a", "b")}
    threads = [
        threading.Thread(target=rig.apply, args=(predictor(uri),), kwargs={"name": name})
        for name, uri in uris.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert rig.predict(name="a") + rig.predict(name="b") == ["a", "b"]
