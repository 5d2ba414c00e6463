"""A bundle's images through a real container engine, from a registry on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.containers import ContainerEngine, full_reference
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.platforms.sources.bundle import Bundle
from mlops_pipeline.platforms.sources.checking import check
from mlops_pipeline.platforms.sources.gathering import Gathering
from mlops_pipeline.platforms.sources.verified import Verified
from mlops_pipeline.platforms.sources.versions import (
    ECHO_IMAGE,
    PinnedImage,
    Versions,
    this_machine,
)
from mlops_pipeline_tests.file_server import FileServer, serving
from mlops_pipeline_tests.kind.registry import Pushed, push
from mlops_pipeline_tests.platforms.sources.upstreams import downloads

pytestmark = pytest.mark.kind


@pytest.fixture
def registry() -> Iterator[FileServer]:
    with serving(FileServer()) as server:
        yield server


@pytest.fixture
def pushed(registry: FileServer, bundle: Path | None, tmp_path: Path) -> Pushed:
    """The image that echoes, in the registry: from the bundle, or from where it is pulled."""
    engine, archive = ContainerEngine(), tmp_path / "echo.tar"
    if bundle is not None:
        held = Bundle(bundle, verified=Verified())
        engine.load(held.archives("extras")[0].path)
    else:
        engine.pull(ECHO_IMAGE, platform=_platform(), timeout=300)
    engine.save([ECHO_IMAGE], archive, platform=_platform(), timeout=300)
    return push(registry, archive, name="echo", tag="1.0.0")


def _platform() -> str:
    return f"linux/{this_machine().partition('/')[2]}"


def _gathering(tmp_path: Path, image: PinnedImage) -> Gathering:
    node = PinnedImage("node", "kindest/node:v1", "")
    return Gathering(
        machine=this_machine(),
        versions=Versions(files=(), images=(image, node)),
        engine=ContainerEngine(),
        downloads=lambda locks: downloads(tmp_path, ""),
    )


def test_an_image_is_pulled_by_digest_saved_and_loaded_under_its_name(
    tmp_path: Path, registry: FileServer, pushed: Pushed
) -> None:
    engine = ContainerEngine()
    reference = f"127.0.0.1:{registry.port}/{pushed.name}:{pushed.tag}"
    image = PinnedImage("extras", reference, pushed.digest)
    folder = tmp_path / "bundle"
    try:
        _gathering(tmp_path, image).create(folder, ["extras"])
        assert f"/v2/echo/manifests/{pushed.digest}" in registry.paths()
        found = engine.find_image(reference)
        assert found is not None
        assert (found.platform, found.digests) == (_platform(), frozenset({pushed.digest}))
        asked = len(registry.requests)
        (folder / "images" / "extras.tar").unlink()
        _gathering(tmp_path, image).create(folder, ["extras"])
        assert len(registry.requests) == asked, "what the engine has by that digest is not pulled"
    finally:
        _forget(engine, reference, pushed)
    assert not engine.has_image(reference)
    assert check(folder, needed=["extras"]) == ()
    try:
        engine.load(folder / "images" / "extras.tar")
        assert engine.has_image(full_reference(reference))
    finally:
        engine.remove_image(reference)


def test_another_image_than_the_pinned_one_makes_no_bundle(
    tmp_path: Path, registry: FileServer, pushed: Pushed
) -> None:
    reference = f"127.0.0.1:{registry.port}/{pushed.name}:{pushed.tag}"
    image = PinnedImage("extras", reference, f"sha256:{'0' * 64}")
    with pytest.raises(CommandError, match="could not pull the image"):
        _gathering(tmp_path, image).create(tmp_path / "bundle", ["extras"])
    assert not (tmp_path / "bundle" / "bundle.toml").exists()


def _forget(engine: ContainerEngine, reference: str, pushed: Pushed) -> None:
    name = reference.rpartition(":")[0]
    for each in (reference, f"{name}@{pushed.digest}"):
        engine.remove_image(each)
