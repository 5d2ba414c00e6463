"""What happens to programs whose supervisord is killed, and to predictions meanwhile."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients import launcher, running
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.supervisor import UNSUPERVISED
from mlops_pipeline.platforms.layers import Broken, Drifted, Ready, by_name
from mlops_pipeline_tests.embedded.load import Load
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded

PROGRAMS = ("gateway", "object_store", "server-")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("supervisor") / "s") as rig:
        rig.up()
        rig.platform.object_store().put("models", "kept", b"1")
        rig.publish("one")
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Rig:
    """The platform as it is without a fault, whatever the test before did to it."""
    bring_back(shared)
    return shared


def bring_back(rig: Rig) -> None:
    rig.up()
    rig.apply(predictor("s3://models/toy/one"))


def pids(rig: Rig) -> dict[str, int]:
    return {program: rig.pid(program) for program in PROGRAMS}


def launchers(rig: Rig) -> set[int]:
    return set(rig.pids()) & set(running.commanded([launcher.__file__]))


def describe_lack(rig: Rig, *, besides: set[int]) -> str | None:
    count = len(launchers(rig) - besides)
    return None if count == len(PROGRAMS) else f"{count} launchers"


def test_no_prediction_is_lost_to_a_killed_supervisor_and_its_repair(rig: Rig) -> None:
    before = pids(rig)
    with Load(rig, clients=8, rate=200) as load:
        rig.kill("supervisor")
        bring_back(rig)
        wait_until("700 answers", lambda: None if len(load.digests) > 700 else "", timeout=20)
    assert load.failures == []
    assert set(load.digests) == {"one"}
    assert pids(rig) == before
    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3
    assert rig.platform.object_store().get("models", "kept") == b"1"
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert (server.state, server.reason) == ("ready", "")


def test_programs_of_a_killed_supervisor_run_and_are_called_unsupervised(rig: Rig) -> None:
    rig.kill("supervisor")
    states = {layer.name: layer.observe() for layer in rig.platform.layers}
    assert isinstance(states["supervisor"], Broken)
    assert states["gateway"] == states["object_store"] == Drifted((UNSUPERVISED,))
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert (server.digest, server.replicas, server.reason) == ("one", 1, UNSUPERVISED)
    assert server.state == "unsupervised"
    assert "server-seldon.toy.default" in rig.platform.logs("toy", lines=5)
    assert rig.platform.object_store().get("models", "kept") == b"1"


def lose_files(rig: Rig, how: str) -> None:
    """Lose the configuration files of all programs, with their copies."""
    for path in (rig.home / "supervisor/programs").iterdir():
        path.unlink() if how == "removed" else path.write_bytes(b"\0")


def configurations(rig: Rig) -> dict[str, str]:
    return {p.name: p.read_text() for p in (rig.home / "supervisor/programs").glob("*.conf")}


@pytest.mark.parametrize("how", ["removed", pytest.param("damaged", marks=pytest.mark.long)])
def test_programs_whose_files_are_lost_get_them_back_as_they_run(rig: Rig, how: str) -> None:
    before, files = pids(rig), configurations(rig)
    lose_files(rig, how)
    with Load(rig, clients=8, rate=100) as load:
        rig.ensure("supervisor")
        assert configurations(rig) == {}
        for layer in rig.platform.layers[1:]:
            assert layer.observe() == Drifted((UNSUPERVISED,))
        (server,) = rig.platform.deployments.status("toy", namespace="seldon")
        assert (server.state, server.reason) == ("unsupervised", UNSUPERVISED)
        bring_back(rig)
    assert load.failures == []
    assert len(load.digests) > 20
    assert pids(rig) == before
    assert configurations(rig) == files
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert server.state == "ready"


@pytest.mark.parametrize("how", ["damaged", pytest.param("removed", marks=pytest.mark.long)])
def test_programs_whose_files_are_lost_survive_a_new_supervisord(rig: Rig, how: str) -> None:
    before, files = pids(rig), configurations(rig)
    with Load(rig, clients=8, rate=100) as load:
        lose_files(rig, how)
        rig.kill("supervisor")
        bring_back(rig)
    assert load.failures == []
    assert len(load.digests) > 50
    assert pids(rig) == before
    assert configurations(rig) == files
    assert all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers)


def test_a_bootstrap_that_is_lost_is_written_again_and_envoy_goes_on(rig: Rig) -> None:
    before = pids(rig)
    with Load(rig, clients=8, rate=100) as load:
        (rig.home / "gateway/bootstrap.json").unlink()
        assert isinstance(by_name(rig.platform.layers, "gateway").observe(), Drifted)
        rig.up()
    assert load.failures == []
    assert pids(rig) == before
    assert isinstance(by_name(rig.platform.layers, "gateway").observe(), Ready)


def test_a_repair_killed_before_it_starts_supervisord_is_not_taken_for_down(rig: Rig) -> None:
    rig.kill("supervisor")
    (rig.home / "run/supervisord.pid").unlink()
    assert isinstance(rig.platform.layers[0].observe(), Broken)
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert server.state == "unsupervised"
    with pytest.raises(UnavailableError, match="deleting toy requires the supervisor"):
        rig.platform.deployments.delete("toy", namespace="seldon")
    assert rig.predict() == ["one"]
    bring_back(rig)
    before = rig.pid("server-")
    rig.platform.deployments.delete("toy", namespace="seldon")
    assert before not in rig.pids()


def test_a_supervisor_that_hangs_is_asked_once_and_replaced(rig: Rig) -> None:
    before = pids(rig)
    os.kill(rig.pid("supervisor"), signal.SIGSTOP)
    start, platform = time.monotonic(), rig.platform
    states = [layer.observe() for layer in platform.layers]
    (server,) = platform.deployments.status("toy", namespace="seldon")
    assert time.monotonic() - start < 8
    assert isinstance(states[0], Broken)
    assert states[1:] == [Drifted((UNSUPERVISED,))] * 2
    assert server.state == "unsupervised"
    with Load(rig, clients=2, rate=50) as load:
        bring_back(rig)
    assert load.failures == []
    assert len(load.digests) > 20
    assert pids(rig) == before


@pytest.mark.parametrize(
    "program",
    ["object_store", *(pytest.param(p, marks=pytest.mark.long) for p in ("gateway", "server-"))],
)
def test_an_adopted_program_is_restarted_when_it_dies(rig: Rig, program: str) -> None:
    rig.kill("supervisor")
    bring_back(rig)
    waiting = len(launchers(rig))
    before = rig.kill(program)
    wait_until("its return", lambda: None if returned(rig, program, before) else "", timeout=10)
    assert rig.predict() == ["one"]
    assert len(launchers(rig)) == waiting - 1


def returned(rig: Rig, program: str, before: int) -> bool:
    name = next(n for n in rig.platform.layers[0].files.names() if program in n)  # type: ignore[attr-defined]
    process = rig.platform.layers[0].running(name)  # type: ignore[attr-defined]
    layers = all(isinstance(layer.observe(), Ready) for layer in rig.platform.layers)
    (server,) = rig.platform.deployments.status("toy", namespace="seldon")
    return bool(layers and process and process.pid != before and server.state == "ready")


def test_a_second_kill_during_the_repair_and_a_third_leave_one_launcher_each(rig: Rig) -> None:
    before = pids(rig)
    with Load(rig, clients=8, rate=200) as load:
        rig.kill("supervisor")
        rig.ensure("supervisor")
        rig.kill("supervisor")
        bring_back(rig)
        rig.kill("supervisor")
        bring_back(rig)
    assert load.failures == []
    assert len(load.digests) > 200
    assert pids(rig) == before
    assert len(launchers(rig)) == len(PROGRAMS)


def test_a_new_version_replaces_an_adopted_server(rig: Rig) -> None:
    rig.kill("supervisor")
    bring_back(rig)
    before = rig.pid("server-")
    with Load(rig, clients=8, rate=200) as load:
        assert rig.apply(predictor(rig.publish("two"))).action == "updated"
        assert rig.predict() == ["two"]
    assert load.failures == []
    assert set(load.digests) == {"one", "two"}
    assert before not in rig.pids()
    assert len(rig.programs()) == 4


def test_down_ends_adopted_programs(rig: Rig) -> None:
    rig.kill("supervisor")
    bring_back(rig)
    rig.platform.down()
    assert rig.pids() == []


def test_down_after_a_kill_ends_everything(rig: Rig) -> None:
    rig.kill("supervisor")
    rig.platform.down()
    assert rig.pids() == []
    bring_back(rig)
    assert rig.predict() == ["one"]


def test_supervisor_and_gateway_killed_together_come_back(rig: Rig) -> None:
    before = pids(rig)
    rig.kill("gateway")
    rig.kill("supervisor")
    for process in launchers(rig):
        os.kill(process, signal.SIGKILL)
    bring_back(rig)
    assert rig.predict() == ["one"]
    assert pids(rig) == {**before, "gateway": rig.pid("gateway")}
    assert len(rig.programs()) == 4


def test_a_killed_launcher_does_not_end_its_program(rig: Rig) -> None:
    rig.kill("supervisor")
    bring_back(rig)
    before = pids(rig)
    with Load(rig, clients=2, rate=50) as load:
        killed = launchers(rig)
        for process in killed:
            os.kill(process, signal.SIGKILL)
        wait_until("others", lambda: describe_lack(rig, besides=killed), timeout=10)
    assert load.failures == []
    assert len(load.digests) > 20
    assert pids(rig) == before
    rig.platform.down()
    assert rig.pids() == []


def test_the_orphans_of_another_state_folder_are_left_alone(rig: Rig, tmp_path: Path) -> None:
    with rig_in(tmp_path / "other") as other:
        other.up()
        other.apply(predictor(other.publish("other")))
        before = pids(other)
        other.kill("supervisor")
        rig.kill("supervisor")
        bring_back(rig)
        rig.platform.down()
        assert rig.pids() == []
        assert other.predict() == ["other"]
        other.up()
        assert pids(other) == before


def test_programs_of_a_version_without_launchers_are_started_again(rig: Rig) -> None:
    """They hold no lock: a second object store must not start beside them."""
    rig.platform.down()
    for copy in (rig.home / "supervisor/programs").glob(".*.copy"):
        copy.unlink()
    for path in (rig.home / "supervisor/programs").glob("*.conf"):
        *_, name = path.stem.split("/")
        seconds = {"gateway": "5", "object_store": "1"}.get(name, "14")
        path.write_text(
            "".join(
                "command=" + line.partition(f"{name}.log {seconds} ")[2]
                if line.startswith("command=")
                else line
                for line in path.read_text().splitlines(keepends=True)
            )
        )
    rig.ensure("supervisor")
    wait_until("programs", lambda: None if len(rig.pids()) == 4 else "", timeout=10)
    rig.kill("supervisor")
    bring_back(rig)
    assert rig.predict() == ["one"]
    assert len(rig.pids()) == 4
    assert rig.platform.object_store().get("models", "kept") == b"1"


def test_logs_are_written_on_and_rotated_after_a_kill(rig: Rig) -> None:
    log = rig.home / "logs/gateway.log"
    rig.kill("supervisor")
    bring_back(rig)
    with log.open("a") as file:
        file.write("x" * 2_100_000)
    wait_until("a rotation", lambda: None if log.stat().st_size == 0 else "", timeout=12)
    assert Path(f"{log}.1").stat().st_size >= 2_100_000
    assert Path(f"{log}.1").stat().st_mode & 0o777 == 0o600
    assert isinstance(by_name(rig.platform.layers, "gateway").observe(), Ready)
