import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources import (
    Archive,
    Chart,
    ManifestFile,
    NodeImage,
    Sources,
)
from mlops_pipeline.platforms.sources import verified as comparing
from mlops_pipeline.platforms.sources.bundle import Bundle
from mlops_pipeline.platforms.sources.verified import VerifiedOnce
from mlops_pipeline.platforms.sources.versions import ECHO_IMAGE
from mlops_pipeline_tests.fakes.sources import FakeSources

FILES = {
    "bin/kind": ("binary", "v0.33.0", []),
    "images/node.tar": ("node-image", "v1.34.4", ["kindest/node:v1.34.4"]),
    "images/istio.tar": ("images", "1.31", ["registry.istio.io/release/pilot:1.31"]),
    "images/istio.extra.tar": ("images", "1.31", ["registry.istio.io/release/ztunnel:1.31"]),
    "images/python.tar": ("build-image", "3.11", ["docker.io/library/python:3.11"]),
    "manifests/metallb-native.yaml": ("manifest", "v0.16.1", []),
    "charts/istiod-1.31.0-dev.tgz": ("chart", "1.31.0-dev", []),
    "charts/seldon-core-operator-1.17.1.tgz": ("chart", "1.17.1", []),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "bundle", FILES)


def make_folder(folder: Path, files: Mapping[str, tuple[str, str, list[str]]]) -> Path:
    entries = ['name = "test"', 'node_image = "kindest/node:v1.34.4"']
    for path, (kind, version, images) in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"the content of {path}")
        digest = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        entries += ["[[file]]", f'path = "{path}"', f'kind = "{kind}"', f'version = "{version}"']
        entries += [f'sha256 = "{digest}"', f"images = {images}"]
    (folder / "bin/kind").chmod(0o755)
    (folder / "bundle.toml").write_text("\n".join(entries))
    return folder


@pytest.fixture
def bundle(folder: Path, tmp_path: Path) -> Bundle:
    ClusterFolder(tmp_path / "state").prepare()
    return make_bundle(folder, tmp_path / "state")


def make_bundle(folder: Path, home: Path) -> Bundle:
    state = ClusterFolder(home)
    return Bundle(folder, verified=VerifiedOnce(state.verified, ready=state.is_prepared))


def test_everything_of_a_bundle_is_found_by_its_name(bundle: Bundle, folder: Path) -> None:
    assert bundle.binary("kind") == folder / "bin/kind"
    assert bundle.chart("istiod") == Chart(folder / "charts/istiod-1.31.0-dev.tgz", "1.31.0-dev")
    assert bundle.chart("seldon-core-operator").version == "1.17.1"
    assert bundle.manifest("metallb-native") == ManifestFile(
        folder / "manifests/metallb-native.yaml", "v0.16.1"
    )
    assert bundle.node_image() == NodeImage("kindest/node:v1.34.4", folder / "images/node.tar")
    assert bundle.archives("python") == (
        Archive(folder / "images/python.tar", ("docker.io/library/python:3.11",)),
    )
    assert [a.path.name for a in bundle.archives("istio")] == ["istio.tar", "istio.extra.tar"]
    assert bundle.echo_image() == ECHO_IMAGE
    bundle.require(["kind", "istiod", "istio", "metallb-native", "node"])


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda b: b.binary("helm"), "binary helm"),
        (lambda b: b.chart("base"), "chart base"),
        (lambda b: b.chart("kind"), "chart kind"),
        (lambda b: b.manifest("ingress-nginx"), "manifest ingress-nginx"),
        (lambda b: b.archives("seldon"), "images seldon"),
        (lambda b: b.require(["kind", "seldon"]), "seldon"),
    ],
)
def test_what_a_bundle_does_not_hold_is_named_with_what_it_holds(
    bundle: Bundle, ask: Callable[[Bundle], object], what: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"has no {what} \(it has istio, istiod, kind, "):
        ask(bundle)


def test_a_file_that_was_altered_is_refused(bundle: Bundle, folder: Path) -> None:
    (folder / "bin/kind").write_text("something else")
    with pytest.raises(IntegrityError, match=r"bin/kind has the digest .*copy the bundle again"):
        bundle.require(["kind"])


