"""The Dagster instance that `up`, `rollback` and the UI share."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.cli.claim import claimed, find_place
from mlops_pipeline.clients import databases, running
from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.build import PLATFORMS
from mlops_pipeline.resources.home import remove, require_ours
from mlops_pipeline.resources.instance import describe_fault, prepare_instance, unusable
from mlops_pipeline.resources.turn import LOCK, TRAINING, turn
from mlops_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

_LEAST_FREE = 16 << 20
"""Bytes of disk without which a run is not begun: its records would break off."""
_QUIET = 2.0
"""Seconds of waiting for another process's lock that are not worth a word."""


@contextmanager
def purged_records(
    settings: Settings, platform: str, *, examples: Iterable[str] = ()
) -> Iterator[None]:
    """Remove the runs and these example files after the block, which removes `platform`'s data.

    They stay where another platform in the state folder has them too. The state folder goes with
    them when nothing else is in it. Neither `up` nor, where the records go, `ui` runs meanwhile.

    Raises:
        ConfigurationError: the state folder is somebody else's. Nothing was changed.
        ConflictError: `ui` runs; names the process. Nothing was changed.
        UnavailableError: `up` runs; names the process. Nothing was changed.
    """
    require_ours(settings.home)
    home = settings.dagster_home
    others = any((settings.home / name).exists() for name in PLATFORMS if name != platform)
    with ExitStack() as held:
        if home.is_dir():
            locks = Locks(home, timeout=_QUIET)
            for lock in (TRAINING, LOCK):
                held.enter_context(locks.held(lock, purpose="remove the runs"))
            if not others:
                held.enter_context(_without_ui(home / "ui.lock"))
        yield
        if any((settings.home / name).exists() for name in PLATFORMS):
            return
        remove(settings.home, examples=examples, keeps_keys=platform == "kubernetes")


@contextmanager
def _without_ui(lock: Path) -> Iterator[None]:
    """Keep a UI from starting.

    Raises:
        ConflictError: one runs.
    """
    with claimed(lock) as claim:
        if claim is None:
            place = find_place(lock)
            who = (
                "another process starts or stops" if place is None else f"process {place.pid} runs"
            )
            raise ConflictError(
                f"could not remove {lock.parent}: {who} `mlops-pipeline ui` on it. Stop it first; "
                "nothing was changed"
            )
        yield


@contextmanager
def open_instance(
    settings: Settings, *, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator["DagsterInstance"]:
    """Open the instance, making it when it is new, and close runs whose process is gone.

    `on_wait` is told which process is waited for, when one holds a lock on the records.

    Raises:
        ConfigurationError: the state folder cannot be written, or Dagster's configuration in it is
            damaged.
        UnavailableError: the records stayed locked, or cannot be read or written.
    """
    home = prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    from mlops_pipeline.resources import records

    records.prepare_databases()
    # Two processes that make new records at once leave a broken database.
    opening = Locks(home, timeout=records.PATIENCE).held("records", purpose="open the records")
    with _told_of_locks(records.databases(home), on_wait), records.explained(home):
        with opening:
            instance = _made(home)
        with instance:
            records.close_lost_runs(instance)
            yield instance


def _made(home: Path) -> "DagsterInstance":
    import dagster as dg
    from dagster._core.errors import DagsterInvalidConfigError

    file = home / "dagster.yaml"
    try:
        if (fault := describe_fault(file)) is None:
            return dg.DagsterInstance.from_config(str(home))
    except DagsterInvalidConfigError as error:
        fault = str(error)
    raise unusable(file, fault)


@contextmanager
def _told_of_locks(files: list[Path], on_wait: Callable[[str], None]) -> Iterator[None]:
    """Tell `on_wait` of a process that keeps the records locked while the context lasts."""
    over = threading.Event()

    def watch() -> None:
        told, seen = set[int](), set[int]()
        while not over.wait(_QUIET):
            now = set(databases.lockers(files))
            for pid in (now & seen) - told:
                told.add(pid)
                on_wait(f"{running.describe(pid)}, which holds a lock on Dagster's records")
            seen = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def instance_for_run(
    settings: Settings,
    *,
    purpose: str,
    on_wait: Callable[[str], None],
    during_training: bool = False,
) -> Iterator["DagsterInstance"]:
    """Open the instance for one run, once this process has the turn; see `turn`.

    Raises:
        ConfigurationError: the disk is full; nothing was changed.
        UnavailableError: another command took too long, or the records cannot be written.
    """
    home = prepare_instance(settings)
    if (free := shutil.disk_usage(home).free) < _LEAST_FREE:
        raise ConfigurationError(
            f"the records of a run require {_LEAST_FREE >> 20} MiB, but the disk of {home} has "
            f"only {free >> 20} MiB free; free disk space or set MLOPS_HOME to another folder. "
            "Nothing was changed"
        )
    from mlops_pipeline.resources.records import databases_kept_open

    with (
        turn(settings, purpose=purpose, on_wait=on_wait, during_training=during_training),
        databases_kept_open(),
        open_instance(settings, on_wait=on_wait) as instance,
    ):
        yield instance


@contextmanager
def turn_to_end(
    settings: Settings,
    *,
    purpose: str,
    on_wait: Callable[[str], None],
    during_training: bool = False,
) -> Iterator[None]:
    """Take the turn where a state folder is, to end something: a folder is never made for that.

    What cannot be locked, because nothing can be written there, is ended all the same. With
    `during_training`, the turn is taken also while another run trains.

    Raises:
        UnavailableError: another command took too long.
    """
    with ExitStack() as held:
        if settings.dagster_home.is_dir():
            with suppress(ConfigurationError):
                held.enter_context(
                    turn(
                        settings,
                        purpose=purpose,
                        on_wait=on_wait,
                        during_training=during_training,
                    )
                )
        yield
