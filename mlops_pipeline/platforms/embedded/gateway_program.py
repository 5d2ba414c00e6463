"""Envoy as a program: its bootstrap configuration, and how it is run."""

import hashlib
from pathlib import Path

from mlops_pipeline.clients import envoy
from mlops_pipeline.platforms.embedded import envoy_config
from mlops_pipeline.platforms.embedded.live_routes import PROGRAM, live_folder
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder


def bootstrap(state: EmbeddedFolder, port: int) -> str:
    """Return what Envoy reads once, when it starts."""
    return envoy_config.bootstrap(port=port, admin=state.socket("ev.sock"), live=live_folder(state))


def program(state: EmbeddedFolder, file: Path, content: str, *, workers: int) -> Program:
    """Return the program with the bootstrap configuration `content` in `file`."""
    command = (
        str(envoy.binary()),
        *("--config-path", str(file)),
        *("--concurrency", str(workers)),
        *("--log-level", "warning"),
        "--disable-hot-restart",
    )
    # Envoy reads it only at its start, so another configuration makes another program.
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
    environment = {"BOOTSTRAP_FINGERPRINT": fingerprint}
    return Program(PROGRAM, command, state.gateway, environment=environment, stop_seconds=5)
