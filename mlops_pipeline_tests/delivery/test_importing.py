"""A single file gets the name that the framework's server looks for; a digest is compared."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.delivery.importing import Brought, bring
from mlops_pipeline.delivery.offered_files import find_files
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.toy import TOY

TREES = replace(
    TOY, framework="xgboost", server=replace(TOY.server, implementation="XGBOOST_SERVER")
)


def brought(file: Path, spec: ModelSpec, *, sha256: str = "") -> Brought:
    place = file.parent / "place"
    place.mkdir()
    return bring(
        str(file),
        spec,
        place,
        web=Downloads(locks=Locks(place, timeout=5)),
        store=FakeObjectStore,
        most_bytes=1000,
        sha256=sha256,
    )


@pytest.mark.parametrize(
    ("spec", "name", "wanted"),
    [
        (TOY, "model.pkl", "model.pkl"),
        (TOY, "iris-v3.joblib", "model.joblib"),
        (TREES, "trees.UBJ", "model.ubj"),
    ],
)
def test_a_file_gets_the_name_of_a_model(
    tmp_path: Path, spec: ModelSpec, name: str, wanted: str
) -> None:
    (tmp_path / name).write_bytes(b"weights")
    found = brought(tmp_path / name, spec)
    assert [(p.name, p.read_bytes()) for p in found.folder.iterdir()] == [(wanted, b"weights")]
    assert found.fetched.sha256 == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("name", ["model.onnx", "model"])
def test_a_file_of_another_framework_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(ConfigurationError, match=r"toy is a scikit-learn model, which is model\.j"):
        brought(tmp_path / name, TOY)


CLASS = replace(TOY, framework="python", server=replace(TOY.server, implementation="PYTHON_SERVER"))


def test_a_class_in_a_file_of_its_name_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "Model.py").write_text("class Model:\n    pass\n")
    folder = brought(tmp_path / "Model.py", CLASS).folder
    assert [path.name for path in folder.iterdir()] == ["Model.py"]
    assert find_files(folder, CLASS).files.keys() == {"Model.py"}


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_class_of_another_name_is_refused_with_what_names_it(
    tmp_path: Path, *, as_folder: bool
) -> None:
    place = tmp_path / "code"
    place.mkdir()
    (place / "Model.py").write_text("import math\n\n\nclass Scorer:\n    pass\n")
    said = r'Model\.py defines Scorer: .* Scorer\.py, or write {"class": "Model:Scorer"} to comp'
    take = find_files if as_folder else brought
    with pytest.raises(ConfigurationError, match=said):
        take(place if as_folder else place / "Model.py", CLASS)


def test_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"weights")
    with pytest.raises(IntegrityError, match="to have the SHA-256 abc, got "):
        brought(tmp_path / "model.joblib", TOY, sha256="abc")
