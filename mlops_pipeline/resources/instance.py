"""The folder of the Dagster instance, and Dagster's own commands that do not know it."""

from pathlib import Path

import yaml

from mlops_pipeline.clients.files import write_if_changed, writing
from mlops_pipeline.settings import Settings

CONFIGURATION = {
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


def prepare_instance(settings: Settings) -> Path:
    """Make the instance's folder, which only its owner may enter, and return it.

    Its configuration is written once: it is the user's then.

    Raises:
        ConfigurationError: the state folder cannot be written.
    """
    home = settings.dagster_home
    with writing(home / "dagster.yaml"):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
    if not (home / "dagster.yaml").exists():
        write_if_changed(home / "dagster.yaml", yaml.safe_dump(CONFIGURATION, sort_keys=False))
    return home
