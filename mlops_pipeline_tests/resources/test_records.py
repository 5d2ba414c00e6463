from pathlib import Path

import dagster as dg
import pytest

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.resources import records


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    records.prepare_databases()
    home = tmp_path / "with a space"
    home.mkdir()
    return dg.DagsterInstance.local_temp(str(home))


def test_a_command_writes_the_logs_of_databases_back_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    index = tmp_path / "with a space/history/runs/index.db"
    log = index.with_name("index.db-wal")
    instance.report_runless_asset_event(dg.AssetMaterialization("one"))
    assert not log.exists()
    with records.databases_kept_open():
        for name in ("two", "three"):
            instance.report_runless_asset_event(dg.AssetMaterialization(name))
            assert log.stat().st_size > 0
    assert not log.exists()
    instance.report_runless_asset_event(dg.AssetMaterialization("four"))
    assert not log.exists()
    assert {key.path[0] for key in instance.all_asset_keys()} == {"one", "two", "three", "four"}


def test_a_damaged_database_is_told_by_what_reads_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    home = tmp_path / "with a space"
    instance.report_runless_asset_event(dg.AssetMaterialization("one"))
    (home / "history/runs/index.db").write_bytes(b"no database" * 1000)
    with (
        records.databases_kept_open(),
        pytest.raises(UnavailableError, match=r"index\.db cannot be used"),
        records.explained(home),
    ):
        instance.report_runless_asset_event(dg.AssetMaterialization("two"))
