import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients.containers import full_reference
from mlops_pipeline.clients.engine_images import ImageInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.sources import bundle as bundles
from mlops_pipeline.platforms.sources import contents
from mlops_pipeline.platforms.sources.bundle import Bundle
from mlops_pipeline.platforms.sources.checking import Fault, check
from mlops_pipeline.platforms.sources.gathering import MAKING, Gathering
from mlops_pipeline.platforms.sources.verified import Verified
from mlops_pipeline.platforms.sources.versions import PYTHON
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.file_server import FileServer, serving
from mlops_pipeline_tests.platforms.sources.upstreams import (
    CHART,
    HELM,
    KIND,
    MACHINE,
    MANIFEST,
    NAMES,
    downloads,
    mirror,
    versions,
)

CONTROLLER, SPEAKER = "quay.io/metallb/controller:v0.16.1", "quay.io/metallb/speaker:v0.16.1"
NODE = "kindest/node:v1.34.11"
IMAGES = (CONTROLLER, SPEAKER, NODE, f"docker.io/library/python:{PYTHON}-slim-bookworm")


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "this_machine", lambda: MACHINE)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(mirror()) as server:
        yield server


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(registry=IMAGES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def gathering(tmp_path: Path, server: FileServer, engine: FakeEngine) -> Gathering:
    return Gathering(
        machine=MACHINE,
        versions=versions(tmp_path),
        engine=engine,
        downloads=lambda locks: downloads(tmp_path, server.url),
    )


@pytest.fixture
def made(tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path) -> Path:
    gathering(tmp_path, server, engine).create(folder, NAMES)
    server.requests.clear()
    engine.saved.clear()
    engine.pulled.clear()
    return folder


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_bundle_has_everything_and_is_used_by_name(made: Path, tmp_path: Path) -> None:
    assert files(made) == [
        *("bin/helm", "bin/kind", "bundle.toml", "charts/istiod-1.30.4.tgz"),
        *("images/metallb.tar", "images/node.tar", "images/python.tar"),
        "manifests/metallb-native.yaml",
    ]
    bundle = Bundle(made, verified=Verified())
    bundle.require(NAMES)
    assert bundle.binary("kind").read_bytes() == KIND
    assert bundle.binary("helm").read_bytes() == HELM
    assert bundle.chart("istiod").path.read_bytes() == CHART
    assert bundle.manifest("metallb-native").path.read_bytes() == MANIFEST
    assert bundle.node_image().reference == NODE
    assert bundle.archives("metallb")[0].images == (CONTROLLER, SPEAKER)
    assert check(made, needed=NAMES) == ()
    kinds = {file.path: file.kind for file in contents.read(made).files}
    assert kinds["images/node.tar"] == "node-image"
    assert kinds["images/python.tar"] == "build-image"


def test_a_bundle_that_is_whole_is_made_again_without_a_network(
    made: Path, tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    before = (made / "bundle.toml").read_text()
    gathering(tmp_path, server, engine).create(made, NAMES)
    assert (server.requests, engine.saved, engine.pulled) == ([], [], [])
    assert (made / "bundle.toml").read_text() == before


def test_images_are_pulled_by_digest_and_keep_their_names(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    gathering(tmp_path, server, engine).create(folder, NAMES)
    assert [p.partition("@")[0] for p in engine.pulled] == [CONTROLLER, SPEAKER, IMAGES[3], NODE]
    assert [bool(p.partition("@")[2]) for p in engine.pulled] == [True, False, False, True]
    assert engine.saved[0] == (CONTROLLER, SPEAKER)


def test_images_that_the_engine_has_are_not_pulled(
    tmp_path: Path, server: FileServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(images=IMAGES)
    gathering(tmp_path, server, engine).create(folder, NAMES)
    assert engine.pulled == []
    assert f"using {CONTROLLER} of the engine unchanged" in caplog.text


@pytest.mark.parametrize(
    ("there", "pulls"),
    [
        (ImageInfo(MACHINE, frozenset({"sha256:f51ab515de9ccd20dc3dccb093e48df8adddac01"})), True),
        (ImageInfo("linux/arm64", frozenset()), True),
        (ImageInfo(MACHINE, frozenset()), False),
    ],
)
def test_another_image_of_that_name_is_replaced(
    tmp_path: Path,
    server: FileServer,
    folder: Path,
    there: ImageInfo,
    pulls: bool,  # noqa: FBT001  # a parameter of pytest
) -> None:
    engine = FakeEngine(images=IMAGES, registry=IMAGES)
    engine.image_infos[CONTROLLER] = there
    gathering(tmp_path, server, engine).create(folder, NAMES)
    assert [p.partition("@")[0] for p in engine.pulled] == ([CONTROLLER] if pulls else [])


def test_a_registry_without_an_image_for_the_machine_is_told(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    class Wrong(FakeEngine):
        def find_image(self, reference: str) -> ImageInfo | None:
            found = super().find_image(reference)
            return replace(found, platform="linux/s390x") if found else None

    with pytest.raises(CommandError, match=r"for linux/amd64: its registry returned linux/s390x"):
        gathering(tmp_path, server, Wrong(registry=IMAGES)).create(folder, NAMES)


def test_what_was_made_before_it_broke_off_is_kept(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    engine.registry.discard(full_reference(NODE))
    with pytest.raises(CommandError, match="could not pull the image kindest/node"):
        gathering(tmp_path, server, engine).create(folder, NAMES)
    with pytest.raises(ConfigurationError, match="is not a bundle"):
        check(folder)
    engine.registry.add(full_reference(NODE))
    server.requests.clear()
    saved = len(engine.saved)
    gathering(tmp_path, server, engine).create(folder, NAMES)
    assert server.requests == []
    assert engine.saved[saved:] == [(NODE,)]
    assert check(folder, needed=NAMES) == ()


def test_what_was_altered_is_made_anew(
    made: Path, tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    for name in ("bin/kind", "images/metallb.tar", "charts/istiod-1.30.4.tgz"):
        (made / name).write_text("altered")
    gathering(tmp_path, server, engine).create(made, NAMES)
    assert check(made) == ()
    assert engine.saved == [(CONTROLLER, SPEAKER)]
    assert (made / "bin/kind").read_bytes() == KIND


def test_what_is_no_longer_wanted_goes(
    made: Path, tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    (made / "notes.txt").write_text("a person's")
    gathering(tmp_path, server, engine).create(made, [n for n in NAMES if n != "istiod"])
    assert "charts/istiod-1.30.4.tgz" not in files(made)
    assert check(made) == (Fault("extra", "notes.txt"),)


def test_a_bundle_that_is_made_again_is_not_whole_meanwhile(
    made: Path, tmp_path: Path, server: FileServer
) -> None:
    (made / "images/metallb.tar").unlink()
    with pytest.raises(UnavailableError):
        gathering(tmp_path, server, FakeEngine(unavailable="stopped")).create(made, NAMES)
    assert not (made / "bundle.toml").exists()
    assert (made / MAKING / "bundle.toml").exists()


def test_somebody_elses_folder_is_refused(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(ConflictError, match=r"letter\.txt"):
        gathering(tmp_path, server, engine).create(folder, NAMES)
    assert files(folder) == ["letter.txt"]


def test_a_bundle_that_somebody_else_made_is_left_as_it_is(
    made: Path, tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    listed = made / "bundle.toml"
    listed.write_text(listed.read_text().replace('name = "mlops-pipeline"', 'name = "mine"'))
    (made / "bin/kind").write_text("theirs")
    before = files(made)
    with pytest.raises(ConflictError, match=r"'mine'.*in another folder.*MLOPS_BUNDLE"):
        gathering(tmp_path, server, engine).create(made, ["helm"])
    assert files(made) == before
    assert (made / "bin/kind").read_text() == "theirs"


def test_a_list_that_cannot_be_read_stays_where_it_is(
    made: Path, tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    (made / "bundle.toml").write_text("name = [")
    with pytest.raises(ConfigurationError, match="is invalid"):
        gathering(tmp_path, server, engine).create(made, NAMES)
    assert (made / "bundle.toml").read_text() == "name = ["


def test_a_place_where_no_bundle_can_be_is_told(
    tmp_path: Path, server: FileServer, engine: FakeEngine
) -> None:
    (tmp_path / "file").touch()
    for place, said in (("file", "is not a folder"), ("file/below", "could not write")):
        with pytest.raises(PipelineError, match=said):
            gathering(tmp_path, server, engine).create(tmp_path / place, NAMES)


def test_two_that_make_the_same_bundle_take_turns(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    (folder / MAKING).mkdir(parents=True)
    quick = gathering(tmp_path, server, engine)
    with (
        Locks(folder / MAKING, timeout=0).held("create", purpose="make it"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("mlops_pipeline.platforms.sources.gathering._LOCK_TIMEOUT", 0.1)
        with pytest.raises(UnavailableError, match="make it"):
            quick.create(folder, NAMES)
    quick.create(folder, NAMES)
    assert check(folder) == ()


def test_what_comes_altered_makes_no_bundle(
    tmp_path: Path, server: FileServer, engine: FakeEngine, folder: Path
) -> None:
    server.files["/raw.example/v0.16.1/metallb-native.yaml"] = b"altered"
    with pytest.raises(IntegrityError):
        gathering(tmp_path, server, engine).create(folder, NAMES)
    assert not (folder / "bundle.toml").exists()


# Checking


def test_every_fault_is_named(made: Path) -> None:
    (made / "bin/kind").unlink()
    (made / "images/node.tar").write_text("short")
    (made / "manifests/metallb-native.yaml").write_bytes(MANIFEST[::-1])
    (made / "charts/other.tgz").write_text("other")
    found = check(made, needed=[*NAMES, "storage"])
    assert [(fault.kind, fault.what) for fault in found] == [
        ("missing", "bin/kind"),
        ("altered", "manifests/metallb-native.yaml"),
        ("altered", "images/node.tar"),
        ("extra", "charts/other.tgz"),
        ("lacking", "storage"),
    ]
    assert found[0].seen == "No such file or directory"
    assert found[1].seen.startswith("SHA-256 ")
    assert found[2].seen.startswith("5 bytes instead of ")


def test_checking_reads_every_byte_although_the_time_is_the_same(made: Path) -> None:
    path = made / "bin/kind"
    seen = path.stat()
    path.write_bytes(KIND[::-1])
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert [fault.kind for fault in check(made)] == ["altered"]


def test_a_list_that_leads_out_of_the_bundle_is_refused(made: Path) -> None:
    for path in ("../outside", "/etc/passwd", "bin/../../outside"):
        listed = contents.read(made)
        bad = replace(listed, files=(replace(listed.files[0], path=path),))
        contents.write(made, bad, file="bad.toml")
        with pytest.raises(ConfigurationError, match="is outside of the bundle; do not use"):
            contents.read(made, file="bad.toml")


def test_a_list_is_read_as_it_was_written(made: Path) -> None:
    listed = replace(contents.read(made), name='a "name" of\tcare \\ é')
    contents.write(made, listed)
    assert contents.read(made) == listed


def test_a_bundle_for_another_machine_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "this_machine", lambda: "linux/arm64")
    bundle = Bundle(made, verified=Verified())
    with pytest.raises(PipelineError, match=r"is for linux/amd64, but this machine is linux/arm64"):
        bundle.require(["kind"])
