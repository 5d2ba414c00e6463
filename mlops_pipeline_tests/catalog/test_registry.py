import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.registry import load_catalog, load_model
from mlops_pipeline.catalog.spec import InvalidSpecError, ModelSpec, ServerSpec
from mlops_pipeline.catalog.tasks import Classification
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.process import run
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.platforms.build import layer_names
from mlops_pipeline.platforms.embedded import EmbeddedPlatform
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.stack import ROWS
from mlops_pipeline_tests import toy

WINE = Path(__file__).parent.parent / "wine.py"


DERIVED = "from dataclasses import replace\nfrom mlops_pipeline.catalog.iris import IRIS\n"


def test_a_model_may_be_derived_from_another(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"{DERIVED}MINE = replace("
        "IRIS, name='mine', server=replace(IRIS.server, deployment='mine'))"
    )
    names = [model.name for model in load_catalog([str(tmp_path / "mine.py")]).models]
    assert names == ["iris", "mine", "mnist"]


def test_the_catalog_has_the_models_of_the_package() -> None:
    assert [model.name for model in load_catalog().models] == ["iris", "mnist"]


def test_models_of_the_default_namespace_go_where_the_platform_has_its_own() -> None:
    mine = load_catalog([str(WINE)], namespace="models").models
    assert {model.spec.server.namespace for model in mine} == {"models"}
    assert {model.spec.server.namespace for model in load_catalog().models} == {"seldon"}
    assert mine[0].source_digest() == load_catalog().models[0].source_digest()


def test_a_model_file_is_registered_by_its_path() -> None:
    models = load_catalog([str(WINE)]).models
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
            "print([(m.name, m.source) for m in load_catalog().models])",
        ],
        purpose="list the models",
        timeout=30,
        environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(toy.__file__).parents[1]}"},
    )
    assert "('wine', 'wine_models:WINE')" in names


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        ("x = 1", "mine", "the setting `models` names it, but it defines no ModelSpec"),
        ("import nothing_of_that_name", "mine", "could not import it: ModuleNotFoundError: .*lin"),
        ("x = (", "mine", r"could not import it: SyntaxError: .*\(mine.py, line 1\)"),
        ("import sys\nsys.exit(3)", "mine", r"could not import it: SystemExit: 3 \(line 2\)"),
        (f"{DERIVED}MINE = replace(IRIS)", "iris", "catalog.iris:IRIS already has the name iris"),
        (
            f"{DERIVED}MINE = replace(IRIS, name='gateway')",
            "gateway",
            "reserved for a part of a platf",
        ),
        (
            f"{DERIVED}MINE = replace(IRIS, name='mine')",
            "mine",
            "IRIS already has the deployment seldon/iris-model; rename one of them",
        ),
        (
            f"{DERIVED}MINE = replace(IRIS, name='mine', framework='caffe')",
            "mine",
            r"framework is 'caffe'; allowed: sklearn, tensorflow, xgboost, .*\(line 3\)",
        ),
        (
            f"{DERIVED}from functools import partial\n"
            "MINE = replace(IRIS, name='mine', train=partial(IRIS.train), "
            "server=replace(IRIS.server, deployment='mine'))",
            "mine",
            "is not defined in a .py file",
        ),
    ],
)
def test_a_refused_model_is_named_and_the_others_work(
    tmp_path: Path, content: str, name: str, complaint: str
) -> None:
    (tmp_path / "mine.py").write_text(content)
    places = [str(tmp_path / "mine.py"), str(WINE)]
    catalog = load_catalog(places, reserved=layer_names())
    assert [model.name for model in catalog.models] == ["iris", "mnist", "wine"]
    (refused,) = catalog.refused
    assert refused.label == name
    assert re.search(complaint, refused.reason), refused.reason
    assert refused.source.startswith(str(tmp_path / "mine.py"))


def test_the_names_of_layers_of_every_platform_are_reserved(tmp_path: Path) -> None:
    clusters = (KindCluster, ExistingCluster)
    embedded = EmbeddedPlatform(tmp_path).layers
    layers: list[Any] = [*embedded, *clusters, *(row.layer for row in ROWS)]
    unknown = {layer.name: layer.__module__ for layer in layers if layer.name not in layer_names()}
    assert not unknown, "a layer's file or folder has the layer's name"


