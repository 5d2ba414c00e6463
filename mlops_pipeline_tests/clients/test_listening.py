import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from mlops_pipeline.clients import listening
from mlops_pipeline.clients.listening import other_users_on
from mlops_pipeline.clients.ports import listeners

LISTEN = """
import os, socket, sys
os.setuid(65534)
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.socket(family)
server.bind((sys.argv[1], 0))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who listens")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can listen as another user")
@pytest.mark.parametrize(
    ("address", "others"),
    [
        ("127.0.0.1", {65534}),
        ("0.0.0.0", {65534}),
        ("::ffff:127.0.0.1", {65534}),
        ("::", {65534}),
        ("127.0.0.2", set()),
    ],
)
@pytest.mark.parametrize("kernel", ["answers", "is silent"])
def test_another_user_on_a_port_is_found(
    address: str, others: set[int], kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "is silent":  # As where its module is missing: /proc says the same.
        monkeypatch.setattr(listening, "_SOCK_DIAG", 31)
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        assert other_users_on(port) == others
        program.communicate()
    assert other_users_on(port) == set()


def test_our_own_port_and_our_own_connection_have_no_other_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))):
            assert other_users_on(port) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who listens")
@pytest.mark.parametrize("kernel", ["answers", "is silent"])
def test_the_ports_of_a_process_and_its_children_are_found(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "is silent":
        monkeypatch.setattr(listening, "_SOCK_DIAG", 31)
    program = [sys.executable, "-c", LISTEN.replace("os.setuid(65534)", ""), "127.0.0.1"]
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        port = int(child.stdout.readline())
        own = {("127.0.0.1", one.getsockname()[1]), ("::1", other.getsockname()[1])}
        found = listeners(os.getpid())
        assert own | {("127.0.0.1", port)} <= found
        assert listeners(child.pid) == {("127.0.0.1", port)}
        child.communicate()
    assert listeners(child.pid) == set()
    assert not own & listeners(os.getpid())
