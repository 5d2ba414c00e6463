"""What another user of this machine gets from the platform: predictions, and nothing else."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.platforms.embedded import store_program
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.layers import Broken, Ready, by_name
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in
from mlops_pipeline_tests.embedded.test_platform_serving import artifact, publish

__all__ = ["artifact"]

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can try things as another user"),
    pytest.mark.skipif(sys.platform != "linux", reason="sockets of others are listed on Linux"),
]

NO_PLAINTEXT = "400 b'Client sent an HTTP request to an HTTPS server."
ATTACKER = Path(__file__).with_name("attacker.py")


@dataclass(frozen=True)
class Listening:
    """What the platform's processes listen on."""

    tcp: dict[int, str]
    """Port → program."""
    unix: set[str]
    others: list[str]
    """What is neither."""


@pytest.fixture(scope="module")
def rig(artifact: Path) -> Iterator[Rig]:
    """A platform below a folder that everybody may enter: what is closed closes itself."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="mp-"))
    base.chmod(0o755)
    try:
        with rig_in(base / "home" / "embedded", server_command=(), ready_timeout=60.0) as made:
            made.up()
            made.platform.object_store().put("models", "kept", b"as it was")
            made.apply(predictor(publish(made, artifact, "good")))
            yield made
    finally:
        shutil.rmtree(base, ignore_errors=True)


def listening(rig: Rig) -> Listening:
    tcp: dict[int, str] = {}
    unix: set[str] = set()
    others: list[str] = []
    for pid in rig.pids():
        process = psutil.Process(pid)
        program = process.cmdline()
        for found in process.net_connections(kind="inet"):
            if found.status == psutil.CONN_LISTEN:
                tcp[found.laddr.port] = " ".join(program)
            elif found.type == socket.SOCK_DGRAM:
                others.append(f"{program}: {found}")
        for found in process.net_connections(kind="unix"):
            if str(found.laddr).startswith("/"):
                unix.add(str(found.laddr))
            elif found.laddr:
                others.append(f"{program}: {found}")
    return Listening(tcp, unix, others)


def attack(listening: Listening, *files: Path) -> list[dict[str, str]]:
    targets = {
        "tcp": sorted(listening.tcp),
        "unix": sorted(listening.unix),
        "files": [str(file) for file in files],
    }
    done = subprocess.run(
        [sys.executable, str(ATTACKER)],
        input=json.dumps(targets),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def owners(rig: Rig) -> dict[int, str]:
    """Return port → what it is for, by the platform's own book."""
    book = json.loads((rig.home / "ports.json").read_text())
    return {port: owner for owner, port in book.items()}


def test_every_port_gives_predictions_and_nothing_else(rig: Rig) -> None:
    heard, book = listening(rig), owners(rig)
    assert heard.others == []
    assert set(heard.tcp) <= set(book), "a port that nobody knows"
    assert len(heard.tcp) == 8 + 1 + 2

    got = attack(heard, rig.home.parent, *rig.home.parent.rglob("*"))

    by_port = {port: [one for one in got if one["where"] == str(port)] for port in heard.tcp}
    for port, found in by_port.items():
        owner = book[port]
        if owner == "gateway" or owner.startswith("server-"):
            assert_only_predictions(owner, found)
        elif owner == "s3":
            assert_anonymous_is_refused(found)
        else:
            assert [one for one in found if NO_PLAINTEXT not in one["got"]] == []
    assert [one for one in got if not one["where"].isdigit()] == []
    assert_all_is_as_it_was(rig)


def assert_only_predictions(owner: str, found: list[dict[str, str]]) -> None:
    """Of what is tried only a model server's metrics, readiness and index of its model answer."""
    answered = [one["what"] for one in found if one["got"].startswith(("2", "OK"))]
    methods = ("RepositoryIndex", "ServerReady")
    by_http = ["http GET /metrics"]
    by_grpc = [f"grpc /inference.GRPCInferenceService/{method}" for method in methods]
    expected = {"http": by_http, "grpc": by_grpc}.get(owner.rpartition(".")[2], [])
    assert answered == expected, owner


def assert_anonymous_is_refused(found: list[dict[str, str]]) -> None:
    """S3 says that it runs; all else is AccessDenied, or no method of S3."""
    (status,) = [one["got"] for one in found if one["what"] == "http GET /status"]
    assert status == "200 b''"
    others = [one for one in found if one["what"] != "http GET /status"]
    assert [one for one in others if not one["got"].startswith(("403", "405"))] == []
    for method in ("GET", "PUT", "DELETE"):
        (got,) = [one["got"] for one in others if one["what"] == f"http {method} /models/kept"]
        assert got.startswith("403")
        assert "AccessDenied" in got


def assert_all_is_as_it_was(rig: Rig) -> None:
    store = rig.platform.object_store()
    assert store.get("models", "kept") == b"as it was"
    assert [key for key in store.sizes("models", "") if "planted" in key] == []
    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3
    (status,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert status.state == "ready"


def test_a_port_whose_socket_another_user_left_is_passed_over() -> None:
    """SeaweedFS cannot remove it from /tmp, and would call whoever listens there."""
    port = ports.first_free(31_000)
    left = store_program.grpc_socket("filer", port)
    assert store_program.is_free(port)
    left.touch()
    try:
        os.chown(left, 65534, 65534)
        assert not store_program.is_free(port)
    finally:
        left.unlink()


IMPOSTOR = """
import os, socket, sys
os.setuid(65534)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        print(connection.recv(100), flush=True)
"""


def test_an_impostor_on_the_port_of_the_store_is_not_asked(rig: Rig, artifact: Path) -> None:
    """What a store returns may be a model, and loading that runs code as its user."""
    uri = publish(rig, artifact, "other")
    store = by_name(rig.platform.layers, "object_store")
    assert isinstance(store, SeaweedObjectStore)
    rig.stop(store.name)
    command = [sys.executable, "-c", IMPOSTOR, store.endpoint().rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as impostor:
        assert impostor.stdout is not None
        try:
            assert impostor.stdout.readline() == "listening\n"
            with pytest.raises(UnavailableError, match=r"a program of another user \(id 65534\)"):
                rig.platform.object_store().get("models", "kept")
            with pytest.raises(UnavailableError, match="a program of another user"):
                rig.apply(predictor(uri), name="other")
            assert isinstance(store.observe(), Broken)
            assert rig.ensure(store.name).action == "repaired"
            assert_all_is_as_it_was(rig)
        finally:
            impostor.kill()
        assert impostor.stdout.read() == ""
