"""The process of a custom component: `python -m mlops_pipeline.serving.custom.worker FD`.

It answers one request after another on the socket FD. Standard input is a pipe that the server
holds: if it ends, this process ends too, also in the middle of a request. A hang in C code that
keeps Python's lock is ended by an alarm.
"""

import contextlib
import importlib
import inspect
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LATER = 5
"""Seconds after a request's deadline at which the alarm rings; the server ends it before."""


def main() -> int:
    """Load the class, say so, and answer requests until the server is gone."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _end_with_the_server()
    sys.dont_write_bytecode = True
    # The component's own packages come first, also its numpy.
    folder = Path(sys.argv[2])
    sys.path[:0] = [str(folder), str(folder / "site-packages")]
    os.chdir(folder)
    from mlops_pipeline.serving.custom import wire
    from mlops_pipeline.serving.custom.component import Component, ComponentError

    order = wire.receive(channel)["value"]
    try:
        component = load(folder, order)
        ready = {
            "title": component.title,
            "feature_names": component.feature_names(),
            "metadata": component.metadata(),
            "has_raw": component.has_raw,
            "has_health": component.has_health,
            "is_rowwise": component.is_rowwise,
        }
        assert isinstance(component, Component)
    except ComponentError as error:
        wire.send(channel, {"error": str(error)})
        return 1
    wire.send(channel, {}, ready)
    with contextlib.suppress(wire.WireError):
        while True:
            _answer(channel, component, wire.receive(channel))
    return 0


def _end_with_the_server() -> None:
    """Watch the pipe on standard input in a thread; the class gets an empty input."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def load(folder: Path, order: Mapping[str, Any]) -> Any:
    """Import the class, make an object of it and call its `load`.

    Raises:
        ComponentError: one of these raised something, or a parameter is unknown.
    """
    from mlops_pipeline.serving.custom import seldon_names
    from mlops_pipeline.serving.custom.component import Component, ComponentError

    seldon_names.provide()
    name = order["class"]
    nobody = Component.__new__(Component)
    nobody.title, nobody._folder = name, str(folder.resolve())

    def find() -> Any:
        return getattr(importlib.import_module(order["module"]), name)

    found = nobody.guarded("import", find)
    if not callable(found):
        raise ComponentError("NO_CLASS", f"{order['module']}.{name} is not a class")
    arguments = _arguments(found, order)
    # Only now: the libraries that the class imports do not count.
    _limit_memory(order["max_memory"])
    user = nobody.guarded("__init__", lambda: found(**arguments))
    component = Component(user, folder)
    with contextlib.suppress(_NotThere):
        _load(component)
    return component


class _NotThere(Exception):
    pass


def _load(component: Any) -> None:
    """Call `load`; a class may say that it has none by NotImplementedError, as in the wrapper."""
    if not callable(getattr(component.user, "load", None)):
        return

    def call() -> None:
        try:
            component.user.load()
        except NotImplementedError as error:
            raise _NotThere from error

    try:
        component.guarded("load", call)
    except Exception as error:
        if isinstance(error.__cause__, _NotThere):
            return
        raise


def _arguments(found: Any, order: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the constructor: the parameters that it takes.

    Raises:
        ComponentError: there is a parameter that neither the class nor the server has.
    """
    from mlops_pipeline.serving.custom.component import ComponentError

    given, ours = order["parameters"], order["ours"]
    known = dict(inspect.signature(found).parameters)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in known.values())
    named = [
        name for name, one in known.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    unknown = [name for name in given if name not in (*named, *ours)]
    if unknown and not takes_any:
        raise ComponentError(
            "UNKNOWN_PARAMETER",
            f"unknown parameter {', '.join(map(repr, unknown))}; {order['class']} takes "
            f"{', '.join(named) or 'none'}, and the server {', '.join(ours)}",
        )
    return {name: value for name, value in given.items() if name in named or name in unknown}


def _limit_memory(size: int) -> None:
    """Let an allocation beyond `size` bytes raise MemoryError (Linux; elsewhere it is ignored)."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


def _answer(channel: socket.socket, component: Any, request: Mapping[str, Any]) -> None:
    """Answer one request."""
    from mlops_pipeline.serving.custom import wire
    from mlops_pipeline.serving.custom.component import ComponentError

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + LATER)
    try:
        header, value = _header(component, request)
    except ComponentError as error:
        header = {"error": str(error), "reason": error.reason, "status": error.status}
        value = None
    except MemoryError:
        header = {
            "error": "the answer needs more memory than the class may have; raise the "
            "parameter max_memory",
            "reason": "OUT_OF_MEMORY",
            "status": 500,
        }
        value = None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    channel.settimeout(None)
    wire.send(channel, header, value)
    sys.stdout.flush()


def _header(component: Any, request: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the header and the value of an answer."""
    import numpy as np

    method, value = request["method"], request["value"]
    if method == "health":
        return {}, component.health()
    if method == "raw":
        reply = component.predict_raw(value)
    else:
        if isinstance(value, list):
            value = np.array(value, dtype=object)
        reply = component.predict(value, request["names"], request["meta"])
    return {"names": reply.names, "tags": reply.tags, "metrics": reply.metrics}, reply.value


if __name__ == "__main__":
    sys.exit(main())
