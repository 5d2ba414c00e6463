"""What goes wrong at the real server: broken artifacts, taken ports, bad bytes, signals."""

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.serving import artifact
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.servers import Server

pytestmark = pytest.mark.embedded

BY_NAME = """
import sys, joblib
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
iris = load_iris(as_frame=True)
scaler = ColumnTransformer([("scale", StandardScaler(), list(iris.data.columns))])
model = make_pipeline(scaler, LogisticRegression()).fit(iris.data, iris.target)
joblib.dump(model, sys.argv[1])
"""

GOOD = b'{"data":{"ndarray":[[5.964,4.006,2.081,1.031]]}}'


@pytest.fixture(scope="module")
def server(iris_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with servers.running(
        iris_folder, log, MLOPS_RECEIVE_SECONDS="1", MLOPS_MAX_BODY_BYTES="2000000"
    ) as s:
        yield s


@pytest.fixture
def own_copy(iris_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(iris_folder, tmp_path / "copy")


def exchange(server: Server, *chunks: bytes, half_close: bool = False) -> bytes:
    """Send bytes over a connection of their own, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        with contextlib.suppress(OSError):
            for chunk in chunks:
                connection.sendall(chunk)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def wait_refused(server: Server) -> None:
    """Connect until nobody listens any more; the test's own timeout ends it."""
    with contextlib.suppress(OSError):
        while True:
            socket.create_connection(("127.0.0.1", server.http_port), timeout=1).close()


def post(body: bytes, *, length: int | None = None, close: bool = True) -> bytes:
    size = len(body) if length is None else length
    connection = b"Connection: close\r\n" if close else b""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % size
    return head + connection + b"\r\n" + body


def test_a_broken_artifact_is_not_served(own_copy: Path) -> None:
    with (own_copy / "model.joblib").open("r+b") as file:
        file.write(b"!")
    ended = servers.serve_in_vain(own_copy)
    assert ended.returncode == ExitCode.ARTIFACT
    assert "changed: model.joblib" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_missing_artifact_is_not_served(tmp_path: Path) -> None:
    ended = servers.serve_in_vain(tmp_path / "nothing")
    assert ended.returncode == ExitCode.ARTIFACT
    assert artifact.MANIFEST in ended.stderr


def test_a_model_that_does_not_load_ends_the_server(own_copy: Path) -> None:
    (own_copy / "model.joblib").write_bytes(b"no pickle")
    manifest = json.loads((own_copy / artifact.MANIFEST).read_text())
    manifest["files"] = artifact.hash_files(own_copy)
    manifest["digest"] = artifact.digest_of(manifest)
    (own_copy / artifact.MANIFEST).write_text(json.dumps(manifest))
    ended = servers.serve_in_vain(own_copy)
    assert ended.returncode == ExitCode.MODEL
    assert "does not load" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_model_that_needs_columns_by_name_is_served(tmp_path: Path) -> None:
    named = servers.make_sklearn(tmp_path / "named", BY_NAME)
    with servers.running(named, tmp_path / "log") as server, server.client() as client:
        answer = client.post("/predict", content=GOOD)
        assert np.argmax(answer.json()["data"]["ndarray"]) == 0
        names = "petal width (cm)"
        turned = {"names": [names], "ndarray": [[1.0]]}
        refused = client.post("/predict", json={"data": turned})
        assert "sepal length (cm)" in refused.json()["status"]["info"]


def test_a_parameter_the_model_does_not_know_ends_the_server(iris_folder: Path) -> None:
    method = servers.parameters(method="transform")
    ended = servers.serve_in_vain(iris_folder, PREDICTIVE_UNIT_PARAMETERS=method)
    assert ended.returncode == ExitCode.SETTINGS
    assert "predict_proba" in ended.stderr


@pytest.mark.parametrize("name", ["MLSERVER_HTTP_PORT", "MLSERVER_GRPC_PORT"])
def test_a_taken_port_ends_the_server(iris_folder: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        ended = servers.serve_in_vain(iris_folder, **{name: port})
    assert ended.returncode == ExitCode.PORT
    assert port in ended.stderr


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        post(b"{"),
        post(b"[" * 100_000 + b"]" * 100_000),
        post(b'{"data":{"ndarray":[[1e308,-1e308,1e308,1]]}}'),
    ],
    ids=["garbage", "path", "length", "chunk", "long", "truncated", "deep", "overflow"],
)
def test_bad_bytes_are_a_bad_request(server: Server, request_bytes: bytes) -> None:
    assert exchange(server, request_bytes).startswith(b"HTTP/1.1 400 ")
    assert exchange(server, post(GOOD)).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_too_large_is_refused_and_the_client_hears_of_it(server: Server) -> None:
    answer = exchange(server, post(b" " * 2_000_001))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"TOO_LARGE" in answer


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"POST /predict HTT", post(GOOD, length=1000), post(b" " * 90_000, length=100_000)],
    ids=["silent", "head", "body", "large"],
)
def test_a_request_that_never_comes_is_closed(server: Server, request_bytes: bytes) -> None:
    begin = time.monotonic()
    answer = exchange(server, request_bytes)
    assert 0.5 < time.monotonic() - begin < 8
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert exchange(server, post(GOOD)).startswith(b"HTTP/1.1 200 ")


