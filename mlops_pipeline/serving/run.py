"""One server process, from its settings to its exit code."""

import asyncio
import gc
import os
import socket
import sys
import threading
import warnings

from mlops_pipeline.serving import imports, loading
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.settings import ServerSettings


def run(own: ServerSettings, *, implementation: str | None, started: float) -> ExitCode:
    """Verify the artifact, then serve it until SIGTERM or SIGINT.

    `started` is the monotonic time at which the process began, for the log.

    Raises:
        StartError: the server cannot start; says why.
    """
    manifest = loading.verify(own.model_folder)
    if implementation:
        loading.check_implementation(manifest, implementation)
    listener = listen(own.host, own.http_port)
    # Overflows in a model: an answer that is not finite is refused, and needs no line in the log.
    warnings.simplefilter("ignore", RuntimeWarning)
    gc.disable()  # Imports make many objects and no garbage; the server enables it when ready.
    imports.import_mlserver()
    from mlops_pipeline.serving.server import LOADER_THREAD, OneModelServer

    async def serve() -> None:
        server = OneModelServer(own, manifest, listener=listener, started=started)
        await server.start()

    loop = _event_loop()
    try:
        loop.run_until_complete(serve())
    finally:
        sys.stdout.flush()
    if any(thread.name == LOADER_THREAD for thread in threading.enumerate()):
        # Stopped while loading: an interpreter that ends under TensorFlow's import may crash.
        os._exit(ExitCode.OK)
    return ExitCode.OK


def listen(host: str, port: int) -> socket.socket:
    """Take the HTTP port, before anything slow: two servers on one port are found out at once.

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
        listener.listen(2048)
    except OSError as error:
        raise StartError(
            f"HTTP cannot listen on {host}:{port}: {error.strerror or error}.", code=ExitCode.PORT
        ) from error
    return listener


def _event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
