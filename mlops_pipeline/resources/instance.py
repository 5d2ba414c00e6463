"""The folder of the Dagster instance, and its configuration."""

import os
from pathlib import Path

import yaml

from mlops_pipeline.clients.files import (
    close_to_others,
    make_private,
    write_if_changed,
    writing,
)
from mlops_pipeline.platforms.build import PLATFORMS
from mlops_pipeline.settings import Settings

CONFIGURATION = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    # Steps print nothing: the error of a step contains a worker's output. The default starts four
    # processes for each step to copy the streams, and each of them answers Ctrl-C with a trace.
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
    "python_logs": {"managed_python_loggers": ["mlops_pipeline"], "python_log_level": "INFO"},
}

_OURS = {*PLATFORMS, "dagster", "examples"}
"""Expected content of a state folder. A folder with more may be a home folder."""


def prepare_instance(settings: Settings) -> Path:
    """Make the instance's folder, which only its owner may enter, and return it.

    Its configuration is written once; the user may change it. From here on, only the user can read
    files and folders that this process and its children create.

    Raises:
        ConfigurationError: the state folder cannot be written.
    """
    home = settings.dagster_home
    os.umask(0o077)
    with writing(home / "dagster.yaml"):
        make_private(home)
        close_to_others(home)
        if {path.name for path in settings.home.iterdir()} <= _OURS:
            close_to_others(settings.home)
    file = home / "dagster.yaml"
    if not file.exists() or (file.is_file() and file.stat().st_size == 0):
        write_if_changed(file, yaml.safe_dump(CONFIGURATION, sort_keys=False))
    return home


def describe_fault(configuration: Path) -> str | None:
    """Return why Dagster cannot read the configuration of an instance, or None."""
    try:
        settings = yaml.safe_load(configuration.read_text())
    except OSError as error:
        return error.strerror
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return str(error)
    return None if isinstance(settings, dict) else "it contains no settings"
