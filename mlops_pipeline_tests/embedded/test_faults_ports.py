"""A stranger on each of the platform's ports: before the first bring-up, and while it was down."""

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlops_pipeline.clients.ports import is_free
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.layers import Broken, Ready
from mlops_pipeline_tests.embedded.faults import strangers_on
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path / "s") as rig:
        yield rig


def test_other_programs_on_every_preferred_port_are_not_disturbed(rig: Rig) -> None:
    chosen = rig.settings
    inner = chosen.internal_port or 0
    first = (chosen.gateway_port, chosen.object_store_port, inner)
    taken = {*first, inner + 3, chosen.model_port, chosen.model_port + 2}
    with strangers_on(*taken):
        bring_up(rig)
        assert not taken & set(ports(rig).values())
    assert {change.action for change in rig.up().values()} == {"unchanged"}


def test_other_programs_on_every_former_port_are_not_disturbed(rig: Rig) -> None:
    bring_up(rig)
    rig.platform.object_store().put("models", "kept", b"1")
    before = ports(rig)
    rig.platform.down()
    with strangers_on(*before.values()):
        bring_up(rig)
        after = ports(rig)
        assert set(after) == set(before)
        assert not set(after.values()) & set(before.values())
        assert rig.platform.object_store().get("models", "kept") == b"1"
    assert {change.action for change in rig.up().values()} == {"unchanged"}
    assert ports(rig) == after


def test_another_program_that_is_faster_than_a_restart_is_not_disturbed(rig: Rig) -> None:
    bring_up(rig)
    port = ports(rig)["gateway"]
    supervisor, gateway = (psutil.Process(rig.pid(name)) for name in ("supervisor", "gateway"))
    supervisor.suspend()
    try:
        gateway.kill()
        wait_until("its port", lambda: None if is_free(port) else "it is taken", timeout=10)
        with strangers_on(port):
            supervisor.resume()
            assert isinstance(rig.platform.layers[2].observe(), Broken)
            assert rig.ensure("gateway").action == "repaired"
            assert isinstance(rig.platform.layers[2].observe(), Ready)
            assert ports(rig)["gateway"] != port
            assert rig.predict() == ["one"]
    finally:
        supervisor.resume()


def bring_up(rig: Rig) -> None:
    rig.up()
    rig.apply(predictor(rig.publish("one")))
    assert rig.predict() == ["one"]
    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3


def ports(rig: Rig) -> dict[str, int]:
    return dict(json.loads((rig.home / "ports.json").read_text()))
