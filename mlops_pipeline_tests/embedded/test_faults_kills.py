"""SIGKILL for every process below a deployment, and damage to what servers load."""

from collections.abc import Iterator

import psutil
import pytest

from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.layers import Ready
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("kills") / "s") as rig:
        rig.up()
        rig.platform.object_store().put("models", "kept", b"1")
        rig.apply(predictor(rig.publish("one")))
        yield rig


@pytest.mark.parametrize("program", ["server-", "gateway", "object_store"])
def test_a_killed_process_comes_back_by_itself_with_its_data(rig: Rig, program: str) -> None:
    before = rig.kill(program)
    wait_until("its return", lambda: describe_unready(rig), timeout=20)
    assert rig.pid(program) != before
    assert rig.platform.object_store().get("models", "kept") == b"1"
    assert rig.predict() == ["one"]


def test_all_killed_at_once_are_brought_back_by_up(rig: Rig) -> None:
    rig.kill("supervisor")
    for pid in rig.pids():
        psutil.Process(pid).kill()
    wait_until("their end", lambda: str(rig.pids()) if rig.pids() else None, timeout=5)
    assert rig.pids() == []
    rig.up()
    assert rig.apply(predictor("s3://models/toy/one")).action in ("repaired", "unchanged")
    assert rig.predict() == ["one"]
    assert rig.platform.object_store().get("models", "kept") == b"1"


def test_a_program_that_dies_at_once_is_tried_again_after_pauses(rig: Rig) -> None:
    client = rig.platform.layers[0].client  # type: ignore[attr-defined]
    behaviour = next((rig.home / "models").iterdir()) / "behaviour.json"
    whole = behaviour.read_text()
    behaviour.write_text('{"digest": "one", "exit": 5}')
    rig.kill("server-")

    def describe_pause() -> str | None:
        (state,) = [p.state for name, p in client.processes().items() if "server-" in name]
        return None if state == "backoff" else f"it is {state}"

    wait_until("a pause", describe_pause, timeout=10, interval=0.02)
    behaviour.write_text(whole)
    wait_until("its return", lambda: describe_unready(rig), timeout=20)


def describe_unready(rig: Rig) -> str | None:
    states = [layer.observe() for layer in rig.platform.layers]
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    if not all(isinstance(state, Ready) for state in states):
        return str(states)
    return None if server.state == "ready" else server.reason


@pytest.mark.parametrize(
    "times", [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_what_was_stored_is_read_as_soon_as_the_store_is_ready(rig: Rig, times: int) -> None:
    stored = {("models", "kept"): b"a model", ("datasets", "kept"): b"rows"}
    for (bucket, key), content in stored.items():
        rig.platform.object_store().put(bucket, key, content)
    for turn in range(times):
        rig.kill("object_store")
        assert rig.ensure("object_store").action == "repaired"
        once = rig.object_store(attempts=1)
        assert {(b, k): once.get(b, k) for b, k in stored} == stored, turn
        once.put("models", f"after/{turn}", b"")
