"""The Dagster instance that `up`, `rollback` and the UI share, and how the UI is started."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.files import write_if_changed
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.build import PLATFORMS
from mlops_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

_INSTANCE = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    # Steps print nothing: what a worker said is in the error of its step. The default starts four
    # processes for each step to copy the streams, and each of them answers Ctrl-C with a trace.
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
    "python_logs": {"managed_python_loggers": ["mlops_pipeline"], "python_log_level": "INFO"},
}

_LEAST_FREE = 16 << 20
"""Bytes of disk without which a run is not begun: its records would break off."""
_TURN = 3600.0
"""Seconds to wait for the run of another command."""


def prepare_instance(settings: Settings) -> Path:
    """Write the instance's configuration unless it is there, and return its folder.

    Raises:
        ConfigurationError: the state folder cannot be written.
    """
    home = settings.dagster_home
    if not (home / "dagster.yaml").exists():
        write_if_changed(home / "dagster.yaml", yaml.safe_dump(_INSTANCE, sort_keys=False))
    return home


def _workspace() -> dict[str, object]:
    """Return the workspace of the UI: as workspace.yaml of a checkout, but found from anywhere."""
    locations = [
        {
            "module_name": "mlops_pipeline.definitions",
            "attribute": name,
            "location_name": name,
            "working_directory": str(Path.cwd()),
        }
        for name in PLATFORMS
    ]
    return {"load_from": [{"python_module": location} for location in locations]}


def remove_records(settings: Settings) -> None:
    """Remove the runs and examples, unless another platform in the state folder has them too."""
    if any((settings.home / name).exists() for name in PLATFORMS):
        return
    for folder in (settings.dagster_home, settings.home / "examples"):
        shutil.rmtree(folder, ignore_errors=True)


def open_instance(settings: Settings) -> "DagsterInstance":
    """Return the instance, making it when it is new."""
    home = prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    import dagster as dg

    return dg.DagsterInstance.from_config(str(home))


@contextmanager
def instance_for_run(
    settings: Settings, *, on_wait: Callable[[str], None]
) -> Iterator["DagsterInstance"]:
    """Open the instance for one run, after that of another command has ended.

    Two at once would each find the other's half-made assets: checks not evaluated yet, references
    that change between two steps. `on_wait` is told which process is waited for.

    Raises:
        ConfigurationError: the disk is full; nothing was changed.
        UnavailableError: another command took too long, or the records cannot be written.
    """
    home = prepare_instance(settings)
    if (free := shutil.disk_usage(home).free) < _LEAST_FREE:
        raise ConfigurationError(
            f"the disk of {home} has {free >> 20} MiB free, and the records of a run need "
            f"{_LEAST_FREE >> 20} MiB; free space there or choose another folder with MLOPS_HOME. "
            "Nothing was changed"
        )
    from sqlalchemy.exc import DBAPIError

    turn = Locks(home, timeout=_TURN).held("up", purpose="run `mlops-pipeline up`", on_wait=on_wait)
    try:
        with turn, open_instance(settings) as instance:
            yield instance
    except DBAPIError as error:
        raise UnavailableError(
            f"Dagster's records in {home} cannot be read or written ({error.orig}); free space "
            "there, or move the folder away to begin with new ones, and run the command again"
        ) from error


def ui_command(settings: Settings, *, host: str, port: int) -> list[str]:
    """Return the command that serves the UI and runs the daemon, until it is interrupted."""
    workspace = prepare_instance(settings) / "workspace.yaml"
    write_if_changed(workspace, yaml.safe_dump(_workspace(), sort_keys=False))
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    # `dagster dev` points to another tool, which manages projects of another layout.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Function `dev_command`")
    return [
        *(str(Path(sys.executable).with_name("dagster")), "dev"),
        *("--workspace", str(workspace), "--host", host, "--port", str(port)),
    ]
