"""The pages match the code: everything that exists is documented, and nothing else is."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.catalog.releasing import Step as ReleaseStep
from mlops_pipeline.catalog.spec import DatasetSpec, ModelSpec, ServerSpec, Thresholds
from mlops_pipeline.cli import release_brief, release_documents, status
from mlops_pipeline.cli.app import app
from mlops_pipeline.definitions import make_definitions
from mlops_pipeline.delivery import verification
from mlops_pipeline.platforms import store_access
from mlops_pipeline.platforms.build import PLATFORMS
from mlops_pipeline.platforms.kubernetes.layers.istio import charts, tls
from mlops_pipeline.platforms.kubernetes.layers.object_store import keys, manifests
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.serving.__main__ import LIBRARIES
from mlops_pipeline.serving.custom.scratch import VARIABLE as SCRATCH
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.frameworks import IMPLEMENTATION, frameworks
from mlops_pipeline.serving.settings import read_settings
from mlops_pipeline.settings import CONFIG_VARIABLE, PREFIX, Settings
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import IstioSettings, SamplesSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference.md"
CURL = (
    "curl -X POST http://$GATEWAY/seldon/seldon/iris-model/api/v1.0/predictions "
    "-H 'Content-Type: application/json' "
    """-d '{ "data": { "ndarray": [[5.964, 4.006, 2.081, 1.031]] } }'"""
)


def _pages() -> list[Path]:
    pages = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    assert len(pages) > 5
    return pages


def _without_code(text: str) -> str:
    """Drop fenced blocks: a `#` in a shell line is no heading."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _headings(page: Path) -> list[str]:
    return re.findall(r"^#+ +(.+?) *$", _without_code(page.read_text()), flags=re.MULTILINE)


def _section(page: Path, heading: str) -> str:
    """Return the text from a heading to the next one of the same or a higher level."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}$(.*?)(?=^#{{1,6}} |\Z)",
        page.read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert found, f"{page.name} has no heading {heading!r}"
    return found.group(2)


def _rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table row, without its header and the line below it."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            yield cells


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# Settings


def _settings(table: type[BaseModel] = Settings, above: str = "") -> Mapping[str, str]:
    """Return key → default as the reference writes it, through all tables."""
    found: dict[str, str] = {}
    for name, field in table.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _settings(kind, f"{above}{name}.")
        else:
            found[above + name] = _default(field.get_default(call_default_factory=True))
    return found


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return {"()": "[]", "": '""', "None": "none"}.get(str(value), str(value))


def test_the_reference_has_every_setting_with_its_variable_and_no_other() -> None:
    documented = {_code(row[0])[0]: row for row in _rows(_section(REFERENCE, "Settings"))}
    assert documented.keys() == _settings().keys()
    for key, row in documented.items():
        assert _code(row[1])[0] == PREFIX + key.upper().replace(".", "__")
        assert all(len(cell) > 1 for cell in row), f"{key}: a cell is empty"
    assert CONFIG_VARIABLE in _section(REFERENCE, "Settings")


def test_the_reference_has_the_defaults_of_the_settings() -> None:
    documented = {_code(row[0])[0]: row[3] for row in _rows(_section(REFERENCE, "Settings"))}
    plain = {key: value for key, value in _settings().items() if key != "home"}
    assert {key: _code(documented[key])[0] for key in plain} == plain


# Commands


def _commands() -> Mapping[str, Any]:
    commands: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        commands |= {f"{name} {sub}": found for sub, found in below.items()} or {name: command}
    assert {"up", "down", "status"} <= commands.keys()
    return commands


def test_the_reference_has_every_command_and_no_other() -> None:
    text = REFERENCE.read_text()
    documented = set(
        re.findall(r"^### `mlops-pipeline ([a-z-]+(?: [a-z-]+)?)", text, flags=re.MULTILINE)
    )
    assert documented == set(_commands())


@pytest.mark.parametrize("name", sorted(_commands()))
def test_the_reference_has_every_argument_and_option_of_a_command(name: str) -> None:
    (heading,) = (h for h in _headings(REFERENCE) if re.match(rf"`mlops-pipeline {name}\b", h))
    documented = {_code(row[0])[0] for row in _rows(_section(REFERENCE, heading))}
    parameters = _commands()[name].params
    options = {p.opts[0] for p in parameters if p.param_type_name == "option"}
    arguments = {p.name.upper() for p in parameters if p.param_type_name == "argument"}
    assert documented == (options - {"--help", "--platform", "--debug"}) | arguments
    for argument in arguments:
        assert argument in heading


def test_the_reference_has_the_options_of_all_commands() -> None:
    shared = {p.opts[0] for p in typer.main.get_command(app).params}
    documented = {_code(row[0])[0] for row in _rows(_section(REFERENCE, "Options of all commands"))}
    assert shared >= {"--debug"}
    assert documented == shared | {"--help"}


def _documents(*modules: Any) -> list[type[BaseModel]]:
    """Return the documents and their parts that these modules define."""
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, BaseModel)
        and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("model", _documents(status, release_brief, release_documents))
def test_the_reference_has_every_field_of_a_document(model: type[BaseModel]) -> None:
    documented = {_code(row[0])[0] for row in _rows(_section(REFERENCE, model.__name__))}
    assert documented == model.model_fields.keys()


# Models


@pytest.mark.parametrize(
    "spec", [ModelSpec, DatasetSpec, ServerSpec, Thresholds, ReleaseSpec, ReleaseStep]
)
def test_every_field_of_a_model_is_explained(spec: type[Any]) -> None:
    page = DOCS / "adding-a-model.md"
    documented = {_code(row[0])[0] for row in _rows(_section(page, spec.__name__))}
    assert documented == spec.__dataclass_fields__.keys()


def test_the_example_is_the_model_of_the_tests() -> None:
    page = (DOCS / "adding-a-model.md").read_text()
    assert f"```python\n{(ROOT / 'mlops_pipeline_tests' / 'wine.py').read_text()}```" in page


# The serving runtime


class _Recorder(dict[str, str]):
    """An environment that is empty and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return default

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


