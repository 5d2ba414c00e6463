"""A gRPC server on a port of its own."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from mlops_pipeline.serving.errors import ExitCode, StartError


def message_limits(largest: int) -> list[tuple[str, int]]:
    """Return gRPC's options for messages of at most `largest` bytes; -1: of any size."""
    return [
        ("grpc.max_send_message_length", largest),
        ("grpc.max_receive_message_length", largest),
    ]


def bound_server(
    handlers: Sequence[Any], *, host: str, port: int, max_message_bytes: int
) -> tuple[Any, int]:
    """Return a server that has the port, and the port; with port 0, any free one.

    Raises:
        StartError: another process has it.
    """
    # Without this option, two servers on one port would share its calls, silently.
    options = [*message_limits(max_message_bytes), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(ThreadPoolExecutor(1), options=options)
    server.add_generic_rpc_handlers(list(handlers))
    try:
        return server, server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise StartError(
            f"gRPC cannot listen on {host}:{port}; check whether another process uses it.",
            code=ExitCode.PORT,
        ) from error
