import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import mlops_pipeline
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    FatalStateError,
    PipelineError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.waiting import MONOTONIC, patiently, wait_until


@dataclass
class JumpingClock:
    """Time passes only when somebody sleeps."""

    time: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds


def _ready_after(*reasons: str) -> Callable[[], str | None]:
    answers = iter([*reasons, None])
    return lambda: next(answers)


def test_a_ready_state_needs_no_sleep() -> None:
    clock = JumpingClock()
    assert wait_until("the gateway", _ready_after(), timeout=10, clock=clock) == 0
    assert clock.sleeps == []


def test_it_returns_the_seconds_that_the_wait_took() -> None:
    clock = JumpingClock()
    probe = _ready_after("starting", "loading")
    assert wait_until("the server", probe, timeout=10, clock=clock, interval=0.5) == 1.0
    assert clock.sleeps == [0.5, 0.5]


def test_a_timeout_names_subject_duration_last_state_and_remedy() -> None:
    probe = _ready_after(*["refused"] * 3, *["answers 503"] * 10)
    with pytest.raises(WaitTimeoutError) as caught:
        wait_until(
            "the gateway", probe, timeout=5, clock=JumpingClock(), interval=1, hint="see its log"
        )
    assert str(caught.value) == (
        "timed out after 5 s waiting for the gateway; last seen: answers 503; see its log"
    )


def test_without_a_hint_the_message_ends_with_the_reason() -> None:
    with pytest.raises(WaitTimeoutError, match=r"last seen: no$"):
        wait_until("it", lambda: "no", timeout=1, clock=JumpingClock())


def test_it_looks_once_more_when_the_time_is_up() -> None:
    clock = JumpingClock()
    ready_at = clock.now() + 3
    waited = wait_until(
        "it", lambda: None if clock.now() >= ready_at else "no", timeout=3, clock=clock, interval=3
    )
    assert waited == 3


def test_no_time_at_all_still_means_one_look() -> None:
    assert wait_until("it", _ready_after(), timeout=0, clock=JumpingClock()) == 0
    with pytest.raises(WaitTimeoutError):
        wait_until("it", lambda: "no", timeout=0, clock=JumpingClock())


def test_a_slow_probe_is_paid_from_the_same_deadline() -> None:
    clock = JumpingClock()
    probes = 0

    def slow() -> str:
        nonlocal probes
        probes += 1
        clock.time += 4
        return "no"

    with pytest.raises(WaitTimeoutError):
        wait_until("it", slow, timeout=10, clock=clock, interval=1)
    assert probes == 3


def test_a_fatal_state_ends_the_wait_at_once() -> None:
    clock = JumpingClock()

    def gone() -> str | None:
        raise FatalStateError("the process exited with 1")

    with pytest.raises(FatalStateError, match="exited with 1"):
        wait_until("the server", gone, timeout=60, clock=clock)
    assert clock.sleeps == []


def test_the_real_clock_advances_by_its_sleep() -> None:
    before = MONOTONIC.now()
    MONOTONIC.sleep(0.002)
    assert MONOTONIC.now() - before >= 0.002


def test_a_silent_server_is_retried_but_a_refusal_is_not() -> None:
    answers: list[PipelineError | None] = [UnavailableError("silent"), None]

    def probe() -> str | None:
        if (error := answers.pop(0)) is not None:
            raise error
        return None

    assert wait_until("it", patiently(probe), timeout=1, interval=0.001) < 1
    answers = [AccessDeniedError("no"), None]
    with pytest.raises(AccessDeniedError):
        wait_until("it", patiently(probe), timeout=1)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_jump_of_the_machines_clock_changes_no_wait(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, seen = time.time(), iter(range(1000))
    monkeypatch.setattr(time, "time", lambda: start + jump * next(seen))
    answers = iter(["not yet", "not yet", None])
    assert 0 < wait_until("it", lambda: next(answers), timeout=5, interval=0.001) < 5
    before = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        wait_until("it", lambda: "never", timeout=0.05, interval=0.001)
    assert 0.05 <= time.monotonic() - before < 5


def test_nothing_waits_by_the_time_of_day() -> None:
    package = Path(mlops_pipeline.__file__).parent
    asking = re.compile(r"\btime\.time\(|\bdatetime\.(utc)?now\(|from time import")
    found = {
        str(path.relative_to(package)): len(asking.findall(path.read_text()))
        for path in package.rglob("*.py")
        if asking.search(path.read_text())
    }
    # Shown beside the times of events and of holders of locks; written into the manifest of an
    # artifact, into a verdict and into a desired state; the dates of certificates, the end of a
    # login, and the age of recorded answers and of their files.
    assert {Path(name).name: times for name, times in found.items()} == {
        "answer_shipper.py": 2,
        "answers.py": 2,
        "shipper.py": 1,
        "locks.py": 1,
        "login.py": 1,
        "progress.py": 1,
        "publishing.py": 1,
        "training.py": 1,
        "tls.py": 1,
        "keys.py": 1,
        "store_certificate.py": 2,
        "verdicts.py": 1,
        "desired.py": 1,
        "driver.py": 1,
        "metrics.py": 1,
        "releases.py": 1,
        "sensors.py": 1,
        "telling.py": 1,
    }