def test_every_variable_of_the_serving_runtime_is_documented() -> None:
    environment = _Recorder()
    read_settings(environment)
    assert {"PREDICTIVE_UNIT_ID", "MLOPS_MAX_BODY_BYTES"} <= environment.asked
    rows = _rows(_section(DOCS / "serving.md", "Environment variables"))
    documented = {name for row in rows for name in _code(row[0])}
    others = {IMPLEMENTATION, SCRATCH}
    assert documented == environment.asked | LIBRARIES.keys() | others


def test_every_exit_code_of_the_serving_runtime_is_documented() -> None:
    rows = _rows(_section(DOCS / "serving.md", "Exit codes"))
    assert {int(_code(row[0])[0]) for row in rows} == {int(code) for code in ExitCode}


# Checks


def _checks(tmp_path: Path) -> Mapping[str, bool]:
    """Return name → blocking of every check on any platform, with all that settings can turn on."""
    everything = KindSettings(
        ingress_nginx=True,
        istio=IstioSettings(tls="self-signed"),
        samples=SamplesSettings(bookinfo=True),
    )
    settings = Settings(home=tmp_path, kind=everything)
    catalog = load_catalog([str(file) for file in (ROOT / "examples").glob("*.py")])
    definitions = (
        make_definitions(PlatformResource.of(name, settings), catalog=catalog, settings=settings)
        for name in PLATFORMS
    )
    checks = (c for made in definitions for c in made.asset_checks or ())
    return {_generic(spec.name): spec.blocking for made in checks for spec in made.check_specs}


def _generic(check: str) -> str:
    """Return the name under which the runbook has the check of any metric: that of accuracy."""
    served, is_limit = re.match(r"(served_)?", check), r"[a-z0-9_]+_at_(least|most)_threshold"
    assert served
    start = served.group()
    return f"{start}accuracy_at_least_threshold" if re.fullmatch(is_limit, check) else check


def test_the_runbook_has_a_heading_for_every_check_and_no_other(tmp_path: Path) -> None:
    page, checks = DOCS / "operating.md", _checks(tmp_path)
    named = {h.strip("`") for h in _headings(page) if re.fullmatch(r"`\w+_\w+`|`routes`", h)}
    blocking = {name for name, blocks in checks.items() if blocks}
    assert len(blocking) >= 10
    assert blocking < checks.keys()
    assert named == checks.keys()
    for name, blocks in checks.items():
        text = _section(page, f"`{name}`")
        assert ("Blocking" in text) == blocks, name
        assert all(part in text for part in ("**Red means**", "**Look at**", "**Do**")), name


def test_the_page_that_an_error_names_has_the_heading_that_it_names() -> None:
    source = (ROOT / "mlops_pipeline" / "delivery" / "proving.py").read_text()
    assert "docs/operating.md, skew" in source
    assert "Skew" in _headings(DOCS / "operating.md")


# README and links