def test_a_file_that_changes_after_it_was_compared_is_refused(bundle: Bundle, folder: Path) -> None:
    path = folder / "charts/istiod-1.31.0-dev.tgz"
    bundle.chart("istiod")
    path.write_text("THE content of charts/istiod-1.31.0-dev.tgz")
    os.utime(path, ns=(1, 1))
    with pytest.raises(IntegrityError, match="istiod"):
        bundle.chart("istiod")


def test_a_file_is_compared_once_also_by_another_process(
    bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.require(["istio", "node"])
    bundle.chart("istiod")
    compared: list[Path] = []
    monkeypatch.setattr(comparing, "sha256_of", compared.append)
    again = make_bundle(folder, tmp_path / "state")
    again.require(["istio", "node"])
    again.chart("istiod")
    assert compared == []


def test_a_damaged_memory_is_no_harm(bundle: Bundle, tmp_path: Path) -> None:
    for content in ("{", "[]", "3"):
        (tmp_path / "state" / "verified.json").write_text(content)
        bundle.require(["kind"])


def test_looking_at_a_bundle_makes_no_state_folder(folder: Path, tmp_path: Path) -> None:
    make_bundle(folder, tmp_path / "none").require(["kind"])
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_not_ours_yet_is_not_written_to(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    make_bundle(folder, home).require(["kind"])
    assert list(home.iterdir()) == []
    ClusterFolder(home).prepare()
    make_bundle(folder, home).require(["kind"])
    assert ClusterFolder(home).verified.exists()


def test_our_own_images_are_looked_at_with_what_they_are_built_from(tmp_path: Path) -> None:
    reference = "localhost/mlops-pipeline/serving:1"
    files = {**FILES, "images/serving.tar": ("images", "1", [reference])}
    folder = make_folder(tmp_path / "bundle", files)
    bundle, archive = make_bundle(folder, tmp_path / "state"), folder / "images" / "serving.tar"
    bundle.require(["python"])
    assert bundle.archives("serving") == (Archive(archive, (reference,)),)
    archive.write_text("altered")
    bundle.require(["istio"])
    with pytest.raises(IntegrityError, match=r"serving\.tar"):
        bundle.require(["python"])
    archive.unlink()
    with pytest.raises(ConfigurationError, match=r"serving\.tar, which cannot be read"):
        bundle.require(["python"])
    with pytest.raises(ConfigurationError, match=r"serving\.tar, which cannot be read"):
        bundle.archives("serving")


def test_a_bundle_need_not_have_our_own_images(bundle: Bundle) -> None:
    bundle.require(["python"])
    assert bundle.archives("serving") == ()


def test_a_file_that_is_gone_is_named(bundle: Bundle, folder: Path) -> None:
    (folder / "images/istio.tar").unlink()
    with pytest.raises(
        ConfigurationError, match=r"istio\.tar, which cannot be read \(No such file"
    ):
        bundle.archives("istio")


def test_a_program_that_may_not_be_run_says_how_to_allow_it(bundle: Bundle, folder: Path) -> None:
    (folder / "bin/kind").chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"chmod \+x .*bin/kind"):
        bundle.binary("kind")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not a bundle: .*MLOPS_BUNDLE"),
        ("a = ", "is invalid"),
        ('name = "a"', "no 'file'"),
        ('[[file]]\npath = "a"', "no 'kind'"),
    ],
)
def test_a_folder_that_is_no_bundle_says_what_to_do(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "bundle.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        make_bundle(tmp_path, tmp_path / "v").binary("kind")


def test_all_of_them_are_sources(bundle: Bundle) -> None:
    every: tuple[Sources, ...] = (bundle, FakeSources())
    assert {source.echo_image() for source in every} == {ECHO_IMAGE}
    assert FakeSources().chart("istiod").path.name == "istiod-1.31.0.tgz"
    with pytest.raises(ConfigurationError, match="helm"):
        FakeSources(absent=["helm"]).require(["kind", "helm"])
