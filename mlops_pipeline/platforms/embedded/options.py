"""What can be chosen about the embedded platform."""

import os

from mlops_pipeline.serving.artifact import MOST_BYTES
from mlops_pipeline.settings.answers import AnswersSettings
from mlops_pipeline.settings.embedded import EmbeddedSettings
from mlops_pipeline.settings.fields import Port, Seconds


class EmbeddedOptions(EmbeddedSettings):
    """The user's settings, and what only tests choose.

    Ports are preferences: when another program uses one, the next free port is taken and kept.
    """

    internal_port: Port | None = None
    """Where the object store's inner ports begin; None: somewhere that its state folder decides."""
    lock_timeout: Seconds = 180.0
    """Seconds to wait for another process that changes the same thing."""
    gateway_workers: int = max(1, (os.cpu_count() or 1) // 2)
    """Threads of Envoy that serve requests: half of the processors, so that under load the model
    servers get theirs. One routes about 10,000 requests/s."""
    buckets: tuple[str, ...] = ("models", "datasets")
    answers: AnswersSettings = AnswersSettings()
    """The log of answers, which has a bucket of its own if it is enabled."""
    max_artifact_bytes: int = MOST_BYTES
    """Maximum size of an artifact that a server downloads."""
    server_command: tuple[str, ...] = ()
    """The model server's command before `--model FOLDER`; empty: this project's own runtime."""
