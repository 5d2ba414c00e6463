"""Servers of the tests' own in a thread, and calls in a process of their own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from socketserver import BaseServer
from typing import Any

PROCESSES = get_context("forkserver")
"""Not "fork": a copy of a process with threads may wait for ever for a lock of one of them."""
PROCESSES.set_forkserver_preload(["mlops_pipeline_tests.embedded.rig"])


def exit_code_of(target: Callable[..., None], *given: Any) -> int:
    """Call a function of a module in a process of its own, which may take a minute."""
    process = PROCESSES.Process(target=target, args=given)
    process.start()
    try:
        process.join(60)
        assert process.exitcode is not None, "it has not ended"
        return process.exitcode
    finally:
        process.kill()
        process.join()


@contextmanager
def in_background(server: BaseServer) -> Iterator[None]:
    """Let the server answer while the context lasts, and close it then."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
