"""The parts of a server's process outside of serving: sockets, a log, an event loop, its end."""

import asyncio
import logging
import os
import signal
import socket
import sys

from mlops_pipeline.serving.errors import ExitCode, StartError


def bind(host: str, port: int) -> socket.socket:
    """Bind a port, without listening on it yet: connections are refused.

    Raises:
        StartError: another process has it, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise StartError(
            f"HTTP cannot listen on {host}:{port}: {error.strerror or error}.", code=ExitCode.PORT
        ) from error
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port, before anything slow: two servers on one port are detected at once.

    Raises:
        StartError: another process has it, or the address is not this machine's.
    """
    listener = bind(host, port)
    try:
        listener.listen(2048)
    except OSError as error:  # Two sockets may be bound to a port, but only one may listen.
        raise StartError(
            f"HTTP cannot listen on {host}:{port}: {error.strerror or error}.", code=ExitCode.PORT
        ) from error
    return listener


def log_to_stdout() -> None:
    """Print the server's log; the libraries' own logs do not change."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(name)s] %(levelname)s - %(message)s"))
    logger = logging.getLogger("mlops_pipeline.serving")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop if it is installed, otherwise asyncio's."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def end_when_told() -> None:
    """End at SIGTERM until the server has its own handler.

    The kernel ends any other process by default. The first process of a container ignores a signal
    without a handler, and would be killed only after the pod's grace period.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.OK))