def test_broken_off_uploads_and_many_open_connections_do_no_harm(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", server.http_port), timeout=10)
            stack.enter_context(connection).sendall(post(GOOD, length=5000))
        assert exchange(server, post(GOOD)).startswith(b"HTTP/1.1 200 ")
    assert exchange(server, post(GOOD)).startswith(b"HTTP/1.1 200 ")


def test_health_is_quick_while_a_large_request_is_answered(server: Server) -> None:
    rows = b",".join([b"[5.964,4.006,2.081,1.031]"] * 70_000)
    body = post(b'{"data":{"ndarray":[' + rows + b"]}}")
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(exchange(server, body)))
    thread.start()
    with server.client() as client:
        while thread.is_alive():
            assert client.get("/live").elapsed.total_seconds() < 2
    assert answers[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_is_in_flight(
    iris_folder: Path, tmp_path: Path, name: signal.Signals
) -> None:
    with servers.running(iris_folder, tmp_path / "log") as server:
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
            request = post(GOOD, close=False)
            connection.sendall(request[:-10])
            with server.client() as client:  # Its answer comes after the half request arrived.
                assert client.get("/live").status_code == 200
            server.process.send_signal(name)
            wait_refused(server)
            connection.sendall(request[-10:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(15) == ExitCode.OK


def test_a_stop_while_loading_ends_at_once(iris_folder: Path, tmp_path: Path) -> None:
    with servers.running(iris_folder, tmp_path / "log", ready=False) as server:
        with server.client() as client:
            servers.wait_alive(server, client)
            begin = time.monotonic()
        assert server.stop() == ExitCode.OK
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize("place", ["serve", "pod"])
def test_a_stop_while_a_library_is_loaded_ends_at_once(place: str, tmp_path: Path) -> None:
    folder, library = servers.make_stuck(tmp_path)
    told = servers.parameters(model_uri=str(folder))
    path = str(library.parents[1])
    with servers.running(
        folder,
        tmp_path / "log",
        ready=False,
        place=place,
        PYTHONPATH=path,
        PREDICTIVE_UNIT_ID="stuck",
        PREDICTIVE_UNIT_PARAMETERS=told,
        MLSERVER_HOST="127.0.0.1",
    ) as server:
        end = servers.wait_opened(library)
        if place == "serve":
            with server.client() as client:
                assert client.get("/live").text == "pong"
        begin = time.monotonic()
        assert server.stop() == ExitCode.OK
        assert time.monotonic() - begin < 5
        os.close(end)
