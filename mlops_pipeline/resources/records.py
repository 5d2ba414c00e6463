"""Dagster's records: waiting for locks, explaining errors, and closing runs of ended processes."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.databases import describe_damage, describe_holders
from mlops_pipeline.clients.errors import UnavailableError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

PROCESS_TAG = ".dagster/mlops_process"
"""Tag of a run, which the UI hides: the process that executes it, as `running.identity` says."""
_FORMER_PROCESS_TAG = "mlops/process"
PATIENCE = 60.0
"""Seconds to wait for another process that holds a lock on the records."""
_LAUNCHED = ".dagster/grpc_info"
"""Tag that Dagster's launcher gives a run: the address of the code server that executes it."""
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_logger = logging.getLogger(__name__)


def databases(home: Path) -> list[Path]:
    """Return the SQLite databases that every command writes to, in the folder of an instance."""
    names = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
    return [home / name for name in names]


def prepare_databases() -> None:
    """Make this process wait for SQLite's locks, and keep its engines.

    Dagster gives up on some locks after 5 s. Its storages create an engine for each block of
    statements, which inspects the database and compiles every statement anew.
    """
    # Here and below: definitions import this module, and load without a database library.
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _set_patience):
        event.listen(Engine, "connect", _set_patience)
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        vars(module)["create_engine"] = _engine


def _engine(url: str, **_: Any) -> "Engine":
    """Return the engine of a database; Dagster's other options are the same for all."""
    if _pooled is None:
        return _kept_engine(url)
    if url not in _pooled:
        _pooled[url] = _make_pooled_engine(url)
    return _pooled[url]


@lru_cache(maxsize=64)  # Each run has a database of its own.
def _kept_engine(url: str) -> "Engine":
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool)


def _make_pooled_engine(url: str) -> "Engine":
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    engine = create_engine(url, poolclass=QueuePool, max_overflow=-1)
    # Dagster disposes of the engine after each event, which closes its connections.
    vars(engine)["dispose"] = lambda: None
    return engine


_pooled: "dict[str, Engine] | None" = None
"""URL → engine, while the databases are kept open."""


@contextmanager
def databases_kept_open() -> Iterator[None]:
    """Keep the connections to databases open in the context, which is for one command.

    Dagster opens a connection for each event. When the last one to a database is closed, SQLite
    writes the log back into the database and waits for the disk. A process that stays, like the
    UI, must notice that a file was replaced.
    """
    global _pooled
    kept = _pooled = {}
    try:
        yield
    finally:
        _pooled = None
        for engine in kept.values():
            engine.pool.dispose()


def _set_patience(connection: Any, _record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
        # With a write-ahead log, a power failure may lose the last records, and damages nothing:
        # https://www.sqlite.org/pragma.html#pragma_synchronous
        connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Translate errors of the records in `home` into messages that say what to do.

    Raises:
        UnavailableError: names the process that locks them, or the error of the database.
    """
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if "locked" in str(error.orig):
            raise UnavailableError(
                f"could not access Dagster's records in {home}: "
                f"{describe_holders(databases(home))} has kept them locked for {PATIENCE:g} s. "
                "Wait until that process ends, or stop it. Then run the command again"
            ) from error
        for database in sorted(home.rglob("*.db")):
            if (damage := describe_damage(database)) is not None:
                raise UnavailableError(
                    f"Dagster's records in {database} cannot be used: {damage}. Move that file "
                    "and its companion files (same name, plus a suffix) away and run the command "
                    "again. It creates a new file; deployments are not affected"
                ) from error
        raise UnavailableError(
            f"could not read or write Dagster's records in {home} ({error.orig}). Free disk space "
            "there, or move the folder away to start with new records. Then run the command "
            "again"
        ) from error


def process_tags() -> dict[str, str]:
    """Return the tag of a run that this process executes."""
    return {PROCESS_TAG: running.identity(os.getpid()) or ""}


def close_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark unfinished runs as failed if their process on this machine has ended; return their ids.

    Runs of other machines and runs that have not started are not changed. Slots of Dagster's pools
    that ended runs still hold are freed, which otherwise only a daemon does, if it is told to.
    """
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if (reason := _describe_loss(_own_tags(instance, run))) is None:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=reason)
        else:
            instance.report_run_failed(run, message=reason)
        _logger.info("run %s: %s", run.run_id, reason)
        closed.append(run.run_id)
    _free_slots(instance)
    return closed


def _free_slots(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)


def _own_tags(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    """Return the run's tags without those that are equal in the run that it executes again.

    Dagster copies all of them, also those that say where the original was executed. They are
    replaced when the new run starts.
    """
    parent = run.tags.get(PARENT_RUN_ID_TAG)
    original = instance.get_run_by_id(parent) if parent else None
    copied = original.tags.items() if original else ()
    return dict(run.tags.items() - copied)


def _describe_loss(tags: Mapping[str, str]) -> str | None:
    word = tags.get(PROCESS_TAG, tags.get(_FORMER_PROCESS_TAG))
    if word is not None:
        pid = word.split(".")[1] if word.count(".") == 2 else "?"
        return (
            f"The process {pid} that executed this run no longer exists: it was killed, or the "
            "machine was restarted. `mlops-pipeline up` resumes from here."
            if running.is_gone(word)
            else None
        )
    socket = _socket_of(tags.get(_LAUNCHED, ""))
    if socket is None or not socket.parent.name.startswith(running.sockets_prefix()):
        return None
    if socket.exists() and not ports.is_abandoned(socket):
        return None
    return "The code server of this run no longer exists: `mlops-pipeline ui` has ended."


def _socket_of(address: str) -> Path | None:
    """Return the socket in a launcher's tag, or None without a tag or with a port."""
    socket = json.loads(address).get("socket") if address else None
    return Path(socket) if socket else None
