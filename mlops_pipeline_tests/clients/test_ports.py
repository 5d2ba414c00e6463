import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.ports import (
    first_free,
    is_abandoned,
    is_free,
    is_reachable,
)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "a.sock"


def test_a_socket_is_abandoned_only_when_nobody_listens(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        assert not is_abandoned(path)
    assert is_abandoned(path)


def test_a_path_that_is_not_a_socket_is_not_abandoned(path: Path) -> None:
    assert not is_abandoned(path)
    path.write_text("a file")
    assert not is_abandoned(path)


def test_a_port_in_use_is_skipped() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        assert not is_free(port)
        assert first_free(port) > port


def test_a_refusal_is_an_answer_but_silence_is_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert is_reachable("127.0.0.1", port)
        server.listen(1)
        assert is_reachable("127.0.0.1", port)
    assert not is_reachable("255.255.255.255", 80)
