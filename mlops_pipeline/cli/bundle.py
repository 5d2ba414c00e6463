"""`bundle`: everything from elsewhere in one folder, for a machine without a network."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.narration import narrated
from mlops_pipeline.clients.containers import ContainerEngine
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.sources import versions
from mlops_pipeline.settings import Settings
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings

if TYPE_CHECKING:
    from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
    from mlops_pipeline.platforms.sources.checking import Fault
    from mlops_pipeline.platforms.sources.contents import Contents
    from mlops_pipeline.platforms.sources.gathering import Built

_log = logging.getLogger(__name__)
MACHINES = ("linux/amd64", "linux/arm64", "darwin/arm64")


def create(context: Context, folder: Path, *, machine: str, console: Console) -> "Contents":
    """Make `folder` a bundle of all that the settings of a platform on Kubernetes need.

    Raises:
        ConfigurationError: it cannot be made for that machine or with these settings.
    """
    from mlops_pipeline.platforms.sources.gathering import Gathering

    wanted = machine or versions.this_machine()
    if wanted not in MACHINES:
        raise ConfigurationError(
            f"could not create a bundle for {wanted}; set --machine to {', '.join(MACHINES)}"
        )
    settings = context.settings
    chosen = _chosen(settings)
    if chosen.serving.images == "upstream":
        raise ConfigurationError(
            "could not create a bundle: the upstream model servers are not pinned; set "
            f"{chosen.platform}.serving.images to own"
        )
    gathering = Gathering(
        machine=wanted,
        versions=versions.read(wanted),
        engine=ContainerEngine(_engine(chosen)),
        downloads=lambda locks: Downloads(locks=locks, mirror=settings.mirror),
    )
    with narrated(console):
        complete = replace(gathering, built=_serving_images(context, wanted))
        return complete.create(folder.absolute(), _needed(settings))


def _serving_images(context: Context, machine: str) -> "Built | None":
    """Return our model server's images; only those for the architecture of this machine."""
    from mlops_pipeline.platforms.sources import SERVING
    from mlops_pipeline.platforms.sources.gathering import Built

    if machine.partition("/")[2] != versions.this_machine().partition("/")[2]:
        _log.warning(
            "the bundle will not contain the serving images: this machine builds them only for its "
            "own architecture. The target machine needs a package index"
        )
        return None
    image = _as_bundled(context.settings)
    return Built(SERVING, image.tag, image.references, image.build)


def _as_bundled(settings: Settings) -> "ServingImage":
    """Return the layer of a kind cluster: by its names of them a bundle holds our images."""
    from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
    from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts

    engine = _engine(_chosen(settings))
    kind = settings.kind.model_copy(
        update={"cluster": settings.kind.cluster.model_copy(update={"engine": engine})}
    )
    return ServingImage(KindParts.make(settings.home / "kind", kind, bundle=None))


def verify(context: Context, folder: Path) -> tuple["Fault", ...]:
    """Return what of a bundle is missing, altered, too much, or lacking for these settings.

    Raises:
        ConfigurationError: the folder is no bundle.
    """
    from mlops_pipeline.platforms.sources.checking import check

    needed = _needed(context.settings)
    return check(folder.absolute(), needed=needed, machine=versions.this_machine())


def describe_what_is_built(context: Context, folder: Path) -> str:
    """Say what `up` makes itself because a bundle does not have it; empty: nothing.

    Raises:
        ConfigurationError: the folder is no bundle.
    """
    from mlops_pipeline.platforms.sources import SERVING, contents

    if _chosen(context.settings).serving.images != "own":
        return ""
    files = contents.read(folder.absolute()).files
    held = {image for file in files if file.name == SERVING for image in file.images}
    if held.issuperset(_as_bundled(context.settings).references):
        return ""
    return (
        "the bundle does not contain the serving images of this version: `up` builds them, which "
        "requires a package index (PIP_INDEX_URL); run `mlops-pipeline bundle create` to add them"
    )


def _chosen(settings: Settings) -> KindSettings | KubernetesSettings:
    """Return the settings that say what is needed: those of kind, but for `kubernetes`."""
    return settings.kubernetes if settings.platform == "kubernetes" else settings.kind


def _needed(settings: Settings) -> tuple[str, ...]:
    """Return the names of all that the layers of the platform download.

    With `embedded`, that is what a kind cluster needs, and what its own layers need.
    """
    unbundled = settings.model_copy(update={"bundle": None})
    names = (settings.platform, _chosen(settings).platform)
    found = (source for name in names for source in build_platform(name, unbundled).sources)
    return tuple(dict.fromkeys(found))


def _engine(chosen: KindSettings | KubernetesSettings) -> str:
    return chosen.engine if isinstance(chosen, KubernetesSettings) else chosen.cluster.engine