def test_the_readme_has_the_reference_request_verbatim() -> None:
    assert CURL in (ROOT / "README.md").read_text().splitlines()


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md")]
    assert len(pages) > 5
    assert [p.name for p in pages if f"({p.relative_to(ROOT)})" not in readme] == []


def _slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _links(page: Path, *, images: bool) -> Iterator[str]:
    """Yield the relative targets of the page's links, or of its images."""
    for mark, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if bool(mark) == images and not re.match(r"[a-z]+:", target):
            yield target


def _broken(page: Path, *, images: bool) -> Iterator[str]:
    for target in _links(page, images=images):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or ROOT not in path.parents:
            yield f"{page.relative_to(ROOT)}: {target}: no such file"
        elif anchor and anchor not in map(_slug, _headings(path)):
            yield f"{page.relative_to(ROOT)}: {target}: no such heading"


def _locked(distribution: str) -> set[str]:
    lock = (ROOT / "requirements" / "dev.lock").read_text()
    return set(re.findall(rf"^{distribution}==(\S+)", lock, flags=re.MULTILINE))


@pytest.mark.parametrize("page", ["bring-your-model.md", "kind.md"])
def test_versions_of_frameworks_are_those_of_the_lock(page: str) -> None:
    text = (DOCS / page).read_text()
    named = [
        (row.libraries, version)
        for row in frameworks()
        for version in re.findall(rf"{row.title} (\d+\.\d+\.\d+)", text)
    ]
    assert len(named) >= 2
    for libraries, version in named:
        assert {version} in [_locked(library) for library in libraries], (libraries, version)


def test_every_file_of_the_training_code_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def remember(path: Path) -> bytes:
        read.append(path)
        return b""

    monkeypatch.setattr(Path, "read_bytes", remember)
    worker.fingerprint()
    said = _section(DOCS / "adding-a-model.md", "What creates a new artifact")
    named = {path.parent / "" if path.parent.name == "tasks" else path for path in read}
    parent = Path(worker.__file__).parents[1]
    assert {path.relative_to(parent).as_posix() for path in named} == {
        name.rstrip("/") for name in re.findall(r"`((?:catalog|serving)/[^`]+)`", said)
    }


def test_the_number_of_single_rows_is_the_documented_one() -> None:
    rows = verification._SINGLE_ROWS
    assert f"and {rows} single rows" in (DOCS / "architecture.md").read_text()
    assert f"of {rows} single-row requests" in (DOCS / "operating.md").read_text()


def test_every_relative_link_leads_somewhere() -> None:
    assert sum(len(list(_links(page, images=False))) for page in _pages()) > 20
    assert [problem for page in _pages() for problem in _broken(page, images=False)] == []


def test_every_picture_is_there() -> None:
    assert "docs/images/asset-graph.png" in _links(ROOT / "README.md", images=True)
    assert [problem for page in _pages() for problem in _broken(page, images=True)] == []


def test_broken_links_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n[a](#one-two) [b](#three) [c](gone.md) [d](https://e.org) ![f](g)"
    )
    assert len(list(_broken(page, images=False))) == 2
    assert len(list(_broken(page, images=True))) == 1


def test_who_can_do_what_names_the_secrets_and_the_port_of_a_cluster() -> None:
    page = (DOCS / "security.md").read_text().partition("\n## In a cluster\n")[2]
    secrets = (
        f"`{manifests.NAMESPACE}/{keys.NAME}`",
        f"`{store_access.SECRET}`",
        f"`{charts.NAMESPACE}/{tls.SECRET}`",
    )
    assert [name for name in secrets if name not in page] == []
    (rule,) = manifests.network_policy()["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [manifests.PORT]
    assert f"\n| {manifests.PORT} of the object store's pod" in page
    assert f"NetworkPolicy that allows others to reach only port {manifests.PORT}" in page


def test_every_decision_is_numbered_and_complete() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:5] for page in decisions] == [
        f"{number:04}-" for number in range(1, len(decisions) + 1)
    ]
    assert len(decisions) >= 8
    for page in decisions:
        title, *parts = _headings(page)
        assert title.startswith(f"{page.name[:4]}: "), page.name
        assert parts == ["Context", "Decision", "Consequences", "Rejected"], page.name


def test_no_page_names_a_path_of_a_machine() -> None:
    private = re.compile(r"(?<![\w.])/(?:work|root|home|Users|tmp)/")
    named = {page.name: private.findall(page.read_text()) for page in _pages()}
    assert {name: found for name, found in named.items() if found} == {}
