"""Mutual exclusion, also between processes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, discard, set_aside, write_atomically

if TYPE_CHECKING:
    from filelock import FileLock

_CHECKED = 1.0
"""Seconds of waiting between two calls of `check`."""


class Locks:
    """Named locks as files in `folder`. When a process dies, its locks are released."""

    def __init__(
        self, folder: Path, *, timeout: float, prepare: Callable[[], None] = lambda: None
    ) -> None:
        """`prepare` creates the folder, if it needs special treatment."""
        self._folder = folder
        self._timeout = timeout
        self._prepare = prepare

    @contextmanager
    def held(
        self,
        name: str,
        *,
        purpose: str,
        on_wait: Callable[[str], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """Hold the lock `name`; `purpose` tells other processes why.

        `on_wait` is called once with the process that holds the lock, and since when. `check` is
        called every second while waiting; an exception that it raises ends the wait.

        Raises:
            ConfigurationError: the folder cannot be written.
            PipelineError: what `prepare` raises.
            UnavailableError: another process did not release it in time; names it.
        """
        from filelock import FileLock, Timeout

        self._prepare()
        holder = self._folder / f"{name}.holder"
        lock = FileLock(self._folder / f"{name}.lock", timeout=self._timeout, mode=PRIVATE)
        try:
            if Path(lock.lock_file).is_dir():
                set_aside(Path(lock.lock_file))
            if not _acquired(lock, timeout=0):
                if on_wait is not None:
                    on_wait(_read(holder))
                _wait(lock, timeout=self._timeout, check=check)
        except Timeout as error:
            raise UnavailableError(
                f"could not {purpose}: {_read(holder)} has held {lock.lock_file} for more than "
                f"{self._timeout:g} s; wait until it ends, or stop it"
            ) from error
        except PipelineError:  # Of `on_wait` or `check`; some are OSErrors too.
            raise
        except OSError as error:
            raise ConfigurationError(
                f"could not {purpose}: {lock.lock_file} cannot be locked ({error.strerror}); "
                "remove it, make the folder writable, or choose another with MLOPS_HOME"
            ) from error
        try:
            # The holder is only for messages: a full disk must not prevent `down`.
            with suppress(ConfigurationError):
                write_atomically(holder, _describe(purpose), mode=PRIVATE)
            yield
        finally:
            with suppress(ConfigurationError):
                discard(holder)
            lock.release()


def _acquired(lock: "FileLock", *, timeout: float) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    return True


def _wait(lock: "FileLock", *, timeout: float, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > _CHECKED:
        check()
        if _acquired(lock, timeout=_CHECKED):
            return
    lock.acquire(timeout=max(0.0, left))


def _describe(purpose: str) -> str:
    """Return which process holds a lock, why, and since when."""
    now = datetime.now(UTC)
    return f"process {os.getpid()} ({purpose}, since {now:%Y-%m-%d %H:%M:%S} UTC)"


def _read(holder: Path) -> str:
    try:
        return holder.read_text()
    except (OSError, ValueError):
        return "another process"
