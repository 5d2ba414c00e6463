import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

import mlops_pipeline.assets
from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.clients.process import run
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import REGISTERED

SETTINGS = Settings.model_construct(datasets={})
WINE = Path(__file__).parent.parent / "wine.py"
LOAD = """
import sys, dagster
of_dagster = set(sys.modules)
from mlops_pipeline.definitions import embedded
embedded()
print(*sys.modules.keys() - of_dagster)
"""


class FakeResource(PlatformResource):
    """Builds a fake platform."""

    def build(self) -> FakePlatform:
        return FakePlatform()


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    catalog = load_catalog([str(WINE)])
    return make_definitions(
        FakeResource(platform="fake", settings={}),
        catalog=replace(catalog, models=(*catalog.models, REGISTERED)),
        settings=SETTINGS,
    )


def test_every_asset_introduces_itself(definitions: dg.Definitions) -> None:
    specs = list(definitions.resolve_all_asset_specs())
    assert len(specs) == 2 + 4 * 4
    for spec in specs:
        assert spec.description, spec.key
        assert (spec.group_name or "").startswith("fake_"), spec.key
        assert spec.owners, spec.key
        assert 1 <= len(spec.kinds) <= 3, spec.key
        assert spec.key.path[0] == "fake"


def test_a_registered_model_gets_everything(definitions: dg.Definitions) -> None:
    keys = {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}
    assert {f"fake/wine/{p}" for p in ("dataset", "model", "deployment", "predictions")} <= keys
    graph = definitions.resolve_asset_graph()
    checks = {k.name for k in graph.asset_check_keys if k.asset_key.path[1] == "wine"}
    assert len(checks) == 3 + 4 + 1 + 4
    assert definitions.resolve_job_def("wine_lifecycle").name == "wine_lifecycle"
    schedule = definitions.get_repository_def().get_schedule_def("wine_weekly")
    assert schedule.cron_schedule == "0 3 * * 1"


def test_jobs_cover_the_graph(definitions: dg.Definitions) -> None:
    everything = definitions.resolve_job_def("everything")
    platform = definitions.resolve_job_def("platform")
    assert len(set(everything.asset_layer.executable_asset_keys)) == 18
    assert len(set(platform.asset_layer.executable_asset_keys)) == 2


def test_dependencies_run_from_layers_to_predictions(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()

    def parents(*path: str) -> set[str]:
        return {k.to_user_string() for k in graph.get(dg.AssetKey(list(path))).parent_keys}

    assert parents("fake", "gateway") == {"fake/object_store"}
    assert parents("fake", "iris", "dataset") == {"fake/object_store"}
    assert parents("fake", "iris", "model") == {"fake/iris/dataset"}
    assert parents("fake", "iris", "deployment") == {"fake/iris/model", "fake/gateway"}
    assert parents("fake", "iris", "predictions") == {"fake/iris/deployment"}


def test_checks_that_protect_users_block(definitions: dg.Definitions) -> None:
    blocking = {
        spec.name
        for checks in definitions.asset_checks or []
        for spec in checks.check_specs
        if spec.blocking and spec.asset_key.path[1] in ("iris", "gateway")
    }
    assert blocking == {
        "routes",
        "has_expected_schema",
        "has_no_missing_values",
        "has_all_classes",
        "accuracy_at_least_threshold",
        "not_worse_than_deployed",
        "matches_its_manifest",
        "predicts_the_same_where_it_is_served",
        "answers_with_this_digest",
    }


def test_the_platform_job_materializes_the_layers(definitions: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("platform").execute_in_process(
            instance=instance, raise_on_error=False
        )
        made = {e.asset_key: e for e in result.get_asset_materialization_events()}
    metadata = made[dg.AssetKey(["fake", "object_store"])].materialization.metadata
    assert metadata["change"].value == "created"
    assert metadata["address"] == dg.MetadataValue.url("http://object_store")
    assert set(made) == {dg.AssetKey(["fake", name]) for name in ("object_store", "gateway")}


def test_no_asset_file_postpones_annotations() -> None:
    """Dagster reads the annotations of asset functions when it defines them."""
    folder = Path(mlops_pipeline.assets.__file__).parent
    assert not [f for f in folder.glob("*.py") if "__future__" in f.read_text()]


def test_the_graph_names_refused_models_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name")
    definitions = make_definitions(
        FakeResource(platform="fake", settings={}),
        catalog=load_catalog([str(tmp_path / "bad.py"), str(WINE)]),
        settings=SETTINGS,
    )
    specs = {s.key.to_user_string(): s for s in definitions.resolve_all_asset_specs()}
    assert f"* the model bad of {tmp_path}/bad.py is refused: could not import it" in (
        specs["fake/refused_models"].description or ""
    )
    everything = definitions.resolve_job_def("everything").asset_layer.executable_asset_keys
    assert dg.AssetKey(["fake", "refused_models"]) not in everything
    assert dg.AssetKey(["fake", "wine", "model"]) in everything


def test_the_definitions_load_little_beside_dagster(tmp_path: Path) -> None:
    """Every command, every run and every reload in the UI waits for these imports."""
    environment = {"MLOPS_HOME": str(tmp_path)}
    said = run(
        [sys.executable, "-c", LOAD],
        purpose="load the definitions",
        timeout=60,
        environment=environment,
    )
    packages = {name.partition(".")[0] for name in said.split()} - sys.stdlib_module_names
    known = {"dagster", "mlops_pipeline", "pydantic", "pydantic_settings"}
    assert packages - known == {"dotenv", "platformdirs"}
    assert "mlops_pipeline.platforms.kubernetes" not in said.split()
