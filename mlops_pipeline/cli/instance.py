"""The Dagster instance that `up`, `rollback` and the UI share, and how the UI is started."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mlops_pipeline.clients.files import write_if_changed
from mlops_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

_INSTANCE = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "python_logs": {"managed_python_loggers": ["mlops_pipeline"], "python_log_level": "INFO"},
}


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
    location = {
        "module_name": "mlops_pipeline.definitions",
        "attribute": "embedded",
        "location_name": "embedded",
        "working_directory": str(Path.cwd()),
    }
    return {"load_from": [{"python_module": location}]}


def open_instance(settings: Settings) -> "DagsterInstance":
    """Return the instance, making it when it is new."""
    home = prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    import dagster as dg

    return dg.DagsterInstance.from_config(str(home))


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
