"""The launcher as supervisord runs it: one process at a time is the program."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients import launcher
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder

SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
DEAF = (
    *(sys.executable, "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)",
)
Launch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "p.lock"


@pytest.fixture
def launch(tmp_path: Path, lock: Path) -> Iterator[Launch]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, seconds: float = 5) -> "subprocess.Popen[bytes]":
        options = (str(lock), str(tmp_path / "p.log"), str(seconds))
        line = [sys.executable, "-I", launcher.__file__, *options, *command]
        started.append(subprocess.Popen(line, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(5)


def becomes(lock: Path, pid: int) -> None:
    """Wait until the process `pid` is the program."""

    def describe() -> str | None:
        up = (lock.parent / "p.log").exists() and "up" in (lock.parent / "p.log").read_text()
        return None if up and launcher.holder(lock) == pid else f"{launcher.holder(lock)} is it"

    wait_until("the program", describe, timeout=10, interval=0.02)


def waits(lock: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a launcher stands for the program of another."""
    waiting = Path(f"/proc/{process.pid}/wchan")
    if not waiting.exists():
        pytest.skip("this machine does not say what a process waits for")

    def describe() -> str | None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return None if caught & 1 << (signal.SIGTERM - 1) else "it does not catch SIGTERM yet"

    wait_until("the launcher", describe, timeout=10, interval=0.02)
    assert launcher.holder(lock) != process.pid


def test_a_program_that_never_started_has_no_holder(lock: Path) -> None:
    assert launcher.holder(lock) is None
    lock.touch()
    assert launcher.holder(lock) is None


def test_the_launcher_becomes_the_program_and_its_exit_is_the_programs(
    launch: Launch, lock: Path, tmp_path: Path
) -> None:
    process = launch(sys.executable, "-c", "import sys; print('said'); sys.exit(3)")
    assert process.wait(10) == 3
    assert (tmp_path / "p.log").read_text() == "said\n"
    assert (tmp_path / "p.log").stat().st_mode & 0o777 == 0o600
    assert launcher.holder(lock) is None


def test_a_second_waits_and_is_the_program_when_the_first_has_died(
    launch: Launch, lock: Path
) -> None:
    first = launch(*SLEEP)
    becomes(lock, first.pid)
    second = launch(*SLEEP)
    waits(lock, second)
    assert launcher.holder(lock) == first.pid
    first.kill()
    first.wait(5)
    becomes(lock, second.pid)


def test_a_signal_to_the_second_ends_the_first_and_both_are_gone(
    launch: Launch, lock: Path
) -> None:
    first = launch(*SLEEP)
    becomes(lock, first.pid)
    second = launch(*SLEEP)
    waits(lock, second)
    second.terminate()
    assert first.wait(5) == -signal.SIGTERM
    assert second.wait(5) == 0
    assert launcher.holder(lock) is None


def test_a_program_that_does_not_end_on_a_signal_is_killed(launch: Launch, lock: Path) -> None:
    first = launch(*DEAF)
    becomes(lock, first.pid)
    second = launch(*DEAF, seconds=0.5)
    waits(lock, second)
    second.terminate()
    assert first.wait(5) == -signal.SIGKILL
    assert second.wait(5) == 0


def test_a_child_of_the_program_does_not_hold_its_lock(launch: Launch, lock: Path) -> None:
    forks = "import os, time; os.fork(); print('up', flush=True); time.sleep(20)"
    first = launch(sys.executable, "-c", forks)
    becomes(lock, first.pid)
    first.kill()
    first.wait(5)
    assert launcher.holder(lock) is None
    os.killpg(first.pid, signal.SIGKILL)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    state = EmbeddedFolder.at(tmp_path / "s")
    state.prepare()
    lock = tmp_path / "p.lock"
    lock.touch()
    assert launcher.describe_lack(lock) is None
    for function in ("lockf", "fcntl"):
        with monkeypatch.context() as patch:
            patch.setattr(f"fcntl.{function}", refuse)
            assert launcher.describe_lack(lock) == "No locks available"
            assert launcher.holder(lock) is None
            with pytest.raises(ConfigurationError, match=r"does not lock files.*MLOPS_HOME"):
                state.prepare()
