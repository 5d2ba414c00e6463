"""The output of a run's workers, stored beside Dagster's records and shown in the UI.

Dagster's own manager copies the streams of the process that executes the steps: with four processes
for each run, each of which answers Ctrl-C with a traceback. That process prints nothing. Only the
workers do, and their output comes through pipes anyway.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._serdes import ConfigurableClassData

from mlops_pipeline.delivery.working import WorkerContext
from mlops_pipeline.resources.turn import turn_released
from mlops_pipeline.settings import load_settings

MOST = 4 << 20
"""Number of bytes of each stream of a run that are stored."""
_TYPES = {extension: io_type for io_type, extension in IO_TYPE_EXTENSION.items()}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Log:
    key: tuple[str, ...]
    left: dict[str, int]
    """Stream → bytes for which there is room."""


class StepOutput(LocalComputeLogManager):
    """Stores what is written to it while a run executes, at most `MOST` bytes of each stream."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data=inst_data)
        self._running = threading.local()  # One process may execute two runs, in two threads.

    @classmethod
    def config_type(cls) -> Any:
        """Return the empty schema: the output is stored below the folder of the instance."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "StepOutput":
        """Return the manager of the instance that this process uses."""
        home = os.environ.get("DAGSTER_HOME") or load_settings().dagster_home
        return cls(str(Path(home) / "storage"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Store under `log_key` what is written while the context lasts."""
        self._running.log = log = _Log(tuple(log_key), dict.fromkeys(_TYPES, MOST))
        try:
            yield CapturedLogContext(log_key)
        finally:
            self._running.log = None
            log.left.update(dict.fromkeys(_TYPES, 0))
            complete = Path(self.get_captured_local_path(log_key, "complete"))
            complete.parent.mkdir(parents=True, exist_ok=True)
            complete.touch()

    def writer(self) -> Callable[[str, str], None]:
        """Return a function that appends text of `out` or `err` to the log of this thread's run."""
        log: _Log | None = getattr(self._running, "log", None)

        def write(stream: str, text: str) -> None:
            if log is not None:
                self._write(log, stream, text)

        return write

    def _write(self, log: "_Log", stream: str, text: str) -> None:
        if log.left[stream] <= 0:
            return
        log.left[stream] -= len(text.encode())
        if log.left[stream] <= 0:
            text = f"(output after the first {MOST >> 20} MiB is not stored)\n"
        try:
            with self.open_log_stream(log.key, _TYPES[stream]) as file:
                if file is not None:
                    file.write(text)
        except OSError as error:
            log.left[stream] = 0
            _logger.warning("the output of the workers is not stored: %s", error)


def worker_context(instance: dg.DagsterInstance) -> WorkerContext:
    """Return the context of a run's workers: without the turn, and with their output stored."""
    manager = instance.compute_log_manager
    if isinstance(manager, StepOutput):
        return WorkerContext(manager.writer(), turn_released)
    if isinstance(manager, NoOpComputeLogManager):
        return WorkerContext(without_turn=turn_released)
    return WorkerContext(_print, turn_released)  # Others store what this process prints.


def _print(stream: str, text: str) -> None:
    getattr(sys, f"std{stream}").write(text)
