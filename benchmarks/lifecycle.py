"""The life cycle by the clock: the installed command, with a state folder and ports of its own."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.process import run
from mlops_pipeline.clients.waiting import MONOTONIC
from mlops_pipeline.platforms.embedded.programs import MARK
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder

COMMAND = str(Path(sys.executable).with_name("mlops-pipeline"))
FIRST_PORT = 23_000
TIMEOUT = 300.0
REST_SECONDS = 5.0
"""From the end of `up` to the measurement of memory."""
IMPORT = "from mlops_pipeline.definitions import embedded; embedded()"
CHANGED = "flowers"
_CHANGED_MODEL = """
from dataclasses import replace
from mlops_pipeline.catalog.iris import IRIS

FLOWERS = replace(
    IRIS,
    name="flowers",
    hyperparameters={{**IRIS.hyperparameters, "C": {regularization}}},
    server=replace(IRIS.server, deployment="flowers"),
)
"""


@dataclass(frozen=True)
class Plan:
    """How often to repeat what."""

    from_nothing: int
    repeats: int


@dataclass(frozen=True)
class Platform:
    """One installation: the command line, and the processes that it leaves running."""

    home: Path

    @property
    def state(self) -> EmbeddedFolder:
        """Return where the embedded platform keeps what it knows."""
        return EmbeddedFolder.at(self.home / "embedded")

    def run(self, *arguments: str, **variables: str) -> float:
        """Run `mlops-pipeline …` and return the seconds it took."""
        begin = time.perf_counter()
        run(
            [COMMAND, *arguments],
            purpose=f"run `mlops-pipeline {' '.join(arguments)}`",
            timeout=TIMEOUT,
            environment={**self.environment(), **variables},
            directory=self.home.parent,
        )
        return time.perf_counter() - begin

    def environment(self) -> dict[str, str]:
        """Return the settings, as variables."""
        settings = {
            "HOME": str(self.home),
            "EMBEDDED__GATEWAY_PORT": str(FIRST_PORT),
            "EMBEDDED__OBJECT_STORE_PORT": str(FIRST_PORT + 1),
            "EMBEDDED__MODEL_PORT": str(FIRST_PORT + 10),
        }
        return {f"MLOPS_{name}": value for name, value in settings.items()}

    def processes(self) -> list[psutil.Process]:
        """Return every process of the platform."""
        return [psutil.Process(pid) for pid in running.marked(MARK, self.state.identity)]

    def envoy(self) -> psutil.Process:
        """Return the gateway's process."""
        return next(p for p in self.processes() if name_of(p) == "gateway")

    def gateway_port(self) -> int:
        """Return the one port that the gateway listens on."""
        ((_, port),) = ports.listeners(self.envoy().pid)
        return port

    def model_server(self, deployment: str) -> psutil.Process:
        """Return the one model server of a deployment."""
        (process,) = (p for p in self.processes() if name_of(p) == f"model server {deployment}")
        return process

    def remove(self) -> None:
        """Stop and remove everything."""
        if self.home.exists():
            self.run("down", "--purge", "--yes")


def name_of(process: psutil.Process) -> str:
    """Return what a process of the platform is."""
    deployment = process.environ().get("SELDON_DEPLOYMENT_ID")
    if deployment:
        return f"model server {deployment}"
    names = {"envoy": "gateway", "weed": "object store"}
    return names.get(Path(process.cmdline()[0]).name, "supervisor")


@contextmanager
def platform_in(folder: Path) -> Iterator[Platform]:
    """Yield a platform that is not there yet; nothing of it is left afterwards."""
    platform = Platform(folder / "home")
    try:
        yield platform
    finally:
        try:
            platform.remove()
        finally:
            running.end_marked(MARK, platform.state.identity, grace=1)


def measure(platform: Platform, plan: Plan) -> dict[str, Any]:
    """Measure the life cycle and leave the platform up."""
    values: dict[str, list[float]] = {}
    assets: list[Mapping[str, float]] = []
    for _ in range(plan.from_nothing):
        platform.remove()
        values.setdefault("up from nothing", []).append(platform.run("up"))
        assets.append(seconds_of_assets(platform.home))
    memory = memory_at_rest(platform)
    again: list[Mapping[str, float]] = []
    for _ in range(plan.repeats):
        values.setdefault("up again", []).append(platform.run("up"))
        again.append(seconds_of_assets(platform.home))
        values.setdefault("status", []).append(platform.run("status"))
        values.setdefault("definitions", []).append(_import_definitions(platform))
    values["changed model"], changed = _change_model(platform, plan.repeats)
    return {
        "seconds": values,
        "assets": {"up from nothing": assets, "up again": again, "changed model": changed},
        "memory": memory,
    }


def _import_definitions(platform: Platform) -> float:
    """Return the seconds from Python's start to the end of a process that makes the definitions."""
    begin = time.perf_counter()
    run(
        [sys.executable, "-c", IMPORT],
        purpose="import the definitions",
        timeout=TIMEOUT,
        environment=platform.environment(),
        directory=platform.home.parent,
    )
    return time.perf_counter() - begin


def _change_model(
    platform: Platform, repeats: int
) -> tuple[list[float], list[Mapping[str, float]]]:
    """Deploy a copy of Iris, then change its hyper-parameter and deploy it, again and again."""
    file = platform.home.parent / "flowers.py"
    seconds: list[float] = []
    assets: list[Mapping[str, float]] = []
    for number in range(repeats + 1):
        file.write_text(_CHANGED_MODEL.format(regularization=1 + number / 1000))
        seconds.append(platform.run("up", CHANGED, MLOPS_MODELS=str(file)))
        assets.append(seconds_of_assets(platform.home))
    platform.run("delete", CHANGED)
    return seconds[1:], assets[1:]


def seconds_of_assets(home: Path) -> dict[str, float]:
    """Return the seconds of each step of the latest run, from Dagster's event log."""
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (latest,) = instance.get_run_records(limit=1)
        steps = instance.get_run_step_stats(latest.dagster_run.run_id)
    return {
        step.step_key.removeprefix("embedded__").replace("__", "/"): step.end_time - step.start_time
        for step in steps
        if step.start_time and step.end_time
    }


def memory_at_rest(platform: Platform) -> dict[str, Any]:
    """Return the bytes that each process of the platform occupies.

    PSS counts what processes share once; where the system does not tell it, RSS counts it in
    each of them.
    """
    MONOTONIC.sleep(REST_SECONDS)
    parts: dict[str, int] = {}
    kind = "PSS"
    for process in platform.processes():
        full = process.memory_full_info()
        if not hasattr(full, "pss"):
            kind = "RSS"
        name = name_of(process)
        parts[name] = parts.get(name, 0) + getattr(full, "pss", full.rss)
    return {"kind": kind, "parts": parts}
