import os
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
    other_users_on,
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


@pytest.mark.parametrize(
    ("local", "state", "user", "others"),
    [
        ("0100007F:208D", "0A", 4711, {4711}),
        ("00000000:208D", "0A", 4711, {4711}),
        ("0100007F:208D", "0A", os.getuid(), set()),
        ("0100007F:208D", "01", 4711, set()),
        ("0100007F:208E", "0A", 4711, set()),
        ("0200007F:208D", "0A", 4711, set()),
        ("00000000000000000000000000000000:208D", "0A", 4711, {4711}),
    ],
)
def test_other_users_on_a_port_are_found(
    tmp_path: Path, local: str, state: str, user: int, others: set[int]
) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  inode\n"
        f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {user} 0 1 1\n"
    )
    assert other_users_on(0x208D, tables=[table, tmp_path / "no such table"]) == others


def test_our_own_port_has_no_other_user() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        assert other_users_on(server.getsockname()[1]) == set()


def test_a_refusal_is_an_answer_but_silence_is_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert is_reachable("127.0.0.1", port)
        server.listen(1)
        assert is_reachable("127.0.0.1", port)
    assert not is_reachable("255.255.255.255", 80)
