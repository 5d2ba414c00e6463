"""The serving_image layer: what goes in, when it is built, where it is copied to."""

import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.deploy import slim
from mlops_pipeline.platforms.kubernetes.layers.serving_image import context as serving_context
from mlops_pipeline.platforms.kubernetes.layers.serving_image import libraries
from mlops_pipeline.platforms.kubernetes.layers.serving_image.context import BASE
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources import Archive
from mlops_pipeline.platforms.sources.versions import PYTHON
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    ExistingRig,
    Rig,
    existing_settings,
    make_engine,
    node,
)

ROOT = Path(__file__).parents[5]
LOCKS = ("serving.lock", "serving-tensorflow.lock")
INDEXES = (*serving_context._INDEXES, "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*INDEXES, *serving_context._PROXIES):
        monkeypatch.delenv(name, raising=False)


def an_engine(**given: Any) -> FakeEngine:
    return make_engine(containers=[node()], archives=FakeSources().contents(), **given)


def a_rig(home: Path, engine: FakeEngine | None = None, **settings: Any) -> Rig:
    made = KindSettings.model_validate({**settings, "ready_timeout": 60})
    return Rig(home / "state", engine=engine or an_engine(), settings=made).with_cluster()


def references(rig: Rig) -> tuple[str, str]:
    layer = ServingImage(rig.parts)
    return layer.reference("SKLEARN_SERVER"), layer.reference("TENSORFLOW_SERVER")


# What goes in


def test_the_images_hold_the_server_its_locks_and_nothing_else() -> None:
    names = set(serving_context.contents())
    assert {"Dockerfile", "install.sh", "slim.py", "uv.lock", *LOCKS} <= names
    assert {
        "runtime/mlops_pipeline/__init__.py",
        "runtime/mlops_pipeline/serving/pod.py",
        "runtime/mlops_pipeline/serving/protocols/seldon.py",
    } <= names
    inside = {name.split("/")[2] for name in names if name.startswith("runtime/")}
    assert inside == {"__init__.py", "serving"}


def test_every_change_of_what_goes_in_is_another_image() -> None:
    files = serving_context.contents()
    tag = serving_context.tag_of(files)
    assert re.fullmatch(r"[0-9a-f]{16}", tag)
    assert serving_context.tag_of(dict(reversed(files.items()))) == tag
    tags = {tag}
    for name in files:
        others = {n: content for n, content in files.items() if n != name}
        tags.add(serving_context.tag_of({**files, name: files[name] + b"\n"}))
        tags.add(serving_context.tag_of({**others, f"{name}.txt": files[name]}))
    assert len(tags) == 1 + 2 * len(files)


def test_the_context_can_be_read_by_whoever_runs_in_the_image(tmp_path: Path) -> None:
    serving_context.write({"a": b"1", "b/c/d.py": b"2"}, tmp_path)
    assert (tmp_path / "b" / "c" / "d.py").read_bytes() == b"2"
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {"a": 0o644, "b": 0o755, "c": 0o755, "d.py": 0o644}
    assert len({p.stat().st_mtime for p in tmp_path.rglob("*") if p.is_file()}) == 1


def test_the_base_image_has_the_python_that_trains() -> None:
    minor = ".".join(map(str, sys.version_info[:2]))
    assert f"docker.io/library/python:{minor}-slim-bookworm" == BASE


def _pins(path: Path) -> Mapping[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([^\s=]+)==([^\s;]+)", path.read_text(), re.MULTILINE):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


@pytest.mark.parametrize("lock", LOCKS)
def test_models_are_served_with_the_versions_that_train_them(lock: str) -> None:
    serving = _pins(ROOT / "mlops_pipeline" / "deploy" / lock)
    training = _pins(ROOT / "requirements" / "dev.lock")
    assert {
        "scikit-learn",
        "numpy",
        "pandas",
        "xgboost-cpu",
        "lightgbm",
        "onnxruntime",
        "mlflow-skinny",
        "skops",
        "pyyaml",
        "uvicorn",
        "uvloop",
        "grpcio",
        "protobuf",
    } <= serving.keys()
    assert {name: pins - training.get(name, set()) for name, pins in serving.items()} == {
        name: set() for name in serving
    }
    unneeded = {
        "mlserver",
        "gitpython",
        "dagster",
        "boto3",
        "keras",
        "tensorboard",
        "libclang",
        "coloredlogs",
        "sympy",
        "onnx",
        "pip",
        "setuptools",
    }
    assert not unneeded & serving.keys()


def test_tensorflow_comes_on_top_of_what_the_other_image_has() -> None:
    plain, heavy = (_pins(ROOT / "mlops_pipeline" / "deploy" / lock) for lock in LOCKS)
    assert plain.items() <= heavy.items()
    assert {"tensorflow", "tensorflow-cpu"} <= heavy.keys() - plain.keys()


@pytest.mark.parametrize("lock", [*LOCKS, "uv.lock"])
def test_every_pin_of_an_image_has_a_hash(lock: str) -> None:
    text = (ROOT / "mlops_pipeline" / "deploy" / lock).read_text()
    assert "://" not in text
    pins = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_images_are_installed_with_the_uv_of_the_project() -> None:
    theirs = ROOT / "mlops_pipeline" / "deploy" / "uv.lock"
    assert theirs.read_bytes() == (ROOT / "requirements" / "uv.lock").read_bytes()


def test_what_the_images_are_built_from_is_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["mlops_pipeline"].split()
    for name in serving_context.contents():
        if not name.startswith("runtime/") and not name.endswith(".py"):
            path = Path("deploy", name)
            assert any(path.match(pattern) for pattern in patterns), name


# How this machine reaches packages


def test_nothing_is_passed_on_where_nothing_is_set() -> None:
    assert serving_context.arguments({}) == {"BASE": BASE}


def test_pip_and_uv_are_told_of_the_same_index() -> None:
    given = {
        "PIP_INDEX_URL": "https://mirror/simple",
        "UV_EXTRA_INDEX_URL": "https://more/simple",
        "PIP_TRUSTED_HOST": "mirror",
        "HTTPS_PROXY": "http://user:word@proxy:3128",
        "no_proxy": "",
        "PIP_FIND_LINKS": "/opt/wheels",
    }
    assert serving_context.arguments(given) == {
        "BASE": BASE,
        "PIP_INDEX_URL": "https://mirror/simple",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "PIP_EXTRA_INDEX_URL": "https://more/simple",
        "UV_INDEX": "https://more/simple",
        "PIP_TRUSTED_HOST": "mirror",
        "UV_INSECURE_HOST": "mirror",
        "HTTPS_PROXY": "http://user:word@proxy:3128",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIP_INDEX_URL", "https://user:word@mirror/simple"),
        ("UV_INDEX", "https://one/simple two=https://user:word@mirror/simple"),
        ("PIP_EXTRA_INDEX_URL", "https://mirror/simple?a=b https://user:word@mirror/simple"),
    ],
)
def test_a_password_does_not_get_into_an_images_history(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} contains a password") as caught:
        serving_context.arguments({name: value})
    assert "word@" not in str(caught.value)


# The layer


def test_references_need_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "nothing")
    rig.engine.unavailable = "stopped"
    plain, heavy = references(rig)
    tag = ServingImage(rig.parts).tag
    assert plain == f"localhost/mlops-pipeline/serving:{tag}"
    assert heavy == f"localhost/mlops-pipeline/serving-tensorflow:{tag}"


