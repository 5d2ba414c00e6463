import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from mlops_pipeline.clients import running

MARK = f"mlops-test-of-running-{os.getpid()}"


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits for ever, with a word of its own among its arguments."""
    command = [sys.executable, "-c", "input()", "make", MARK]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
        # For a moment a new process has no arguments yet.
        while MARK not in psutil.Process(started.pid).cmdline():
            assert started.poll() is None
        yield started
        started.kill()


def test_processes_are_found_by_their_arguments(process: "subprocess.Popen[bytes]") -> None:
    assert running.commanded(["make", MARK]) == [process.pid]
    assert running.commanded([MARK, "remove"]) == []


def test_this_process_is_never_among_them() -> None:
    assert running.commanded([sys.argv[0]]) == []


def test_the_descendants_of_a_process_are_found() -> None:
    command = ["sh", "-c", "sleep 60 & read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
        while len(found := running.with_descendants([started.pid])) < 2:
            assert started.poll() is None
        assert found[0] == started.pid
        assert running.end(found, grace=5) == 2
    assert running.with_descendants(found) == []


def test_found_processes_are_ended(process: "subprocess.Popen[bytes]") -> None:
    assert running.end(running.commanded([MARK]), grace=5) == 1
    assert process.poll() is not None
    assert running.end([process.pid], grace=1) == 0
