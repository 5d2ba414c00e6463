"""Runs the process that loads a dataset or trains a model (`catalog.worker`)."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.process import OnLine, run

_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONUNBUFFERED": "1",  # What a model prints is seen at once.
    # These decide about the last digits of sums. TensorFlow splits them by its number of threads,
    # so by default each machine would train another artifact.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_NUM_INTRAOP_THREADS": "4",
}


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
    run(command, purpose=purpose, timeout=timeout, environment=_ENVIRONMENT, on_line=on_line)
