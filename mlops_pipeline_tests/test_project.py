"""The promises that the project makes about itself, held without a process."""

import ast
import configparser
import hashlib
import re
import statistics
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools.discovery import PackageFinder

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlops_pipeline"
GENERATED = ("*_pb2.py", "*_pb2_grpc.py", "*_pb2.pyi")


def _sources() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not any(fnmatch(path.name, pattern) for pattern in GENERATED):
            yield path


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def _lines(section: str, option: str) -> list[str]:
    lines = _setup()[section][option].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# Dagster's configuration


def test_only_workspace_yaml_configures_dagster() -> None:
    tools = _pyproject()["tool"]
    assert not {"dagster", "dg"} & tools.keys(), "it would silently beat workspace.yaml"
    assert not [name for name in ("dg.toml", ".dg.toml") if (ROOT / name).exists()]


def test_every_code_location_names_something_that_definitions_assigns() -> None:
    tree = ast.parse((PACKAGE / "definitions.py").read_text())
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for location in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]:
        module = location["python_module"]
        assert module["module_name"] == "mlops_pipeline.definitions"
        assert module["attribute"] in assigned | functions
        assert module["working_directory"] == "."


# The wheel


def _packages() -> list[str]:
    return list(PackageFinder.find(str(ROOT), include=_lines("options.packages.find", "include")))


def test_the_wheel_holds_the_project_and_no_tests() -> None:
    packages = _packages()
    assert "mlops_pipeline" in packages
    assert [p for p in packages if p.split(".")[0] != "mlops_pipeline"] == []


def test_the_wheel_leaves_no_folder_of_code_out() -> None:
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("*.py")}
    assert folders - set(_packages()) == set(), "is an __init__.py missing?"


def test_every_data_file_is_package_data() -> None:
    patterns = _lines("options.package_data", "mlops_pipeline")
    files = [p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.is_file()]
    data = [f for f in files if not f.endswith((".py", ".pyi", ".pyc"))]
    assert {"py.typed", "catalog/data/mnist.npz", "catalog/data/LICENSE.mnist"} <= set(data)
    assert [f for f in data if not any(fnmatch(f, pattern) for pattern in patterns)] == []


def test_mnist_is_the_file_that_its_licence_names() -> None:
    data = PACKAGE / "catalog" / "data"
    digest = hashlib.sha256((data / "mnist.npz").read_bytes()).hexdigest()
    assert digest in (data / "LICENSE.mnist").read_text()


# The locks


def _pins(lock: str) -> Mapping[str, set[str]]:
    """Return name → pinned versions; Python versions may have pins of their own."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([^\s=]+)==([^\s;]+)", (ROOT / "requirements" / lock).read_text(), flags=re.MULTILINE
    ):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


@pytest.mark.parametrize(
    ("lock", "section", "option"),
    [
        ("runtime.lock", "options", "install_requires"),
        ("dev.lock", "options", "install_requires"),
        ("dev.lock", "options.extras_require", "dev"),
    ],
)
def test_the_lock_pins_what_setup_cfg_asks_for(lock: str, section: str, option: str) -> None:
    pins = _pins(lock)
    wanted = [Requirement(line) for line in _lines(section, option)]
    pinned = {str(w): pins.get(canonicalize_name(w.name), set()) for w in wanted}
    stale = {
        str(w): pinned[str(w)]
        for w in wanted
        if not pinned[str(w)] or not all(w.specifier.contains(v) for v in pinned[str(w)])
    }
    assert stale == {}, "run `make lock`"


def test_people_develop_with_the_versions_that_users_get() -> None:
    development, runtime = _pins("dev.lock"), _pins("runtime.lock")
    assert {name: pins for name, pins in runtime.items() if development.get(name) != pins} == {}


@pytest.mark.parametrize("lock", ["runtime.lock", "dev.lock", "uv.lock"])
def test_every_pin_has_a_hash_and_no_lock_names_an_index(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text
    pins = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []


# What people and CI type


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def _pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_names_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make up" in readme
    assert "make test" in readme


def test_every_make_target_that_a_page_names_exists() -> None:
    named = {
        target
        for page in _pages()
        for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    }
    assert named - _targets() == set()


def test_every_target_that_people_use_says_what_it_does() -> None:
    targets = re.findall(
        r"^\.PHONY: ([a-z-]+)\n\1:([^#\n]*)(##)?", (ROOT / "Makefile").read_text(), re.M
    )
    assert [name for name, _, text in targets if not text] == ["moved"]


def test_check_runs_every_kind_of_check_and_ci_runs_what_people_run() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\ncheck:")[1].split("\n\n")[0]
    for tool in ("ruff format", "ruff check", "mypy", "lint-imports"):
        assert tool in recipe
    assert re.search(r"^test: check\b", makefile, re.MULTILINE)
    ci = ROOT / ".ci" / "run"
    assert re.search(r"^make test\b", ci.read_text(), re.MULTILINE)
    assert ci.stat().st_mode & 0o111


# The style of the code


def _functions() -> dict[str, int]:
    """Return place → lines of every function, from its `def` to its end; a protocol's have none."""
    lengths = {}
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _only_says(node):
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                lengths[place] = (node.end_lineno or node.lineno) - node.lineno + 1
    return lengths


def _only_says(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in function.body)


def test_no_function_is_over_60_lines() -> None:
    assert {place: n for place, n in _functions().items() if n > 60} == {}


def test_half_of_the_functions_have_10_lines_and_nine_in_ten_35() -> None:
    lengths = _functions()
    assert statistics.median(lengths.values()) <= 10
    over = {place: n for place, n in lengths.items() if n > 35}
    assert len(over) <= len(lengths) / 10, over


MORE_IMPORTS = {
    "mlops_pipeline/cli/app.py",
    "mlops_pipeline/platforms/kubernetes/deployments/deployments.py",
}
"""Files that still import more of the package than a module should."""


def test_no_class_is_over_250_lines() -> None:
    long = {
        str(path.relative_to(ROOT))
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno + 1 > 250
    }
    assert long == set(), "split it by what it is responsible for"


def test_no_module_imports_more_than_15_of_the_package_but_those_that_are_named() -> None:
    more = {str(path.relative_to(ROOT)) for path in _sources() if len(_internal_imports(path)) > 15}
    assert more == MORE_IMPORTS, "split it by what it is responsible for, or take it off the list"


def _internal_imports(path: Path) -> set[str]:
    found = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom))
    return {n.module for n in found if n.module and n.module.startswith("mlops_pipeline")}


def test_no_module_is_named_for_being_left_over() -> None:
    vague = {"utils", "util", "helpers", "helper", "constants", "common", "misc"}
    assert [str(p) for p in _sources() if p.stem in vague or p.parent.name in vague] == []


def _lines_of_assets() -> dict[str, int]:
    """Return place → lines, without the docstring, of what an asset or a check decorates."""
    lengths = {}
    for path in sorted((PACKAGE / "assets").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if re.search(r"\bdg\.(multi_)?asset(_check)?\b", decorators):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                lengths[place] = (node.end_lineno or first.lineno) - first.lineno + 1
    return lengths


def test_an_asset_is_at_most_20_lines() -> None:
    assert {place: n for place, n in _lines_of_assets().items() if n > 20} == {}
