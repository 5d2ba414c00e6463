"""What is in the wheel, and what it says about itself."""

import email
import re
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from mlops_pipeline_tests.packaging.conftest import VERSIONS

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_what_is_read_when_it_runs(names: set[str]) -> None:
    assert {
        "mlops_pipeline/py.typed",
        "mlops_pipeline/catalog/data/mnist.npz",
        "mlops_pipeline/catalog/data/LICENSE.mnist",
        "mlops_pipeline/serving/seldon.proto",
    } <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mlops_pipeline"}
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_the_build_has_nothing_to_complain_about(wheel: Path) -> None:
    log = (wheel.parents[1] / "build.log").read_text()
    complaints = re.findall(r"(?im)^.*(?:warning|deprecat).*$", log)
    assert not [line for line in complaints if "byte-compiling is disabled" not in line]


def test_the_metadata_says_what_an_index_and_an_installer_ask(metadata: Message) -> None:
    assert metadata["Name"] == "mlops-pipeline"
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-SA-3.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# mlops-pipeline" in str(metadata.get_payload())
    classifiers = metadata.get_all("Classifier", [])
    pythons = {f"Programming Language :: Python :: {version}" for version in VERSIONS}
    assert pythons <= set(classifiers)
    assert not [c for c in classifiers if c.startswith("License ::")], "the expression says it"
    assert set(str(metadata["Requires-Python"]).split(",")) == {">=3.11", "<3.14"}
