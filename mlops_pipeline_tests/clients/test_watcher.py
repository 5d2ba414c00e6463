"""Commands end with the process that started them, however that ends."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlops_pipeline.clients.waiting import wait_until

RUNS = """
from mlops_pipeline.clients.process import run
run(["sh", "-c", "sleep 1; sleep 60 & echo $$ $! > pids.new && mv pids.new pids; wait"],
    purpose="try", timeout=60)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits for a command, which has a child.

    The command takes a second to say so: its parent tells the watcher of it meanwhile.
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(RUNS)], cwd=tmp_path)
    yield process
    process.kill()
    process.wait(5)


def started(tmp_path: Path) -> list[psutil.Process]:
    file = tmp_path / "pids"
    wait_until("the command", lambda: None if file.exists() else "no file", timeout=20)
    return [psutil.Process(int(pid)) for pid in file.read_text().split()]


def gone(processes: list[psutil.Process]) -> str | None:
    left = [p.pid for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return f"{left} run" if left else None


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_the_commands_of_a_killed_process_are_killed(
    parent: "subprocess.Popen[bytes]", tmp_path: Path, blow: signal.Signals
) -> None:
    processes = started(tmp_path)
    watchers = psutil.Process(parent.pid).children()
    assert gone(processes) is not None
    os.kill(parent.pid, blow)
    assert parent.wait(20) == -blow  # It may be waiting for the disk.
    wait_until("the end of all", lambda: gone(processes + watchers), timeout=10)


def test_a_watcher_that_was_killed_is_replaced(tmp_path: Path) -> None:
    script = """
        import os, psutil
        from mlops_pipeline.clients.process import run
        for _ in range(3):
            run(["true"], purpose="try", timeout=10)
            watcher, = psutil.Process().children()
            watcher.kill()
            watcher.wait(5)
        print(run(["echo", "done"], purpose="try", timeout=10))
    """
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stdout.strip(), said.stderr) == ("done", "")