def test_a_dataset_of_no_model_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown model in the setting `datasets\.irs`; models: iris"
    ):
        load_catalog(datasets=["irs"])


def test_a_dataset_of_a_model_without_a_name_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_that_name")
    assert load_catalog([str(tmp_path / "mine.py")], datasets=["flowers"]).refused


def test_a_model_file_that_does_not_exist_is_named() -> None:
    (refused,) = load_catalog(["/nowhere/wine.py"]).refused
    assert refused.source == "/nowhere/wine.py"
    assert "FileNotFoundError: the file does not exist" in refused.reason


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Iris!"}, "name is 'Iris!'; use at most 31 lower-case letters"),
        ({"name": "iris\n"}, "name is "),
        ({"framework": "caffe"}, "framework is 'caffe'; allowed: sklearn, tensorflow"),
        ({"framework": ["sklearn"]}, "framework is"),
        ({"train": None}, "train is None; it must be a function"),
        ({"train": lambda: None}, "train must be a function that can be called with 3 arguments"),
        ({"example": (1.0,)}, "example has 1 values for 4 features"),
        ({"example": ("a", "b", "c", "d")}, "example is .* finite numbers"),
        ({"example": (1.0, 2.0, 3.0, float("nan"))}, "example is .* finite numbers"),
        ({"hyperparameters": {"C": [1.0]}}, r"hyperparameters\['C'\] is \[1.0\]; it must be a fin"),
        ({"hyperparameters": {"C": None}}, r"hyperparameters\['C'\] is None"),
        ({"hyperparameters": {"C": True}}, r"hyperparameters\['C'\] is True"),
        ({"hyperparameters": {1: 2}}, "hyperparameters has the name 1"),
        ({"hyperparameters": [1]}, r"hyperparameters is \[1\]; it must map names"),
        ({"training_timeout": 0}, "training_timeout is 0; it must be a number of seconds"),
        ({"output_names": ("a", "b")}, "output_names has 2 names for 3 classes"),
        ({"output_names": ("a", "a", "b")}, "the names must differ"),
        ({"output_names": 5}, "output_names is 5; it must be a tuple of strings"),
        ({"output_names": None}, "output_names is None; it must be a tuple of strings"),
        ({"output_names": np.array(["a", "b", "c"])}, "output_names is array.* a tuple of strings"),
        ({"dataset": {"feature_names": 5}}, "dataset.feature_names is 5; it must be a tuple"),
        ({"dataset": {"feature_names": np.array(["a", "b"])}}, "dataset.feature_names is array"),
        ({"dataset": {"feature_names": ("a",)}}, "feature_names has 1 names for 4 features"),
        ({"server": {"implementation": ["SKLEARN_SERVER"]}}, "server.implementation is"),
        ({"dataset": None}, "dataset is None; it must be a DatasetSpec"),
        ({"dataset": {"classes": ()}}, r"dataset.classes is \(\); give at least 2 names"),
        (
            {"dataset": {"classes": "abc"}},
            "dataset.classes is 'abc'; it must be a tuple of strings",
        ),
        ({"dataset": {"classes": (1, 2)}}, r"dataset.classes is \(1, 2\)"),
        ({"dataset": {"features": 0}}, "dataset.features is 0; it must be an integer"),
        ({"dataset": {"features": "4"}}, "dataset.features is '4'"),
        ({"dataset": {"load": "iris.csv"}}, "dataset.load is 'iris.csv'; it must be a function"),
        ({"dataset": {"value_range": (3, 1)}}, "dataset.value_range is"),
        (
            {"thresholds": {"min_accuracy": -0.1}},
            r"limits\['accuracy'\] is -0.1; it must be a number, ",
        ),
        ({"thresholds": {"min_accuracy": 90}}, r"limits\['accuracy'\] is 90; .* at most 1"),
        ({"thresholds": {"limits": {}}}, r"limits is \{\}; it must map .*: accuracy, log_loss"),
        (
            {"thresholds": {"limits": {"rmse": 9}}},
            "names the metric 'rmse'; the metrics of a class",
        ),
        ({"thresholds": {"limits": {"log_loss": -1}}}, r"\['log_loss'\] is -1; .*, at least 0"),
        ({"task": "regression"}, "task is 'regression'; it must be a Task"),
        ({"task": Classification(threshold=0.5)}, "task.threshold is for two classes, .* has 3"),
        ({"dataset": {"target_range": (3, 1)}}, "dataset.target_range is"),
        (
            {"thresholds": {"max_accuracy_drop": -1}},
            "thresholds.max_loss is -1; it must be a number, at least 0",
        ),
        (
            {"thresholds": {"max_p99_ms": 0}},
            "thresholds.max_p99_ms is 0; it must be a number, greater",
        ),
        ({"thresholds": {"tolerance": "1e-4"}}, "thresholds.tolerance is '1e-4'"),
        (
            {"server": {"implementation": "TENSORFLOW_SERVER"}},
            "server.implementation is 'TENSORFLOW_SERVER'; a sklearn model is served by SKLEARN_",
        ),
        (
            {"server": {"deployment": "iris_model"}},
            "server.deployment is 'iris_model'; use at most",
        ),
        ({"server": {"graph": ""}}, "server.graph is ''"),
        ({"server": {"replicas": -1}}, "server.replicas is -1; allowed: 0 to 32"),
        ({"server": {"max_batch_size": -1}}, "server.max_batch_size is -1; allowed: 0 to 65536"),
        ({"server": {"max_batch_time": 11}}, "server.max_batch_time is 11; allowed: 0 to 10"),
        ({"server": {"parameters": ("method",)}}, "server.parameters is"),
    ],
)
def test_a_spec_refuses_invalid_values(changes: dict[str, Any], complaint: str) -> None:
    parts = {
        name: replace(getattr(IRIS, name), **value)
        if name in ("dataset", "server", "thresholds") and value is not None
        else value
        for name, value in changes.items()
    }
    with pytest.raises(InvalidSpecError, match=complaint) as refused:
        ModelSpec(**{**vars(IRIS), **parts})
    assert len(refused.value.reasons) == 1 or "classes" in complaint


