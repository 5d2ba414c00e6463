"""What the fake supervisor promises, the real one keeps."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.ports import LOOPBACK
from mlops_pipeline.clients.supervisor import SupervisedProcess, SupervisorClient
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, wait_until
from mlops_pipeline.platforms.embedded.interfaces import ProgramSupervisor
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.servers import Loopback
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisor import Supervisor
from mlops_pipeline_tests.command_line import free_ports
from mlops_pipeline_tests.embedded.rig import STAND_IN
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.supervisor import FakeSupervisor


@dataclass
class Place:
    """A supervisor, and what a test does to its programs."""

    state: EmbeddedFolder
    supervisor: ProgramSupervisor
    loopback: Loopback
    clock: Clock
    count: int = 0

    def program(self, **behaviour: Any) -> Program:
        """Return a program with a name and ports of its own."""
        self.count += 1
        folder = self.state.models / f"model-{self.count}"
        folder.mkdir(exist_ok=True)
        (folder / "behaviour.json").write_text(json.dumps({"digest": "one", **behaviour}))
        http, grpc = free_ports(2)
        return Program(
            f"server-{self.count}",
            (*STAND_IN, "--model", str(folder)),
            self.state.run,
            environment={
                "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http),
                "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc),
            },
            final_exit_codes=(2, 3, 4),
        )

    def pid(self, program: Program) -> int:
        process = self.supervisor.running(program.name)
        assert process is not None
        return process.pid

    def wait(self, program: Program, *, timeout: float = 10) -> None:
        """Return when the program is ready."""

        def describe_unready(process: SupervisedProcess) -> str | None:
            assert process.name == program.name
            answer = self.loopback.probe(f"{_url(program)}/v2/health/ready")
            if isinstance(answer, str):
                return answer
            return None if answer.status == 200 else str(answer.status)

        watch = self.supervisor.watch(program.name, describe_unready)
        wait_until(program.name, watch, timeout=timeout, clock=self.clock, interval=0.05)

    def kill(self, program: Program) -> None:
        if isinstance(self.supervisor, FakeSupervisor):
            self.supervisor.kill(program.name)
        else:
            os.kill(self.pid(program), signal.SIGKILL)


def _url(program: Program) -> str:
    return f"http://{LOOPBACK}:{program.environment['PREDICTIVE_UNIT_HTTP_SERVICE_PORT']}"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    state = EmbeddedFolder.at(tmp_path_factory.mktemp("supervisor") / "s")
    supervisor = Supervisor(state, Locks(state.locks, timeout=10), timeout=20)
    supervisor.ensure()
    yield Place(state, supervisor, Loopback(), MONOTONIC)
    supervisor.remove()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.embedded)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "real":
        place: Place = request.getfixturevalue("real")
    else:
        state, clock = EmbeddedFolder.at(tmp_path / "s"), FakeClock()
        state.prepare()
        supervisor = FakeSupervisor(state, clock)
        place = Place(state, supervisor, supervisor.loopback, clock)
    yield place
    place.supervisor.drop(place.supervisor.names())
    assert place.supervisor.names() == set()


def test_a_program_is_started_once(place: Place) -> None:
    program = place.program()
    assert place.supervisor.put(program)
    place.wait(program)
    first = place.pid(program)
    assert not place.supervisor.put(program)
    assert place.pid(program) == first
    assert place.supervisor.names() == {program.name}


def test_a_changed_program_is_replaced(place: Place) -> None:
    program = place.program()
    place.supervisor.put(program)
    place.wait(program)
    first = place.pid(program)
    changed = replace(program, environment={**program.environment, "LIMIT": "1"})
    assert place.supervisor.put(changed)
    place.wait(changed)
    assert place.pid(program) != first
    assert "LIMIT" in (place.supervisor.files.find(program.name) or "")


def test_a_program_answers_on_its_ports(place: Place) -> None:
    program = place.program(digest="two")
    place.supervisor.put(program)
    place.wait(program)
    answer = place.loopback.probe(f"{_url(program)}/metadata")
    assert not isinstance(answer, str)
    assert json.loads(answer.text) == {"versions": ["two"]}
    port = int(_url(program).rpartition(":")[2])
    assert (LOOPBACK, port) in place.loopback.listeners(place.pid(program))
    assert not place.loopback.is_free(port)
    place.supervisor.drop([program.name])
    assert isinstance(place.loopback.probe(f"{_url(program)}/metadata"), str)
    assert place.loopback.is_free(port)


def test_a_program_may_take_its_time(place: Place) -> None:
    program = place.program(loading=1.5)
    place.supervisor.put(program)
    start = place.clock.now()
    place.wait(program)
    assert 0.5 < place.clock.now() - start < 6


@pytest.mark.parametrize(
    "behaviour",
    [
        {"exit": 3},
        {"exit": 1},
        {"exit": 3, "loading": 60, "lasting": 0.5},
        {"exit": 1, "loading": 60, "lasting": 1.5},
        {"exit": 3, "loading": 60, "lasting": 1.5},
    ],
)
def test_a_wait_ends_with_the_program(place: Place, behaviour: Mapping[str, Any]) -> None:
    program = place.program(**behaviour)
    place.supervisor.put(program)
    with pytest.raises(FatalStateError) as error:
        place.wait(program)
    said = str(error.value)
    assert said.startswith(program.name)
    assert f"exit status {behaviour['exit']}" in said
    assert "changed: model.joblib" in said
    assert "changed: model.joblib" in place.supervisor.log(program.name, lines=5)


def test_what_no_restart_can_help_stays_ended_until_it_is_put_again(place: Place) -> None:
    program = place.program(exit=3, loading=60, lasting=1.5)
    place.supervisor.put(program)
    with pytest.raises(FatalStateError):
        place.wait(program)
    place.clock.sleep(1.5)
    assert place.supervisor.running(program.name) is None
    assert place.supervisor.names() == {program.name}
    assert place.supervisor.put(program)
    assert place.supervisor.running(program.name) is not None


def test_a_killed_program_is_started_again(place: Place) -> None:
    program = place.program()
    place.supervisor.put(program)
    place.wait(program)
    place.clock.sleep(1.1)  # What ends sooner is started again after a pause.
    first = place.pid(program)
    assert place.supervisor.pid(program.name) == first
    place.kill(program)

    def describe_unready() -> str | None:
        process = place.supervisor.running(program.name)
        return "it is not back" if process is None or process.pid == first else None

    wait_until("its return", describe_unready, timeout=10, clock=place.clock)
    place.wait(program)
    assert place.supervisor.pid(program.name) == place.pid(program)


def test_a_program_whose_file_is_lost_runs_on_and_gets_another(place: Place) -> None:
    program = place.program()
    place.supervisor.put(program)
    place.wait(program)
    first = place.pid(program)
    place.supervisor.files.remove(program.name)
    process = place.supervisor.running(program.name)
    assert process is not None
    assert process.state == "unsupervised"
    assert place.supervisor.pid(program.name) == first
    assert place.supervisor.put(program)
    assert place.pid(program) == first
    assert place.supervisor.files.has(program.name)


def test_a_dropped_program_is_gone_and_one_that_is_unknown_is_no_failure(place: Place) -> None:
    program = place.program()
    place.supervisor.put(program)
    place.supervisor.require_whole("this")
    place.supervisor.drop([program.name, "nobody"])
    assert place.supervisor.running(program.name) is None
    assert place.supervisor.pid(program.name) is None
    assert place.supervisor.names() == set()
    assert place.supervisor.log("nobody", lines=5) == ""
    watch = place.supervisor.watch(program.name, lambda _: None)
    with pytest.raises(FatalStateError, match="was removed while waiting for it"):
        watch()


@pytest.mark.embedded
def test_a_program_that_restarts_during_a_stop_is_stopped(
    real: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = real.program()
    real.supervisor.put(program)
    real.wait(program)
    asked, stop = list[str](), SupervisorClient.stop

    def stop_later(client: SupervisorClient, name: str) -> None:
        # supervisord has just seen its end, and does not count it as running.
        asked.append(name)
        if len(asked) > 1:
            stop(client, name)

    monkeypatch.setattr(SupervisorClient, "stop", stop_later)
    real.supervisor.drop([program.name])
    assert set(asked) == {program.name}
    assert real.supervisor.running(program.name) is None
