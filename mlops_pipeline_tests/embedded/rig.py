"""A platform of real processes with stand-in model servers, for the tests of one module."""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from mlops_pipeline.clients import launcher, ports, running
from mlops_pipeline.clients.s3 import ObjectStore
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.embedded.programs import MARK
from mlops_pipeline.platforms.embedded.servers import program_prefix
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisor import Supervisor
from mlops_pipeline.platforms.layers import Change, by_name
from mlops_pipeline.platforms.seldon import SeldonDeployment, parse
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION
from mlops_pipeline_tests.command_line import trusting

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


@dataclass(frozen=True)
class Rig:
    """A platform, and what tests ask of it again and again."""

    home: Path
    settings: EmbeddedOptions

    @property
    def platform(self) -> EmbeddedPlatform:
        """A platform object of its own each time, as another process has."""
        return EmbeddedPlatform(self.home, self.settings)

    @property
    def deployments(self) -> EmbeddedDeployments:
        """Those of a platform object of its own."""
        return self.platform.deployments

    def up(self) -> dict[str, Change]:
        return {layer.name: layer.ensure() for layer in self.platform.layers}

    def ensure(self, layer: str) -> Change:
        return by_name(self.platform.layers, layer).ensure()

    def publish(self, digest: str, **behaviour: Any) -> str:
        """Store an artifact and return its modelUri."""
        content = json.dumps({"digest": digest, **behaviour}).encode()
        self.platform.object_store().put("models", f"toy/{digest}/behaviour.json", content)
        return f"s3://models/toy/{digest}"

    def object_store(self, *, attempts: int) -> ObjectStore:
        """Return a client that tries each request so many times."""
        (store,) = [x for x in self.platform.layers if isinstance(x, SeaweedObjectStore)]
        return store.client(attempts=attempts)

    def apply(self, *predictors: dict[str, Any], name: str = "toy", **spec: Any) -> Change:
        return self.platform.deployments.apply(deployment(*predictors, name=name, **spec))

    def url(self, path: str = "api/v1.0/predictions", *, name: str = "toy") -> str:
        return f"{self.platform.gateway_url()}/seldon/seldon/{name}/{path}"

    def predict(self, *, name: str = "toy", times: int = 1) -> list[str]:
        """Return the digests that answered."""
        url = self.url(name=name)
        with httpx.Client(timeout=20, verify=trusting(url)) as client:
            answers = [client.post(url, json={}) for _ in range(times)]
        return [answer.raise_for_status().json()["digest"] for answer in answers]

    def is_routed(self, *, name: str = "toy") -> bool:
        """Say whether requests to the deployment reach a server."""
        url = self.url(name=name)
        return httpx.post(url, json={}, timeout=20, verify=trusting(url)).status_code != 404

    def servers(self, *, name: str = "toy") -> dict[str, int]:
        """Return the process of each server of a deployment."""
        prefix = program_prefix(name, "seldon")
        found = {n: self._supervisor.running(n) for n in self._supervisor.names()}
        return {n: p.pid for n, p in found.items() if p is not None and n.startswith(prefix)}

    def stop_servers(self, *, name: str = "toy") -> None:
        """Stop the servers of a deployment, as a person does who does not know of it."""
        for program in self.servers(name=name):
            self._supervisor.client.stop(program)

        def describe_alive() -> str | None:
            return ", ".join(self.servers(name=name)) or None

        wait_until("the end of the servers", describe_alive, timeout=20)

    def pids(self) -> list[int]:
        return running.marked(MARK, EmbeddedFolder.at(self.home).identity)

    def programs(self) -> list[int]:
        """Return the process ids of supervisord and its programs, without launchers that wait."""
        waiting = running.commanded([launcher.__file__])
        return [pid for pid in self.pids() if pid not in waiting]

    def pid(self, program: str) -> int:
        """Return the process id of a layer's program, or of the one model server so called."""
        if program == "supervisor":
            return self._supervisor.client.identity()[1]
        (name,) = [n for n in self._supervisor.files.names() if program in n]
        process = self._supervisor.running(name)
        assert process is not None, name
        return process.pid

    def kill(self, program: str) -> int:
        """SIGKILL a program and return when it is gone, with the id that it had."""
        process = psutil.Process(self.pid(program))
        process.kill()
        wait_until("its end", lambda: None if _is_gone(process) else "alive", timeout=5)
        return process.pid

    def stop(self, program: str) -> None:
        """Stop a program and forget it until it is put again."""
        self._supervisor.stop([program])

    @property
    def _supervisor(self) -> Supervisor:
        (supervisor,) = [x for x in self.platform.layers if isinstance(x, Supervisor)]
        return supervisor


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def predictor(
    uri: str, name: str = "default", *, replicas: int = 1, traffic: int = 100, **more: Any
) -> dict[str, Any]:
    graph = {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": uri}
    graph |= more.pop("graph", {})
    return {"name": name, "graph": graph, "replicas": replicas, "traffic": traffic, **more}


def deployment(
    *predictors: dict[str, Any], name: str = "toy", sticky: str = "", **spec: Any
) -> SeldonDeployment:
    metadata: dict[str, Any] = {"name": name, "namespace": "seldon"}
    if sticky:
        metadata["annotations"] = {STICKY_ANNOTATION: sticky}
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": metadata,
            "spec": {"predictors": list(predictors), **spec},
        }
    )


@contextmanager
def rig_in(home: Path, **settings: Any) -> Iterator[Rig]:
    """A platform in `home` with ports of its own; every process of it is gone at the end."""
    first = ports.first_free(random.randrange(20_000, 30_000, 50))
    chosen: dict[str, Any] = {
        "gateway_port": first,
        "object_store_port": first + 1,
        "internal_port": first + 2,
        "model_port": first + 12,
        "ready_timeout": 20.0,
        "drain_timeout": 5.0,
        "server_command": STAND_IN,
    }
    rig = Rig(home, EmbeddedOptions(**{**chosen, **settings}))
    try:
        yield rig
    finally:
        rig.platform.purge()
        running.end_marked(MARK, EmbeddedFolder.at(home).identity, grace=1)


def listening(pids: Sequence[int]) -> set[str]:
    """Return the addresses that these processes listen on."""
    return {ip for pid in pids for ip, _ in ports.listeners(pid)}
