"""The table of frameworks, and a framework that another package adds to it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlops_pipeline.serving import frameworks

ADDED = """
from mlops_pipeline.serving.frameworks import Framework, Quantities

BOOSTED = Framework(
    name="boosted",
    implementation="BOOSTED_SERVER",
    title="Boosted",
    icon="xgboost",
    loader="added:load",
    find=lambda folder: 1 if (folder / "model.boosted").exists() else None,
    found_by="model.boosted",
    libraries=("numpy",),
    image="registry.example/boosted:1",
    resources=Quantities(memory="300Mi"),
)
CLASH = Framework(
    name="sklearn", implementation="OTHER", title="", icon="", loader="", find=lambda folder: None,
    found_by="", libraries=(),
)
WRONG = "no framework"

def load(folder, manifest):
    raise NotImplementedError
"""
SHOWN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.spec import InvalidSpecError
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart
from mlops_pipeline.platforms.seldon import parse
from mlops_pipeline.serving import bare, frameworks
from mlops_pipeline.settings.kind import KindSettings

class Images:
    def reference(self, implementation):
        image = frameworks.find_served(implementation).image
        return image if "/" in image else f"{image}:tag"

server = replace(IRIS.server, implementation="BOOSTED_SERVER")
replace(IRIS, framework="boosted", server=server)
try:
    replace(IRIS, framework="boosted")
except InvalidSpecError as error:
    mismatch = str(error)
settings = KindSettings.model_validate({"serving": {"boosted": {"memory": "400Mi"}}})
graph = {"name": "g", "implementation": "BOOSTED_SERVER", "modelUri": "s3://models/x"}
manifest = parse({
    "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment",
    "metadata": {"name": "own"}, "spec": {"predictors": [{"name": "d", "graph": graph}]},
})
folder = Path(sys.argv[1])
(folder / "model.boosted").touch()
print(json.dumps({
    "names": frameworks.names(),
    "mismatch": mismatch,
    "implementation": manifest.spec.predictors[0].graph.implementation,
    "bare": bare.describe(folder).framework,
    "reproducible": frameworks.get_framework("boosted").reproducible,
    "server": chart.servers(settings, Images())["BOOSTED_SERVER"],
    "memory": settings.serving.resources_of("BOOSTED_SERVER").memory,
    "usual": KindSettings().serving.resources_of("BOOSTED_SERVER").memory,
}))
"""


def test_a_package_adds_a_framework_without_a_line_changed_here(tmp_path: Path) -> None:
    (tmp_path / "added.py").write_text(ADDED)
    installed = tmp_path / "added-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(
        "[mlops_pipeline.frameworks]\nboosted = added:BOOSTED\nclash = added:CLASH\n"
        "missing = nowhere:ROW\nwrong = added:WRONG\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHOWN), str(tmp_path)],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["names"].split("; ") == [
        "sklearn, tensorflow, xgboost, lightgbm, onnx, boosted",
        "the entry point clash of mlops_pipeline.frameworks could not be used (another framework "
        "already uses sklearn)",
        "the entry point missing of mlops_pipeline.frameworks could not be used "
        "(ModuleNotFoundError: No module named 'nowhere')",
        "the entry point wrong of mlops_pipeline.frameworks could not be used (expected a "
        "Framework in added:WRONG, got str)",
    ]
    assert "a boosted model is served by BOOSTED_SERVER" in shown["mismatch"]
    assert shown["implementation"] == "BOOSTED_SERVER"
    assert shown["bare"] == "boosted"
    assert shown["reproducible"] == "unknown", "nobody measured it"
    image = {"image": "registry.example/boosted", "defaultImageVersion": "1"}
    assert shown["server"] == {"protocols": {"seldon": image, "v2": image}}
    assert (shown["memory"], shown["usual"]) == ("400Mi", "300Mi")


@pytest.mark.parametrize("word", frameworks.implementations())
def test_only_the_table_names_an_implementation(word: str) -> None:
    """Elsewhere only for people: in docstrings, comments and the models of the catalog."""
    package = Path(__file__).parents[2] / "mlops_pipeline"
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        for line in path.read_text().splitlines()
        if f'"{word}"' in line
    ]
    models = ("catalog/iris.py", "catalog/mnist.py", "serving/frameworks.py")
    assert [place for place in found if not place.startswith(models)] == []
