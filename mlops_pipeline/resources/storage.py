"""The storage of Dagster's own commands: `dagster.yaml` in the project folder configures it.

Without DAGSTER_HOME, `dagster dev`, `dagster asset materialize` and `dagster job execute` create an
instance in a temporary folder, which has no records of `up` and is deleted afterwards.
"""

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from mlops_pipeline.clients.files import PRIVATE, writing
from mlops_pipeline.resources.instance import IN_USE, describe_fault, prepare_instance, unusable
from mlops_pipeline.resources.records import close_lost_runs, explained, prepare_databases
from mlops_pipeline.settings import load_settings

_logger = logging.getLogger("dagster.storage")
"""Dagster's commands print what is logged below `dagster`."""


class StateFolderStorage(DagsterSqliteStorage):
    """The storage of the instance in the state folder, as its dagster.yaml configures it."""

    @classmethod
    def config_type(cls) -> Any:
        """Return the empty schema: the settings define the state folder."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster's own storages narrow it too.
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterStorage:
        """Return that instance's storage.

        Raises:
            ConfigurationError: its configuration cannot be used.
        """
        prepare_databases()
        home = prepare_instance(load_settings())
        if (fault := describe_fault(home / "dagster.yaml")) is not None:
            raise unusable(home / "dagster.yaml", fault)
        _say_where(home)
        _keep_open(home / IN_USE)
        ref = InstanceRef.from_dir(str(home))
        _close_lost_runs(home)
        assert ref.storage_data is not None
        storage = ref.storage_data.rehydrate()
        assert isinstance(storage, DagsterStorage)
        return storage


@cache
def _say_where(home: Path) -> None:
    """Say once where the records are: Dagster says that they are in its temporary folder."""
    _logger.info("The records are in the state folder %s, not in a temporary directory", home)


@cache
def _keep_open(file: Path) -> int:
    """Open the file until this process ends: so `ui` knows of a daemon that uses the records.

    Nothing else says it: its arguments name a temporary folder.
    """
    with writing(file):
        return os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)


@cache
def _close_lost_runs(home: Path) -> None:
    """Close runs whose process is gone, once per process, as `open_instance` does."""
    with explained(home), dg.DagsterInstance.from_config(str(home)) as instance:
        close_lost_runs(instance)
