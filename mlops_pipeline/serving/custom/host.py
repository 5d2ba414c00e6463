"""Loads the class in its own process, and answers the server's requests with it."""

import contextlib
import importlib
import inspect
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.custom import seldon_names, wire
from mlops_pipeline.serving.custom.answers import ComponentError, out_of_memory
from mlops_pipeline.serving.custom.component import Component, Guard
from mlops_pipeline.serving.custom.options import LIMITS
from mlops_pipeline.serving.settings import ADDRESSES

LATER = 5
"""Seconds after the deadline of a request or of loading at which an alarm ends the process. The
server does so before; without it, this ends a class that hangs in C code with Python's lock."""


def answer_all(channel: socket.socket, folder: Path) -> int:
    """Load the class, say so, and answer requests until the server is gone; return an exit code."""
    order = wire.receive(channel)["value"]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, order["load_seconds"] + LATER)
    try:
        component = load(folder, order, channel)
        ready = {
            "title": component.title,
            "feature_names": component.feature_names(),
            "metadata": component.metadata(),
            "has_raw": component.has_raw,
            "has_health": component.has_health,
            "is_rowwise": component.is_rowwise,
        }
    except ComponentError as error:
        wire.send(channel, {"error": str(error)})
        return 1
    wire.send(channel, {}, ready)
    with contextlib.suppress(wire.WireError):
        while True:
            channel.settimeout(None)
            _answer(channel, component, wire.receive(channel))
    return 0


def load(folder: Path, order: Mapping[str, Any], channel: socket.socket) -> Component:
    """Import the class, make an object of it and call its `load`.

    If the artifact sets limits of the server, the server is asked for all limits in between.

    Raises:
        ComponentError: one of these raised something, or a parameter is unknown.
    """
    # Before the class and its libraries are imported. What it starts has this limit for itself.
    _limit_memory(order["max_memory"])
    seldon_names.provide()
    module, name = order["module"], order["class"]
    guard = Guard(name, folder)
    found = guard.run("import", lambda: getattr(importlib.import_module(module), name))
    if not callable(found):
        raise ComponentError("NO_CLASS", f"{name} of {module}.py is not a class")
    arguments, limits = _arguments(found, order)
    if limits:
        wire.send(channel, {"limits": limits})
        agreed = wire.receive(channel)["value"]
        _limit_memory(agreed["max_memory"])
        signal.setitimer(signal.ITIMER_REAL, agreed["load_seconds"] + LATER)
    component = Component(guard.run("__init__", lambda: found(**arguments)), guard)
    component.load()
    return component


def _limit_memory(size: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # macOS has no such limit.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def _arguments(found: Any, order: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the constructor, and the server's limits among the parameters.

    A limit in `component.json` is the class's if the constructor has an argument of that name. It
    is the server's otherwise, also of a constructor with `**`; the graph's limit replaces it.

    Raises:
        ComponentError: there is a parameter that neither the class nor the server has, or both.
    """
    given, ours, limits = order["parameters"], order["ours"], order["limits"]
    known = inspect.signature(found).parameters.values()
    takes_any = any(one.kind is one.VAR_KEYWORD for one in known)
    named = [one.name for one in known if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if both := [name for name in limits if name in named]:
        raise ComponentError(
            "WRONG_PARAMETER",
            f"the graph's parameter {', '.join(map(repr, both))} is the server's, and "
            f"{order['class']} has an argument of that name: rename the argument",
        )
    limits = {name: value for name, value in given.items() if name in LIMITS and name not in named}
    unknown = [name for name in given if name not in (*named, *ADDRESSES, *limits)]
    if unknown and not takes_any:
        raise ComponentError(
            "UNKNOWN_PARAMETER",
            f"unknown parameter {', '.join(map(repr, unknown))}; {order['class']} takes "
            f"{', '.join(named) or 'none'}, and the server {', '.join(ours)}",
        )
    arguments = {name: value for name, value in given.items() if name in (*named, *unknown)}
    graph = order["limits"]
    return arguments, {name: value for name, value in limits.items() if name not in graph}


def _answer(channel: socket.socket, component: Component, request: Mapping[str, Any]) -> None:
    """Answer one request."""
    header: dict[str, Any]
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + LATER)
    try:
        header, value = _header(component, request)
        wire.send(channel, header, value)
    except wire.WireError:
        raise
    except ComponentError as error:
        _refuse(channel, error)
    except MemoryError:
        _refuse(channel, out_of_memory(f"the answer of {component.title}"))
    except Exception as error:  # noqa: BLE001 - process boundary: an answer of an odd type
        problem = f"{component.title} returned an answer that cannot be read: {error!r:.300}"
        _refuse(channel, ComponentError("UNWRITABLE", problem))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.flush()


def _refuse(channel: socket.socket, error: ComponentError) -> None:
    wire.send(channel, {"error": str(error), "reason": error.reason, "status": error.status})


def _header(component: Component, request: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the header and the value of an answer."""
    method, value = request["method"], request["value"]
    if method == "health":
        return {}, component.health()
    if method == "raw":
        reply = component.predict_raw(value)
    else:
        given = _rows(value) if request["are_rows"] else value
        reply = component.predict(given, request["names"], request["meta"])
    return {"names": reply.names, "tags": reply.tags, "metrics": reply.metrics}, reply.value


def _rows(value: Any) -> Any:
    """Return rows that are not all numbers as an array, of booleans if all of them are."""
    if not isinstance(value, list):
        return value
    rows = np.array(value, dtype=object)
    is_boolean = rows.size and all(type(item) is bool for item in rows.flat)
    return rows.astype(bool) if is_boolean else rows
