"""Dagster's own commands in the project folder, and the platforms and jobs that they find."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from mlops_pipeline import definitions
from mlops_pipeline.automation.jobs import EVERYTHING, PLATFORM, job_for
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.clients import running
from mlops_pipeline.platforms.build import platforms_in_use
from mlops_pipeline.resources.configuration import DEFAULTS
from mlops_pipeline.resources.records import PROCESS_TAG, process_tags
from mlops_pipeline.resources.references import describe_elsewhere
from mlops_pipeline.settings import load_settings

ROOT = Path(__file__).parents[2]
HINT = "DAGSTER_HOME is not set, so this command uses separate records: run `export DAGSTER_HOME="


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder that the settings name; nothing else of this machine counts."""
    for variable in ("MLOPS_PLATFORM", "MLOPS_MODELS", "MLOPS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_dagster_in_the_project_folder_has_the_records_of_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(load_settings()) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("made"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    # What Dagster's commands do without DAGSTER_HOME: a folder of their own, this configuration.
    (tmp_path / "temporary").mkdir()
    ref = dg._core.instance.InstanceRef.from_dir(str(tmp_path / "temporary"), config_dir=str(ROOT))
    with dg.DagsterInstance.from_ref(ref) as found:
        assert found.get_latest_materialization_event(dg.AssetKey("made")) is not None
        assert describe_elsewhere(found) == ""


def test_dagster_in_the_project_folder_closes_runs_whose_process_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        killed = running.identity(process.pid)
        process.kill()
    with open_instance(load_settings()) as instance:
        tags = {PROCESS_TAG: str(killed)}
        started = dg.DagsterRun("everything", status=dg.DagsterRunStatus.STARTED, tags=tags)
        alive = dg.DagsterRun("everything", status=dg.DagsterRunStatus.STARTED, tags=process_tags())
        for run in (started, alive):
            instance.add_run(run)
    monkeypatch.setenv("DAGSTER_HOME", "")
    (tmp_path / "temporary").mkdir()
    ref = dg._core.instance.InstanceRef.from_dir(str(tmp_path / "temporary"), config_dir=str(ROOT))
    with dg.DagsterInstance.from_ref(ref) as found:
        after = [found.get_run_by_id(run.run_id) for run in (started, alive)]
    assert [run.status.value for run in after if run] == ["FAILURE", "STARTED"]


def test_its_configuration_is_that_of_the_state_folder_with_another_storage() -> None:
    written = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert written.pop("storage")["custom"]["class"] == "StateFolderStorage"
    assert written == DEFAULTS


def test_elsewhere_it_is_said_which_records_a_command_looks_into(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    with dg.DagsterInstance.from_config(str(tmp_path / "temporary")) as temporary:
        assert f"{HINT}{home}/dagster`" in describe_elsewhere(temporary)
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "temporary"))
        assert describe_elsewhere(temporary) == ""


def test_platforms_in_use_are_those_of_the_settings_and_of_the_state_folder(home: Path) -> None:
    assert platforms_in_use(load_settings()) == ("embedded",)
    assert platforms_in_use(load_settings(platform="kind")) == ("kind",)
    (home / "kubernetes").mkdir(parents=True)
    assert platforms_in_use(load_settings()) == ("embedded", "kubernetes")


def test_a_platform_that_nobody_uses_is_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(definitions.kind().resolve_all_asset_specs()) == []
    assert list(definitions.embedded().resolve_all_asset_specs()) != []
    monkeypatch.setenv("MLOPS_PLATFORM", "kind")
    assert list(definitions.kind().resolve_all_asset_specs()) != []
    assert list(definitions.embedded().resolve_all_asset_specs()) == []
    (home / "embedded").mkdir(parents=True)
    assert list(definitions.embedded().resolve_all_asset_specs()) != []


@pytest.mark.parametrize(
    ("models", "targets", "job"),
    [
        (["iris", "mnist"], [], EVERYTHING),
        (["iris"], [], EVERYTHING),
        (["iris"], ["iris"], "iris_lifecycle"),
        (["iris"], ["iris", "gateway"], "iris_lifecycle"),
        (["iris", "mnist"], ["iris", "mnist"], EVERYTHING),
        ([], ["gateway"], PLATFORM),
    ],
)
def test_a_run_has_the_requested_job(models: list[str], targets: list[str], job: str) -> None:
    assert job_for(models, targets=targets) == job


def test_the_life_cycle_has_the_layers_and_the_schedule_excludes_them() -> None:
    made = definitions.embedded()
    job = made.resolve_job_def("iris_lifecycle")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    parts = {f"embedded/iris/{p}" for p in ("dataset", "model", "deployment", "predictions")}
    layers = {f"embedded/{layer}" for layer in ("supervisor", "object_store", "gateway")}
    assert keys == parts | layers
    assert job.tags["mlops/platform"] == "embedded"
    assert job.tags["mlops/model"] == "iris"
    schedule = made.get_repository_def().get_schedule_def("iris_weekly")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance)
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert {key.to_user_string() for key in request.asset_selection or ()} == parts
    assert request.tags["mlops/trigger"] == "schedule iris_weekly"
