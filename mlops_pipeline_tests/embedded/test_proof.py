"""Real processes: a version that is not proved never answers, also where a command is killed."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from mlops_pipeline.clients.errors import ConflictError, FatalStateError, UnavailableError
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.platform import Expected
from mlops_pipeline.platforms.seldon import Predictor
from mlops_pipeline_tests.background import PROCESSES, exit_code_of
from mlops_pipeline_tests.command_line import trusting
from mlops_pipeline_tests.embedded.rig import Rig, deployment, predictor, rig_in

pytestmark = pytest.mark.embedded

_POINTS = (
    (Servers, "start"),
    (Servers, "stop"),
    (EnvoyGateway, "publish"),
    (Records, "save"),
    (Records, "remove"),
)
"""What changes something during an apply. A command is killed before and after each of them."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("proof") / "s") as rig:
        rig.up()
        for digest in ("one", "two"):
            rig.publish(digest)
        yield rig


class Answering:
    """A proof that asks each server, and the gateway; it finds `refused` wrong."""

    def __init__(self, rig: Rig, digest: str, *, refused: str = "") -> None:
        self.asked: list[str] = []
        self._rig = rig
        self._digest = digest
        self._refused = refused

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        told: dict[str, Any] = {"timeout": 10, "verify": trusting(server.url)}
        answer = httpx.post(server.url, json={}, **told).json()["digest"]
        self.asked.append(f"{predictor.name} {answer}")
        if self._refused == "alone" or answer != self._digest:
            raise FatalStateError("it answers other scores")

    def exposed(self) -> None:
        (digest,) = self._rig.predict()
        self.asked.append(f"gateway {digest}")
        if self._refused == "exposed" or digest != self._digest:
            raise UnavailableError("the gateway answers 503")


def apply(rig: Rig, digest: str, *, refused: str = "", **more: Any) -> Answering:
    proof = Answering(rig, digest, refused=refused)
    wanted = deployment(predictor(f"s3://models/toy/{digest}", **more))
    rig.platform.deployments.apply(wanted, proof=proof)
    return proof


@contextmanager
def load(rig: Rig, *, pause: float = 0.005) -> Iterator[list[str]]:
    """Ask all the time, and collect the digests that answer, or what failed.

    `pause` is how many seconds pass between two requests: a process that asks without one takes a
    processor for itself.
    """
    answers: list[str] = []
    ends = threading.Event()
    url = rig.url()

    def ask() -> None:
        with httpx.Client(timeout=20, verify=trusting(url)) as client:
            while not ends.wait(pause):
                answer = client.post(url, json={})
                is_one = answer.status_code == 200
                answers.append(answer.json()["digest"] if is_one else str(answer.status_code))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ends.set()
        thread.join()


def test_each_server_is_asked_alone_before_anybody_else_asks_it(rig: Rig) -> None:
    with load(rig) as answers:
        assert apply(rig, "one", replicas=2).asked == ["default one"] * 2 + ["gateway one"]
    assert set(answers) <= {"404", "one"}
    assert apply(rig, "one", replicas=2).asked == ["gateway one"]
    assert apply(rig, "one", replicas=3).asked == ["gateway one"], "a version is proved once"


def test_what_is_not_proved_alone_never_answers(rig: Rig) -> None:
    apply(rig, "one")
    programs = rig.pids()
    with load(rig) as answers, pytest.raises(FatalStateError, match="other scores"):
        apply(rig, "two", refused="alone")
    assert set(answers) == {"one"}
    assert rig.pids() == programs
    found = rig.platform.deployments.find("toy", namespace="seldon")
    assert found == deployment(predictor("s3://models/toy/one"))


def test_traffic_goes_back_without_a_lost_request(rig: Rig) -> None:
    apply(rig, "one")
    with load(rig) as answers, pytest.raises(UnavailableError, match="503"):
        apply(rig, "two", refused="exposed")
    assert set(answers) == {"one", "two"}
    assert answers[-1] == "one"
    assert set(rig.predict(times=10)) == {"one"}


def test_a_first_version_that_is_not_proved_leaves_nothing(rig: Rig) -> None:
    apply(rig, "one")
    rig.platform.deployments.delete("toy", namespace="seldon")
    for refused in ("alone", "exposed"):
        with pytest.raises((FatalStateError, UnavailableError)):
            apply(rig, "two", refused=refused)
        assert rig.platform.deployments.find("toy", namespace="seldon") is None
        assert httpx.post(rig.url(), json={}, timeout=10).status_code == 404
        assert rig.platform.deployments.status("toy", namespace="seldon") == ()


def test_another_state_than_the_expected_one_is_left_as_it_is(rig: Rig) -> None:
    apply(rig, "one")
    wanted = deployment(predictor("s3://models/toy/two"))
    with pytest.raises(ConflictError, match="seldon/toy: somebody else changed it"):
        rig.platform.deployments.apply(wanted, expected=Expected(wanted))
    assert rig.predict() == ["one"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("refused", ["", "alone", "exposed"])
def test_a_kill_at_any_point_leaves_the_traffic_with_what_was_proved(
    rig: Rig, refused: str
) -> None:
    apply(rig, "one")
    for point in range(1, 60):
        with load(rig, pause=0.01) as answers:
            was_killed, is_proved = _killed_at(rig, point, refused)
            there = set(rig.predict(times=5))
        assert set(answers) <= ({"one", "two"} if is_proved else {"one"}), point
        assert len(there) == 1, point
        if not was_killed:
            break
        apply(rig, "one")
        assert set(rig.predict(times=5)) == {"one"}, point
    assert point > 3
    assert not was_killed


def _killed_at(rig: Rig, point: int, refused: str) -> tuple[bool, bool]:
    """Apply `two` in a process that kills itself at its nth change.

    Until the proof refuses it, everything is as without a refusal: it counts from there.

    Returns whether it was killed, and whether `two` had been proved alone by then.
    """
    proved = PROCESSES.Event()
    code = exit_code_of(_apply_until, rig, point, refused, proved)
    return code == -signal.SIGKILL, proved.is_set()


def _apply_until(rig: Rig, point: int, refused: str, proved: Any) -> None:
    left, counts = [point], threading.Event()

    def pass_by(moment: str = "") -> None:
        if moment == refused:
            counts.set()
        left[0] -= counts.is_set()
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in _POINTS:
        setattr(owner, name, _counted(getattr(owner, name), pass_by))

    class Told(Answering):
        def alone(self, predictor: Predictor, server: Predictions) -> None:
            pass_by("alone")
            super().alone(predictor, server)
            proved.set()

        def exposed(self) -> None:
            pass_by("exposed")
            super().exposed()

    try:
        rig.platform.deployments.apply(
            deployment(predictor("s3://models/toy/two")), proof=Told(rig, "two", refused=refused)
        )
    except (FatalStateError, UnavailableError):
        os._exit(1)
    os._exit(0)


def _counted(method: Callable[..., Any], pass_by: Callable[[], None]) -> Callable[..., Any]:
    def counted(*given: Any, **named: Any) -> Any:
        pass_by()
        answer = method(*given, **named)
        pass_by()
        return answer

    return counted
