"""uvicorn, configured for our servers."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import uvicorn

from mlops_pipeline.serving.asgi import Asgi
from mlops_pipeline.serving.http_protocol import protocol_with


class Limits(Protocol):
    """The limits among a server's settings that uvicorn needs."""

    @property
    def receive_seconds(self) -> float:
        """Seconds from a request's first byte to its last."""

    @property
    def drain_seconds(self) -> float:
        """Seconds to finish the current requests after the signal to stop."""

    @property
    def keep_alive_seconds(self) -> float:
        """Seconds for which an idle connection stays open."""


def uvicorn_config(app: Asgi, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's configuration for an application that needs only HTTP."""
    return uvicorn.Config(
        app,
        http=protocol_with(limits.receive_seconds),
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        log_level="error",
        timeout_keep_alive=int(limits.keep_alive_seconds),
        timeout_graceful_shutdown=int(limits.drain_seconds) or 1,
    )


class SignalFreeServer(uvicorn.Server):
    """uvicorn without signal handlers: its caller stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
