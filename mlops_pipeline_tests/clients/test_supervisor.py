"""The client of supervisord, against a socket that behaves like one in trouble."""

import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.supervisor import SupervisorClient


@pytest.fixture
def silent() -> Iterator[Path]:
    """A socket that takes connections and never answers, as a stopped process has."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/sv.sock")
        server.listen(16)
        yield Path(folder, "sv.sock")


def test_many_questions_to_one_that_hangs_take_no_longer_than_one(silent: Path) -> None:
    client = SupervisorClient(silent, timeout=0.5, pause=60)
    start = time.monotonic()
    for _ in range(20):
        with pytest.raises(UnavailableError, match="did not answer"):
            client.find("gateway")
    assert 0.5 <= time.monotonic() - start < 1.5


def test_without_a_pause_every_call_is_made(silent: Path) -> None:
    client = SupervisorClient(silent, timeout=0.2)
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="did not answer"):
            client.identity()
    assert time.monotonic() - start >= 0.4
