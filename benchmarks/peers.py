"""What our server is measured against, each started as a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.process import run
from mlops_pipeline.clients.waiting import wait_until

PEERS = Path(sys.prefix) / "peers" / "bin"
BENTOML = Path(sys.prefix) / "bentoml" / "bin"
ROOT = Path(__file__).parents[1]
GRAPH = "classifier"
FIRST_PORT = 24_000
READY_SECONDS = 60
STOP_SECONDS = 10
_VERSIONS = (
    "import importlib.metadata as m, json, sys;"
    "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
)


@dataclass(frozen=True)
class Server:
    """A server under load: where it listens, and the processes that are it."""

    name: str
    http_port: int
    grpc_port: int
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(time.user + time.system for time in times)


@contextmanager
def mlserver(model: Path, folder: Path, *, workers: int | None) -> Iterator[Server]:
    """Run stock MLServer with its scikit-learn runtime; `workers` None: as many as it likes.

    Nothing of its settings is changed, but that it does not log every request (`debug`).
    """
    http_port, grpc_port, metrics_port = free_ports(3)
    settings: dict[str, object] = {"debug": False, "host": ports.LOOPBACK, "http_port": http_port}
    settings |= {"grpc_port": grpc_port, "metrics_port": metrics_port}
    if workers is not None:
        settings["parallel_workers"] = workers
    model_settings = {
        "name": GRAPH,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    folder.mkdir()
    shutil.copy(model, folder / "model.joblib")
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model_settings))
    name = "MLServer" if workers is None else f"MLServer, {workers} workers"
    command = [str(PEERS / "mlserver"), "start", str(folder)]
    probe = f"http://{ports.LOOPBACK}:{http_port}/v2/models/{GRAPH}/ready"
    with running(name, command, folder, probe, {}) as pids:
        yield Server(name, http_port, grpc_port, pids)


@contextmanager
def bare(model: Path, folder: Path) -> Iterator[Server]:
    """Run the bare limit."""
    http_port, grpc_port = free_ports(2)
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.bare", str(model), str(http_port), str(grpc_port)]
    probe = f"http://{ports.LOOPBACK}:{http_port}/"
    with running("bare", command, folder, probe, {"PYTHONPATH": str(ROOT)}) as pids:
        yield Server("bare", http_port, grpc_port, pids)


@contextmanager
def bentoml(saved_model: Path, folder: Path) -> Iterator[Server]:
    """Run BentoML with one worker, as our server is one process."""
    (http_port,) = free_ports(1)
    folder.mkdir()
    command = [str(BENTOML / "bentoml"), "serve", "benchmarks.bento:Mnist"]
    command += ["--host", ports.LOOPBACK, "--port", str(http_port)]
    environment = {
        "PYTHONPATH": str(ROOT),
        "MODEL": str(saved_model),
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    probe = f"http://{ports.LOOPBACK}:{http_port}/readyz"
    with running("BentoML", command, folder, probe, environment) as pids:
        yield Server("BentoML", http_port, 0, pids)


def versions(*names: str) -> Mapping[str, str]:
    """Return the versions of packages in the peers' environment."""
    command = [str(PEERS / "python"), "-c", _VERSIONS, *names]
    found: dict[str, str] = json.loads(run(command, purpose="ask for versions", timeout=60))
    return found


@contextmanager
def running(
    name: str, command: Sequence[str], folder: Path, probe: str, environment: Mapping[str, str]
) -> Iterator[tuple[int, ...]]:
    """Start a server, wait until `probe` answers 200, and end it with its children."""
    log = folder / "log"
    with log.open("wb") as file:
        process = psutil.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )

    def describe_unready() -> str | None:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended: {log.read_text()[-2000:]}")
        with suppress(httpx.HTTPError):
            status = httpx.get(probe).status_code
            return None if status == 200 else f"it answers {status}"
        return "it does not answer"

    family: list[psutil.Process] = [process]
    try:
        wait_until(name, describe_unready, timeout=READY_SECONDS)
        family += process.children(recursive=True)
        yield tuple(member.pid for member in family)
    finally:
        _end(family)


def _end(family: Sequence[psutil.Process]) -> None:
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    for member in psutil.wait_procs(family, timeout=STOP_SECONDS)[1]:
        member.kill()


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    found: list[int] = []
    while len(found) < count:
        found.append(ports.first_free(FIRST_PORT, besides=found))
    return found
