"""Progress of downloads: a bar on a terminal, otherwise log lines."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from mlops_pipeline.clients.waiting import MONOTONIC, Clock

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger(__name__)
_EVERY = 10.0
"""Seconds between two lines."""


class Meter(Protocol):
    """Receives the progress."""

    def __call__(self, done: int, total: int | None) -> None:
        """Record `done` of `total` bytes; None: the total is unknown."""


@contextmanager
def metered(name: str, *, address: str, console: "Console | None" = None) -> Iterator[Meter]:
    """Show the progress of the download of `name` from `address` while the context lasts."""
    from rich.console import Console

    screen = console or Console(stderr=True)
    if screen.is_terminal:
        with _bar(name, screen) as meter:
            yield meter
        return
    lines = _Lines(name)
    _log.info("downloading %s from %s", name, address)
    yield lines
    lines.end()


class _Lines:
    """Logs a line at intervals."""

    def __init__(self, name: str, clock: Clock = MONOTONIC) -> None:
        self._name, self._clock = name, clock
        self._start = self._last = clock.now()
        self._done = 0

    def __call__(self, done: int, total: int | None) -> None:
        self._done = done
        if self._clock.now() - self._last >= _EVERY:
            self._last = self._clock.now()
            of = f" of {total / 1e6:.1f}" if total else ""
            _log.info("%s: %.1f%s MB", self._name, done / 1e6, of)

    def end(self) -> None:
        passed = self._clock.now() - self._start
        _log.info("downloaded %s: %.1f MB in %.1f s", self._name, self._done / 1e6, passed)


@contextmanager
def _bar(name: str, console: "Console") -> Iterator[Meter]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
