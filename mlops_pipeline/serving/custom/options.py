"""The graph parameters of a custom component that are the server's, not the class's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.serving.batch_limits import PARAMETERS as BATCHING
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import ADDRESSES, Parameter

TIMEOUT, LOAD_TIMEOUT, MAX_MEMORY = "timeout", "load_timeout", "max_memory"
LIMITS = (TIMEOUT, LOAD_TIMEOUT, MAX_MEMORY, *BATCHING)
"""In the graph, they are the server's alone. In `component.json`, one that the constructor of the
class has as an argument is the class's; the others are the server's, unless the graph sets them."""
OURS = (*LIMITS, *ADDRESSES)
"""The class gets an address only if its constructor has an argument of that name."""
MOST_SECONDS = 30.0
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SHARE = 0.75
"""The server itself needs the rest."""
_COPIES = 4
"""An answer, its JSON, which is up to three times as long."""
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


@dataclass(frozen=True)
class Options:
    """Limits of the component's process."""

    seconds: float = 5.0
    """For the answer to a request; then the process is ended. Seldon's own default."""
    load_seconds: float = 120.0
    """For importing the class, its constructor and `load`."""
    max_memory: int = 1 << 30
    """Bytes of data that the process may allocate."""
    most_answer_bytes: int = 256 << 20
    """Bytes of an answer: writing it takes the server a multiple of them."""


def split(
    parameters: Mapping[str, Parameter],
) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
    """Return the graph's parameters that may be the class's, and those that are the server's."""
    given = {name: value for name, value in parameters.items() if name not in LIMITS}
    return given, {name: value for name, value in parameters.items() if name in LIMITS}


def read(parameters: Mapping[str, Parameter]) -> Options:
    """Return the limits that the graph's parameters set.

    Raises:
        StartError: one of them is invalid.
    """
    seconds = _seconds(parameters, TIMEOUT, Options.seconds, MOST_SECONDS)
    load_seconds = _seconds(parameters, LOAD_TIMEOUT, Options.load_seconds, 3600.0)
    here = memory_here()
    if MAX_MEMORY not in parameters:
        max_memory = int(here * _SHARE)
        return Options(seconds, load_seconds, max_memory, _most_answer(here, max_memory))
    text = str(parameters[MAX_MEMORY])
    unit = text.lstrip("0123456789")
    number = text.removesuffix(unit)
    if unit not in _UNITS or not number or int(number) * _UNITS[unit] < _UNITS["Mi"]:
        raise _invalid(MAX_MEMORY, "a number of bytes of at least 1Mi, such as 512Mi", text)
    max_memory = int(number) * _UNITS[unit]
    return Options(seconds, load_seconds, max_memory, _most_answer(here, max_memory))


def _most_answer(here: int, max_memory: int) -> int:
    """Return the most bytes of an answer that what the class leaves of the memory can hold."""
    left = max(here - max_memory, 0) // _COPIES
    return min(max(left, _UNITS["Mi"]), Options.most_answer_bytes)


def memory_here() -> int:
    """Return the bytes of memory that this container may use, or that this machine has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUPS:
        try:
            return min(total, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return total


def _seconds(parameters: Mapping[str, Parameter], name: str, default: float, most: float) -> float:
    given = parameters.get(name, default)
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= most:
        raise _invalid(name, f"a number of seconds, more than 0 and at most {most:g}", given)
    return seconds


def _invalid(name: str, wanted: str, given: object) -> StartError:
    return StartError(
        f"The parameter {name} must be {wanted}, got {given!r}.", code=ExitCode.SETTINGS
    )