def test_every_fault_of_a_spec_is_named_at_once() -> None:
    with pytest.raises(InvalidSpecError) as refused:
        replace(IRIS, framework="caffe", training_timeout=-1.0)
    assert str(refused.value).startswith("the ModelSpec 'iris' is invalid: framework is 'caffe'; a")
    assert len(refused.value.reasons) == 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"memory": "2Gi", "memory_limit": "1500M"}, "memory = 2Gi exceeds memory_limit"),
        ({"memory": "much"}, "of toy: memory = 'much' is not a quantity"),
        ({"cpu": "one"}, "of toy: cpu = 'one' is not a quantity"),
        ({"cpu": 5}, "of toy: cpu = 5 is not a quantity"),
        ({"cpu": 0}, "of toy: cpu = 0 is not a quantity"),
        ({"memory": 512}, "of toy: memory = 512 is not a quantity"),
        ({"memory_limit": None}, "of toy: memory_limit = None is not a quantity"),
    ],
)
def test_a_server_that_no_cluster_takes_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ServerSpec("SKLEARN_SERVER", "toy", "classifier", **given)
    ServerSpec("SKLEARN_SERVER", "toy", "classifier", cpu="500m", memory="1Gi", memory_limit="1.1G")


def test_limits_of_batches_are_parameters_of_the_graph() -> None:
    method = (("method", "predict"),)
    plain = ServerSpec("SKLEARN_SERVER", "toy", "classifier", parameters=method)
    assert plain.graph_parameters() == method
    limited = replace(plain, max_batch_size=32, max_batch_time=0.0025)
    assert limited.graph_parameters() == (
        *method,
        ("max_batch_size", "32"),
        ("max_batch_time", "0.0025"),
    )
    deployment = seldon_deployment(
        replace(toy.TOY, server=limited),
        ModelRef("toy", "s3://models/toy/1", "a" * 64),
        secret="key",
    )
    (predictor,) = deployment.spec.predictors
    assert [(p.name, p.value) for p in predictor.graph.parameters] == list(
        limited.graph_parameters()
    )
