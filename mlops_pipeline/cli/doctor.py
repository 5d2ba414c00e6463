"""`doctor`: what of this machine could get in the way, and what to do about it."""

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from mlops_pipeline.cli.context import Context
from mlops_pipeline.platforms.layers import Diagnosis

_LEAST_DISK = 2 << 30
_LEAST_MEMORY = 2 << 30
_REINSTALL = "remove .venv and run `make up`"
_PYTHONS = ((3, 11), (3, 14))


def examine(context: Context) -> list[Diagnosis]:
    """Look at the machine and the state folder. Changes nothing."""
    return [
        _python(),
        _package("uvicorn"),
        _package("dagster"),
        _state_folder(context.settings.home),
        _disk(context.settings.home),
        _memory(),
        *(Diagnosis(f"model {m.label}", m.describe(), "correct it") for m in context.refused),
        *context.platform.preflight(),
    ]


def _python() -> Diagnosis:
    fine = _PYTHONS[0] <= sys.version_info[:2] < _PYTHONS[1]
    remedy = "" if fine else "use Python 3.11, 3.12 or 3.13"
    return Diagnosis("python", platform.python_version(), remedy)


def _package(name: str) -> Diagnosis:
    try:
        return Diagnosis(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Diagnosis(name, "not installed", _REINSTALL)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _state_folder(home: Path) -> Diagnosis:
    if os.access(_existing(home), os.W_OK):
        return Diagnosis("state folder", str(home))
    return Diagnosis(
        "state folder", f"{home} is not writable", "set MLOPS_HOME to a writable folder"
    )


def _disk(home: Path) -> Diagnosis:
    free = shutil.disk_usage(_existing(home)).free
    remedy = "" if free >= _LEAST_DISK else f"free {_LEAST_DISK >> 30} GiB or set MLOPS_HOME"
    return Diagnosis("disk", f"{free / 2**30:.1f} GiB free", remedy)


def _memory() -> Diagnosis:
    from mlops_pipeline.clients.machine import available_memory

    available = available_memory()
    remedy = "" if available >= _LEAST_MEMORY else "close programs: the models need about 2 GiB"
    return Diagnosis("memory", f"{available / 2**30:.1f} GiB available", remedy)