def test_both_are_built_copied_and_then_left_alone(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    layer = ServingImage(rig.parts)
    assert layer.observe() == Absent()
    change = layer.ensure()
    plain, heavy = references(rig)
    assert change.action == "created"
    assert [build.target for build in rig.engine.builds] == ["serving", "serving-tensorflow"]
    assert [build.tag for build in rig.engine.builds] == [r for r in (plain, heavy)]
    for build in rig.engine.builds:
        assert build.arguments == {"BASE": BASE}
        assert build.labels == {"app.kubernetes.io/managed-by": "mlops-pipeline"}
        assert not build.context.exists()
    assert {reference for reference, _ in rig.engine.copied} == {r for r in (plain, heavy)}
    assert change.facts["serving"] == plain
    assert change.facts["serving_tensorflow"] == heavy
    assert change.facts["serving_mb"] == round((500 << 20) / 1e6)
    assert {"serving_seconds", "serving_tensorflow_seconds", "load_seconds"} <= change.facts.keys()
    assert isinstance(layer.observe(), Ready)
    again = ServingImage(rig.parts).ensure()
    assert (again.action, len(rig.engine.builds), len(rig.engine.copied)) == ("unchanged", 2, 2)


@dataclass
class Looking(FakeEngine):
    """Keeps what a build's context held, which is gone afterwards."""

    held: dict[str, bytes] = field(default_factory=dict)

    def __init__(self) -> None:
        FakeEngine.__init__(self, containers=[node()])
        self.held = {}

    def build(self, context: Path, **options: Any) -> None:
        files = (path for path in context.rglob("*") if path.is_file())
        self.held = {path.relative_to(context).as_posix(): path.read_bytes() for path in files}
        assert options["dockerfile"].read_text().startswith("#")
        assert options["network"] == "host"
        super().build(context, **options)


def test_a_build_sees_what_the_tag_stands_for(tmp_path: Path) -> None:
    engine = Looking()
    ServingImage(a_rig(tmp_path, engine).parts).ensure()
    assert engine.held == serving_context.contents()


class WithServing(FakeSources):
    """Sources that have images of our own, of a tag."""

    def __init__(self, *references: str) -> None:
        super().__init__()
        self.references = references

    def archives(self, group: str) -> tuple[Archive, ...]:
        if group != "serving":
            return super().archives(group)
        return (Archive(Path("/bundle/images/serving.tar"), self.references),)


def test_images_that_a_bundle_has_are_loaded_and_not_built(tmp_path: Path) -> None:
    references = ServingImage(a_rig(tmp_path).parts).references
    sources = WithServing(*references)
    engine = make_engine(
        containers=[node()], archives={Path("/bundle/images/serving.tar"): references}
    )
    rig = a_rig(tmp_path, engine)
    rig.sources = sources
    assert ServingImage(rig.parts).ensure().action == "created"
    assert [path.name for path in engine.loaded] == ["serving.tar"]
    assert engine.builds == []


def test_images_of_another_version_in_a_bundle_are_left_there(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    rig.sources = WithServing("localhost/mlops-pipeline/serving:other")
    ServingImage(rig.parts).build()
    assert "serving.tar" not in [path.name for path in rig.engine.loaded]
    assert len(rig.engine.builds) == 2


def test_the_base_image_is_loaded_from_an_archive_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_context, "BASE", "docker.io/library/python:3.11-slim-bookworm")
    rig = a_rig(tmp_path)
    ServingImage(rig.parts).ensure()
    assert [path.name for path in rig.engine.loaded] == ["python.tar"]


@pytest.mark.parametrize("there", [["docker.io/library/python:3.12-slim-bookworm"], []])
def test_the_base_image_is_pulled_where_no_archive_has_it(
    there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = "docker.io/library/python:3.12-slim-bookworm"
    monkeypatch.setattr(serving_context, "BASE", base)
    rig = a_rig(tmp_path, an_engine(images=there))
    ServingImage(rig.parts).ensure()
    assert rig.engine.loaded == []


def test_what_is_built_is_only_copied(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    rig.engine.images |= {reference for reference in references(rig)}
    layer = ServingImage(rig.parts)
    state = layer.observe()
    assert isinstance(state, Drifted)
    assert all(f"{CONTROL_PLANE} lacks localhost/mlops-pipeline/" in d for d in state.differences)
    assert layer.ensure().action == "updated"
    assert (rig.engine.builds, len(rig.engine.copied)) == ([], 2)


def test_only_what_is_missing_is_built(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    plain, heavy = references(rig)
    rig.engine.images.add(plain)
    layer = ServingImage(rig.parts)
    state = layer.observe()
    assert isinstance(state, Drifted)
    assert f"{heavy} is not built" in state.differences
    layer.ensure()
    assert [build.target for build in rig.engine.builds] == ["serving-tensorflow"]


def test_upstreams_images_are_left_to_the_nodes(tmp_path: Path) -> None:
    rig = a_rig(tmp_path, serving={"images": "upstream"})
    layer = ServingImage(rig.parts)
    state = layer.observe()
    assert isinstance(state, Ready)
    assert "upstream" in str(state.facts["images"])
    assert layer.ensure().action == "unchanged"
    assert layer.checks[0].run().passed
    assert rig.engine.builds == []
    assert ServingImage(Rig(tmp_path / "none", settings=rig.settings).parts).observe() == Absent()


def test_without_a_cluster_there_is_nothing_to_be_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "state", engine=an_engine())
    layer = ServingImage(rig.parts)
    assert layer.observe() == Absent()
    with pytest.raises(NotFoundError, match="the cluster is missing"):
        layer.ensure()
    assert rig.engine.builds == []


def test_a_cluster_that_was_deleted_behind_our_back_is_absent(tmp_path: Path) -> None:
    assert ServingImage(a_rig(tmp_path, make_engine()).parts).observe() == Absent()


def test_an_engine_that_does_not_answer_breaks_the_layer(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    rig.engine.unavailable = "stopped"
    layer = ServingImage(rig.parts)
    state = layer.observe()
    assert isinstance(state, Broken)
    assert "stopped" in state.reason
    with pytest.raises(UnavailableError, match="stopped"):
        layer.ensure()


class Failing(FakeEngine):
    def build(self, context: Path, **options: Any) -> None:
        raise CommandError("could not build the image x: … error: no route to pypi.org")


def test_a_failed_build_says_what_was_seen_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror/simple")
    rig = a_rig(tmp_path, Failing(containers=[node()]))
    with pytest.raises(CommandError) as caught:
        ServingImage(rig.parts).ensure()
    for words in ("no route to pypi.org", BASE, "https://mirror/simple", "up serving_image"):
        assert words in str(caught.value)


def test_the_engine_keeps_the_version_before_and_forgets_older_ones(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    for tag in ("first", "second"):
        for name in ("serving", "serving-tensorflow"):
            _build(rig.engine, f"localhost/mlops-pipeline/{name}:{tag}", MANAGED_BY)
    _build(rig.engine, "localhost/mlops-pipeline/serving:theirs", {})
    ServingImage(rig.parts).ensure()
    assert rig.engine.images >= {
        *references(rig),
        "localhost/mlops-pipeline/serving:second",
        "localhost/mlops-pipeline/serving-tensorflow:second",
        "localhost/mlops-pipeline/serving:theirs",
    }
    assert not [image for image in rig.engine.images if image.endswith(":first")]


def _build(engine: FakeEngine, tag: str, labels: Mapping[str, str]) -> None:
    engine.build(Path(), dockerfile=Path(), tag=tag, timeout=1, labels=labels)


def test_the_images_stay_in_the_engine_and_are_told(tmp_path: Path) -> None:
    rig = a_rig(tmp_path)
    layer = ServingImage(rig.parts)
    assert layer.describe_left() == ()
    layer.ensure()
    layer.remove()
    (said,) = layer.describe_left()
    assert all(reference in said for reference in layer.references)
    assert all(rig.engine.has_image(reference) for reference in layer.references)
    rig.engine.unavailable = "no daemon"
    assert layer.describe_left() == ()


def _answering(versions: Mapping[str, str]) -> FakeEngine:
    return an_engine(outputs=[(("versions",), json.dumps(versions))])


def test_the_check_passes_where_the_versions_are_those_here(tmp_path: Path) -> None:
    versions = {
        "python": f"{PYTHON}.99",
        "numpy": libraries._installed("numpy"),
        "tensorflow": libraries._installed("tensorflow"),
    }
    rig = a_rig(tmp_path, _answering(versions))
    layer = ServingImage(rig.parts)
    layer.ensure()
    finding = layer.checks[0].run()
    assert finding.passed, finding.seen
    assert finding.facts["numpy"] == versions["numpy"]
    assert [call.network for call in rig.engine.calls if "versions" in call.command] == ["none"] * 2


def test_the_check_names_what_trains_in_another_version(tmp_path: Path) -> None:
    rig = a_rig(tmp_path, _answering({"python": "2.7.18", "numpy": "1.0", "nothing": "1"}))
    layer = ServingImage(rig.parts)
    layer.ensure()
    finding = layer.checks[0].run()
    assert not finding.passed
    for words in ("python 2.7.18, expected", "numpy 1.0, expected", "nothing 1, expected none"):
        assert words in finding.seen


def test_an_optional_library_trains_nothing_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"numpy": libraries._installed("numpy"), "xgboost": "3.2.0", "lightgbm": "0.1"}
    rig = a_rig(tmp_path, _answering(held))
    layer = ServingImage(rig.parts)
    layer.ensure()
    here = {"numpy": held["numpy"], "lightgbm": "4.7.0"}
    monkeypatch.setattr(libraries, "_installed", lambda name: here.get(name, ""))
    seen = layer.checks[0].run().seen
    assert "lightgbm 0.1, expected 4.7.0" in seen
    assert "xgboost" not in seen


# Making an environment small


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of a real shared library, with something behind its segments."""
    found = importlib.util.find_spec("orjson.orjson")
    if sys.platform != "linux" or found is None or found.origin is None:
        pytest.skip("ELF is Linux's format")
    folder = tmp_path / "orjson"
    shutil.copytree(Path(found.origin).parent, folder)
    return folder / Path(found.origin).name


def test_a_library_without_its_symbols_still_loads(library: Path) -> None:
    whole = library.read_bytes()
    end = slim._end_of_segments(library)
    assert end is not None
    sections = int.from_bytes(whole[40:48], "little")
    moved = sections + slim.WORTH  # As if symbols lay before the table of sections.
    grown = whole[:sections] + bytes(slim.WORTH) + whole[sections:]
    library.write_bytes(grown[:40] + moved.to_bytes(8, "little") + grown[48:])
    assert slim.cut(library) == len(grown) - end
    assert library.stat().st_size == end
    assert slim.cut(library) == 0
    program = "import orjson; print(orjson.__file__, orjson.dumps([1]))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=library.parents[1],
        env={"PYTHONPATH": str(library.parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert str(library.parents[1]) in done.stdout
    assert "b'[1]'" in done.stdout


def test_what_is_no_library_or_small_is_left_as_it_is(tmp_path: Path, library: Path) -> None:
    script = tmp_path / "libc.so"
    script.write_text("GROUP ( libc.so.6 )")
    before = script.stat().st_mtime_ns, library.stat().st_mtime_ns
    assert (slim.cut(script), slim.cut(library)) == (0, 0)
    assert (script.stat().st_mtime_ns, library.stat().st_mtime_ns) == before


def test_what_no_server_opens_goes_and_the_rest_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("numpy/__init__.py", "numpy/testing.py", "pandas/__init__.py")
    gone = ("numpy/core/tests/test_a.py", "numpy/core.c", "tensorflow/include/a/b.hpp")
    for name in (*kept, *gone):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    slim.main()
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*") if p.is_file()}
    compiled = {name for name in files if name.endswith(".pyc")}
    assert files - compiled == set(kept)
    assert len(compiled) == 2
    assert not any(name.startswith("pandas") for name in compiled)


# Through a registry


def test_images_are_built_under_the_registry_s_name_and_pushed(tmp_path: Path) -> None:
    rig = ExistingRig(tmp_path / "state")
    layer = ServingImage(rig.parts)
    assert layer.observe() == Absent()
    assert layer.ensure().action == "created"
    assert rig.engine.pushed == set(layer.references)
    assert all(
        r.startswith("registry.example.com/team/mlops-pipeline/serving") for r in layer.references
    )
    assert isinstance(layer.observe(), Ready)
    assert layer.ensure().action == "unchanged"
    rig.engine.pushed.clear()
    state = layer.observe()
    assert isinstance(state, Drifted)
    assert "registry.example.com/team lacks registry.example.com/team/ml" in state.differences[0]
    assert len(rig.engine.builds) == 2
    assert layer.ensure().action == "updated"
    assert len(rig.engine.builds) == 2


def test_what_was_built_for_another_platform_or_came_in_a_bundle_is_named_for_the_registry(
    tmp_path: Path,
) -> None:
    built = ServingImage(a_rig(tmp_path).parts).references
    rig = ExistingRig(tmp_path / "existing", sources=WithServing(*built))
    rig.engine = make_engine(archives={Path("/bundle/images/serving.tar"): built})
    layer = ServingImage(rig.parts)
    layer.ensure()
    assert rig.engine.builds == []
    assert rig.engine.pushed == set(layer.references)


def test_without_a_registry_it_is_said_what_to_set(tmp_path: Path) -> None:
    rig = ExistingRig(tmp_path / "state", settings=existing_settings(images={}))
    layer = ServingImage(rig.parts)
    state = layer.observe()
    assert isinstance(state, Broken)
    assert "set kubernetes.images.registry" in state.reason
    with pytest.raises(ConfigurationError, match=r"set kubernetes\.images\.registry"):
        layer.ensure()
