"""Runs the process that loads a dataset or trains a model (`catalog.worker`)."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.process import OnLine, run

_ENVIRONMENT = {"PYTHONUNBUFFERED": "1"}  # What a model prints is seen at once.
_DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Sums are split by the number of threads: by default each machine trains another artifact.
    "TF_NUM_INTRAOP_THREADS": "4",
}
"""Variables that the user's environment may set otherwise."""


@dataclass(frozen=True)
class WorkerContext:
    """What a worker's process is connected to."""

    on_line: OnLine = lambda *_: None
    """Takes what it prints."""
    without_turn: Callable[[], AbstractContextManager[None]] = nullcontext
    """Makes a context in which others may take the turn."""


def work(
    job: str,
    model: RegisteredModel,
    *arguments: str,
    purpose: str,
    timeout: float,
    on_line: OnLine,
) -> None:
    """Run a worker to its end; see `clients.process.run`.

    Raises:
        CommandError: it failed or ran out of time; the end of its output.
    """
    command = [sys.executable, "-m", worker.__name__, job, model.source, *arguments]
    on_line("out", f"--- {purpose}\n")
    environment = _ENVIRONMENT | {n: os.environ.get(n, value) for n, value in _DEFAULTS.items()}
    run(command, purpose=purpose, timeout=timeout, environment=environment, on_line=on_line)
