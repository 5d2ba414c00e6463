"""Real servers as subprocesses on loopback, and the small real artifacts they serve."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.serving import artifact
from mlops_pipeline.serving.artifact import Manifest, Tensor

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90

TRAIN_IRIS = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows, labels = load_iris(return_X_y=True)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels), sys.argv[1])
"""
EXPORT_DIGITS = """
import sys, keras
inputs = keras.Input((784,), name="images")
model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(inputs))
archive = keras.export.ExportArchive()
archive.track(model)
archive.add_endpoint(
    "predict_images",
    lambda images: {"scores": model(images)},
    input_signature=[keras.InputSpec(shape=(None, 784), dtype="float32", name="images")],
)
archive.write_out(sys.argv[1])
"""


def make_iris(folder: Path) -> Path:
    return make_sklearn(folder, TRAIN_IRIS)


def make_sklearn(folder: Path, program: str) -> Path:
    """Return the artifact of a program that dumps a model of four features and three classes."""
    folder.mkdir(parents=True)
    _run(program, folder / "model.joblib")
    return _with_manifest(folder, "iris", "sklearn", ("features", 4, "FP64"), 3)


def make_stuck(folder: Path) -> tuple[Path, Path]:
    """Return an artifact of TensorFlow, and a folder for PYTHONPATH whose TensorFlow never loads.

    The library that its loader loads first is a pipe, which it waits at.
    """
    (folder / "model" / "1").mkdir(parents=True)
    (folder / "model" / "1" / "saved_model.pb").write_bytes(b"a graph")
    library = folder / "path" / "tensorflow" / "libtensorflow_cc.so.2"
    library.parent.mkdir(parents=True)
    (library.parent / "__init__.py").touch()
    os.mkfifo(library)
    row = ("images", 784, "FP32")
    return _with_manifest(folder / "model", "stuck", "tensorflow", row, 10), library


def make_digits(folder: Path) -> Path:
    folder.mkdir(parents=True)
    _run(EXPORT_DIGITS, folder / "1")
    return _with_manifest(folder, "digits", "tensorflow", ("images", 784, "FP32"), 10)


def wait_opened(pipe: Path) -> int:
    """Wait until somebody opens a pipe to read it; return the end to write to, which holds them."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        threading.Event().wait(0.05)
    raise AssertionError(f"nobody opens {pipe}")


def _run(program: str, target: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, str(target)]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=110)


def _with_manifest(
    folder: Path, name: str, framework: str, row: tuple[str, int, str], outputs: int
) -> Path:
    input_name, columns, datatype = row
    manifest = Manifest(
        name=name,
        framework=framework,
        files=artifact.hash_files(folder),
        inputs=(Tensor(input_name, (-1, columns), datatype),),
        outputs=(Tensor("scores", (-1, outputs), datatype),),
    )
    (folder / artifact.MANIFEST).write_text(manifest.to_json())
    return folder


def digest_of(folder: Path) -> str:
    return artifact.parse_manifest((folder / artifact.MANIFEST).read_bytes()).digest


def parameters(**values: str) -> str:
    entries = [{"name": name, "value": value, "type": "STRING"} for name, value in values.items()]
    return json.dumps(entries)


@dataclass(frozen=True)
class Server:
    process: "subprocess.Popen[bytes]"
    http_port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def running(
    folder: Path, log: Path, *, ready: bool = True, place: str = "serve", **environment: str
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it by its process whatever happens.

    In a pod (`place`) the environment has to say where the model is.
    """
    http_port, grpc_port = free_ports()
    settings = {
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http_port),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc_port),
        **environment,
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            _serve(folder) if place == "serve" else [*_MODULE, place],
            env=_environment(settings),
            stdout=file,
            stderr=file,
            cwd=ROOT,
        )
        server = Server(process, http_port, grpc_port, log)
        try:
            if ready:
                wait_ready(server)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(20)


def serve_in_vain(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Start a server that cannot start, and return how it ended."""
    return subprocess.run(
        _serve(folder),
        env=_environment({"MLSERVER_HTTP_PORT": "0", "MLSERVER_GRPC_PORT": "0", **environment}),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


_MODULE = (sys.executable, "-m", "mlops_pipeline.serving")


def _serve(folder: Path) -> list[str]:
    return [*_MODULE, "serve", "--model", str(folder)]


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    ours = ("PREDICTIVE_UNIT_", "MLSERVER_", "MLOPS_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(settings)


def wait_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_SECONDS
    state = "no answer"
    with server.client() as client:
        while time.monotonic() < deadline and server.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                state = str(client.get("/v2/health/ready").status_code)
                if state == "200":
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(0.1)
    raise AssertionError(f"not ready ({state}): {server.log.read_text()}")


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def wait_alive(server: Server, client: httpx.Client) -> None:
    """Wait until the server answers at all, ready or not."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            assert client.get("/health/ping").text == "pong"
            return
    raise AssertionError(f"no answer: {server.log.read_text()}")


def predict_offline(
    folder: Path, rows: NDArray[Any], scratch: Path, names: str = "[]"
) -> NDArray[np.float64]:
    """Return what `predict` writes for rows."""
    np.save(scratch / "rows.npy", rows)
    options = {"model": folder, "rows": scratch / "rows.npy", "output": scratch / "out.npy"}
    arguments = [text for name, path in options.items() for text in (f"--{name}", str(path))]
    command = [sys.executable, "-m", "mlops_pipeline.serving", "predict", *arguments]
    subprocess.run([*command, "--parameters", names], check=True, timeout=110, cwd=ROOT)
    scores: NDArray[np.float64] = np.load(scratch / "out.npy")
    return scores
