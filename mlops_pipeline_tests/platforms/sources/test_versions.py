import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlops_pipeline.clients.containers import full_reference
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.sources import versions
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import SamplesSettings, SeldonSettings

MACHINES = ("linux/amd64", "linux/arm64", "darwin/arm64")
ROOT = Path(__file__).parents[3]
NOT_PUBLISHED = (
    "docker.io/library/python:",
    "docker.io/seldonio/rclone-storage-initializer:",
    "docker.io/seldonio/seldon-core-executor:",
    "docker.io/seldonio/seldon-core-operator:",
    "registry.istio.io/release/examples-bookinfo-",
)
"""Images whose digest upstream writes down nowhere but in the registry."""


@pytest.mark.parametrize("machine", MACHINES)
def test_every_file_has_a_digest_or_where_upstream_publishes_it(machine: str) -> None:
    files = versions.read(machine).files
    assert {"kind", "helm"} <= {file.name for file in files if file.kind == "binary"}
    for file in files:
        assert urlsplit(file.url).scheme == "https"
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) or file.sha256_url.startswith("https:")
        # What is downloaded for one version is never taken for another.
        assert file.version.lstrip("v") in file.url


def test_every_image_has_a_tag_that_does_not_say_latest() -> None:
    images = versions.read().images
    assert len({full_reference(image.reference) for image in images}) == len(images)
    for image in images:
        assert image.version
        assert image.version != "latest"
        known = not image.reference.startswith(NOT_PUBLISHED)
        assert re.fullmatch(r"sha256:[0-9a-f]{64}" if known else "", image.digest), image.reference


@pytest.mark.parametrize("machine", MACHINES)
def test_everything_that_any_settings_need_is_pinned(machine: str) -> None:
    everything = KindSettings(
        ingress_nginx=True,
        samples=SamplesSettings(bookinfo=True),
        seldon=SeldonSettings(engine=True),
    )
    pinned = versions.read(machine)
    needed = KindPlatform(Path("/nowhere"), everything, bundle=None).sources
    for name in needed:
        pinned.named(name)
    groups = {image.group for image in pinned.images}
    assert groups <= {name.partition(".")[0] for name in needed}


def test_the_versions_that_settings_name_by_default_are_those_that_are_pinned() -> None:
    pinned = versions.read().file("seldon-core-operator", "chart")
    assert pinned.version == KindSettings().seldon.version


def test_what_is_not_pinned_is_told_with_what_is() -> None:
    with pytest.raises(ConfigurationError, match=r"has no minio.*metallb"):
        versions.read().named("minio")
    with pytest.raises(ConfigurationError, match="has no binary kind for this machine"):
        versions.read("linux/riscv64").file("kind", "binary")


def test_a_file_that_cannot_be_understood_says_so(tmp_path: Path) -> None:
    (tmp_path / "versions.toml").write_text("[[binary]]\nname = 'kind'")
    with pytest.raises(ConfigurationError, match="is invalid"):
        versions.read("linux/amd64", tmp_path / "versions.toml")


def test_no_other_file_names_a_version_of_an_image() -> None:
    named = []
    for path in sorted((ROOT / "mlops_pipeline").rglob("*.py")):
        text = path.read_text()
        named += [
            f"{path.relative_to(ROOT)}: {image.reference}"
            for image in versions.read().images
            if image.reference in text
        ]
    assert named == []
