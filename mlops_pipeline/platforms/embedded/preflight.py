"""What of this machine could get in the embedded platform's way."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run
from mlops_pipeline.platforms.embedded.supervised import SupervisedLayer
from mlops_pipeline.platforms.layers import Diagnosis, Layer, Ready

_REINSTALL = "remove .venv and run `make up`"


def examine(layers: Iterable[SupervisedLayer]) -> Iterator[Diagnosis]:
    """Look at the programs and the preferred ports. Changes nothing."""
    versions = [("supervisord", "--version"), *(layer.version for layer in layers)]
    yield from (_program(*command) for command in versions if command)
    yield from (_port(layer, layer.preferred_port) for layer in layers if layer.preferred_port)


def _program(name: str, *arguments: str) -> Diagnosis:
    path = Path(sys.executable).with_name(name)
    try:
        printed = run([str(path), *arguments], purpose=f"ask {name} for its version", timeout=10)
    except CommandError as error:
        return Diagnosis(name, str(error).splitlines()[0], _REINSTALL)
    found = re.search(r"\d+\.\d+(\.\d+)?", printed)
    return Diagnosis(
        name, found.group() if found else "unknown version", "" if found else _REINSTALL
    )


def _port(layer: Layer, port: int) -> Diagnosis:
    """A preferred port in a stranger's hands is no fault: another one is taken. Say which."""
    what, state = f"{layer.name} port", layer.observe()
    if isinstance(state, Ready):
        return Diagnosis(what, f"answers at {state.facts.get('address', '?')}")
    if ports.is_free(port):
        return Diagnosis(what, f"{port} is free")
    return Diagnosis(what, f"{port} is in use by another program: `up` uses the next free port")
