"""What can be chosen about the embedded platform."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddedOptions:
    """Ports are preferences: when a stranger has one, the next free one is taken and kept."""

    gateway_port: int = 8080
    object_store_port: int = 8333
    internal_port: int | None = None
    """Where the object store's inner ports begin; None: somewhere that its state folder decides."""
    model_port: int = 9000
    """Where the model servers' ports begin; two for each replica."""
    ready_timeout: float = 90.0
    """Seconds in which a process must become ready."""
    drain_timeout: float = 15.0
    """Seconds that requests may take to end before their model server is stopped."""
    lock_timeout: float = 180.0
    """Seconds to wait for another process that changes the same thing."""
    max_body_bytes: int = 16 << 20
    """Largest body of a request that a model server takes."""
    gateway_workers: int = max(1, (os.cpu_count() or 1) // 2)
    """Threads of Envoy that serve requests: half of the processors, so that under load the model
    servers get theirs. One routes about 10,000 requests/s."""
    buckets: tuple[str, ...] = ("models", "datasets")
    server_command: tuple[str, ...] = ()
    """The model server's command before `--model FOLDER`; empty: this project's own runtime."""
