"""`doctor`: what of this machine could get in the way, and what to do about it."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run
from mlops_pipeline.platforms.layers import Ready

_LEAST_DISK = 2 << 30
_LEAST_MEMORY = 2 << 30
_REINSTALL = "remove .venv and run `make up`"
_PYTHONS = ((3, 10), (3, 13))


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    seen: str
    remedy: str = ""
    """What to do; empty when it is fine."""

    @property
    def fine(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.remedy


def examine(context: Context) -> list[Finding]:
    """Look at the machine and the state folder. Changes nothing."""
    return [
        _python(),
        *(_program(name) for name in ("weed", "envoy", "supervisord")),
        _package("mlserver"),
        _package("dagster"),
        _state_folder(context.settings.home),
        _disk(context.settings.home),
        _memory(),
        *_ports(context),
    ]


def _python() -> Finding:
    fine = _PYTHONS[0] <= sys.version_info[:2] < _PYTHONS[1]
    remedy = "" if fine else "use Python 3.10, 3.11 or 3.12"
    return Finding("python", platform.python_version(), remedy)


def _program(name: str) -> Finding:
    path = Path(sys.executable).with_name(name)
    option = {"weed": "version", "envoy": "--version", "supervisord": "--version"}[name]
    try:
        lines = run([str(path), option], purpose=f"ask {name} for its version", timeout=10).split(
            "\n"
        )
    except CommandError as error:
        return Finding(name, str(error).splitlines()[0], _REINSTALL)
    found = re.search(r"\d+\.\d+(\.\d+)?", "\n".join(lines))
    return Finding(name, found.group() if found else "no version", "" if found else _REINSTALL)


def _package(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", _REINSTALL)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _state_folder(home: Path) -> Finding:
    if os.access(_existing(home), os.W_OK):
        return Finding("state folder", str(home))
    return Finding(
        "state folder", f"{home} cannot be written", "set MLOPS_HOME to a folder of yours"
    )


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(_existing(home)).free
    remedy = "" if free >= _LEAST_DISK else f"free {_LEAST_DISK >> 30} GiB or set MLOPS_HOME"
    return Finding("disk", f"{free / 2**30:.1f} GiB free", remedy)


def _memory() -> Finding:
    from mlops_pipeline.clients.machine import available_memory

    available = available_memory()
    remedy = "" if available >= _LEAST_MEMORY else "close programs: the models need about 2 GiB"
    return Finding("memory", f"{available / 2**30:.1f} GiB available", remedy)


def _ports(context: Context) -> Iterator[Finding]:
    """A preferred port in a stranger's hands is no fault: another one is taken. Say which."""
    from mlops_pipeline.clients.ports import is_free

    preferred = context.settings.embedded
    wanted = {"gateway": preferred.gateway_port, "object_store": preferred.object_store_port}
    for layer in context.platform.layers:
        if layer.name not in wanted:
            continue
        state, port = layer.observe(), wanted[layer.name]
        if isinstance(state, Ready):
            yield Finding(f"{layer.name} port", f"answers at {state.facts.get('address', '?')}")
        elif is_free(port):
            yield Finding(f"{layer.name} port", f"{port} is free")
        else:
            yield Finding(
                f"{layer.name} port",
                f"{port} is in use by another program: `up` takes the next free one",
            )
