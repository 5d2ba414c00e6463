import os
import sys
from pathlib import Path

import pytest

from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.registry import load_catalog, load_model
from mlops_pipeline.catalog.spec import ModelSpec, ServerSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.process import run
from mlops_pipeline_tests import toy

WINE = Path(__file__).parent.parent / "wine.py"


DERIVED = "from dataclasses import replace\nfrom mlops_pipeline.catalog.iris import IRIS\n"


def test_a_model_may_be_derived_from_another(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"{DERIVED}MINE = replace("
        "IRIS, name='mine', server=replace(IRIS.server, deployment='mine'))"
    )
    names = [model.name for model in load_catalog([str(tmp_path / "mine.py")])]
    assert names == ["iris", "mine", "mnist"]


def test_the_catalog_holds_what_comes_with_the_package() -> None:
    assert [model.name for model in load_catalog()] == ["iris", "mnist"]


def test_models_of_the_default_namespace_go_where_the_platform_has_its_own() -> None:
    mine = load_catalog([str(WINE)], namespace="models")
    assert {model.spec.server.namespace for model in mine} == {"models"}
    assert {model.spec.server.namespace for model in load_catalog()} == {"seldon"}
    assert mine[0].source_digest() == load_catalog()[0].source_digest()


def test_a_model_file_is_registered_by_its_path() -> None:
    models = load_catalog([str(WINE)])
    assert [model.name for model in models] == ["iris", "mnist", "wine"]
    assert load_model(models[2].source).name == "wine"
    assert len(models[2].source_digest()) == 64


def test_a_package_registers_by_entry_point(tmp_path: Path) -> None:
    """A real installed distribution: metadata and module on the path of another process."""
    (tmp_path / "wine_models.py").write_text(WINE.read_text())
    info = tmp_path / "wine_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wine-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlops_pipeline.models]\nwine = wine_models:WINE\n")
    names = run(
        [
            *(sys.executable, "-c"),
            "from mlops_pipeline.catalog.registry import load_catalog;"
            "print([(m.name, m.source) for m in load_catalog()])",
        ],
        purpose="list the models",
        timeout=30,
        environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(toy.__file__).parents[1]}"},
    )
    assert "('wine', 'wine_models:WINE')" in names


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("x = 1", "no ModelSpec stands at its top level"),
        ("import nothing_of_that_name", "could not import the model file .*ModuleNotFoundError"),
        (f"{DERIVED}MINE = replace(IRIS)", "both use the name iris"),
        (f"{DERIVED}MINE = replace(IRIS, name='gateway')", "names a part of a platform"),
        ("import sys\nsys.exit(3)", "could not import the model file .*SystemExit"),
        (
            f"{DERIVED}MINE = replace(IRIS, name='mine')",
            "both use the deployment seldon/iris-model",
        ),
    ],
)
def test_a_model_file_that_is_none_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ConfigurationError, match=complaint):
        load_catalog([str(tmp_path / "mine.py")])


def test_a_dataset_of_no_model_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"datasets\.irs` is of no model; there are: iris"):
        load_catalog(datasets=["irs"])


def test_a_model_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"/nowhere/wine\.py"):
        load_catalog(["/nowhere/wine.py"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Iris!"}, "cannot name a model"),
        ({"example": (1.0,)}, "has 1 values, its dataset has 4 features"),
    ],
)
def test_a_spec_refuses_what_cannot_work(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ModelSpec(**{**vars(IRIS), **changes})


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"memory": "2Gi", "memory_limit": "1500M"}, "memory = 2Gi is more than memory_limit"),
        ({"memory": "much"}, "of toy: memory = 'much' is no quantity"),
        ({"cpu": "one"}, "of toy: cpu = 'one' is no quantity"),
    ],
)
def test_a_server_that_no_cluster_takes_is_refused(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ServerSpec("SKLEARN_SERVER", "toy", "classifier", **given)  # type: ignore[arg-type]
    ServerSpec("SKLEARN_SERVER", "toy", "classifier", cpu="500m", memory="1Gi", memory_limit="1.1G")
