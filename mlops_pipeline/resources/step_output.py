"""What the workers of a run print, kept beside Dagster's records and shown in the UI.

Dagster's own manager copies the streams of the process that executes the steps: with four processes
for each run, each of which answers Ctrl-C with a traceback. That process prints nothing. Only the
workers do, and their output comes through pipes anyway.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from mlops_pipeline.delivery.working import Workplace
from mlops_pipeline.resources.turn import given_up
from mlops_pipeline.settings import load_settings

MOST = 4 << 20
"""Number of bytes of each stream that are kept of a run."""
_TYPES = {extension: io_type for io_type, extension in IO_TYPE_EXTENSION.items()}
_logger = logging.getLogger(__name__)


class StepOutput(LocalComputeLogManager):
    """Keeps what is written to it while a run executes, at most `MOST` bytes of each stream."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data=inst_data)
        self._log_key: Sequence[str] | None = None
        self._left: dict[str, int] = {}

    @classmethod
    def config_type(cls) -> Any:
        """Return the empty schema: the output is kept below the folder of the instance."""
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
        """Keep under `log_key` what is written while the context lasts."""
        self._log_key, self._left = log_key, dict.fromkeys(_TYPES, MOST)
        try:
            yield CapturedLogContext(log_key)
        finally:
            self._log_key = None
            complete = Path(self.get_captured_local_path(log_key, "complete"))
            complete.parent.mkdir(parents=True, exist_ok=True)
            complete.touch()

    def write(self, stream: str, text: str) -> None:
        """Keep a text of the stream `out` or `err`, as far as there is room for it."""
        if self._log_key is None or self._left[stream] <= 0:
            return
        self._left[stream] -= len(text.encode())
        if self._left[stream] <= 0:
            text = f"(what was written after the first {MOST >> 20} MiB is not kept)\n"
        try:
            with self.open_log_stream(self._log_key, _TYPES[stream]) as file:
                if file is not None:
                    file.write(text)
        except OSError as error:
            self._left[stream] = 0
            _logger.warning("the output of the workers is not kept: %s", error)


def workplace(instance: dg.DagsterInstance) -> Workplace:
    """Return where the workers of a run work: without the turn, and with their output kept."""
    manager = instance.compute_log_manager
    if isinstance(manager, StepOutput):
        return Workplace(manager.write, given_up)
    if isinstance(manager, NoOpComputeLogManager):
        return Workplace(aside=given_up)
    return Workplace(_print, given_up)  # Others keep what this process prints.


def _print(stream: str, text: str) -> None:
    getattr(sys, f"std{stream}").write(text)
