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
from mlops_pipeline.platforms.kubernetes.sources import versions
from mlops_pipeline.platforms.kubernetes.sources.needs import needed_on_kind

if TYPE_CHECKING:
    from mlops_pipeline.platforms.kubernetes.sources.checking import Fault
    from mlops_pipeline.platforms.kubernetes.sources.contents import Contents
    from mlops_pipeline.platforms.kubernetes.sources.gathering import Built

_log = logging.getLogger(__name__)
MACHINES = ("linux/amd64", "linux/arm64", "darwin/arm64")


def create(context: Context, folder: Path, *, machine: str, console: Console) -> "Contents":
    """Make `folder` a bundle of all that the settings of the kind platform need.

    Raises:
        ConfigurationError: it cannot be made for that machine or with these settings.
    """
    from mlops_pipeline.platforms.kubernetes.sources.gathering import Gathering

    wanted = machine or versions.this_machine()
    if wanted not in MACHINES:
        raise ConfigurationError(
            f"no bundle can be made for {wanted}; --machine takes {', '.join(MACHINES)}"
        )
    settings = context.settings
    if settings.kind.serving.images == "upstream":
        raise ConfigurationError(
            "upstream's model servers are not pinned, so no bundle can hold them; set "
            "kind.serving.images to own"
        )
    gathering = Gathering(
        machine=wanted,
        versions=versions.read(wanted),
        engine=ContainerEngine(settings.kind.cluster.engine),
        downloads=lambda locks: Downloads(locks=locks, mirror=settings.mirror),
    )
    with narrated(console):
        complete = replace(gathering, built=_serving_images(context, wanted))
        return complete.create(folder.absolute(), needed_on_kind(settings.kind))


def _serving_images(context: Context, machine: str) -> "Built | None":
    """Return our model server's images; only those for the architecture of this machine."""
    from mlops_pipeline.platforms.kubernetes.parts import KindParts
    from mlops_pipeline.platforms.kubernetes.serving_image.layer import ARCHIVE, ServingImage
    from mlops_pipeline.platforms.kubernetes.sources.gathering import Built

    if machine.partition("/")[2] != versions.this_machine().partition("/")[2]:
        _log.warning(
            "the serving images will not be in it: they are built for this machine's architecture "
            "alone. There, an index of packages has to be reached"
        )
        return None
    settings = context.settings
    image = ServingImage(KindParts.make(settings.home / "kind", settings.kind, bundle=None))
    return Built(ARCHIVE, image.tag, image.references, image.build)


def verify(context: Context, folder: Path) -> tuple["Fault", ...]:
    """Return what of a bundle is missing, altered, too much, or lacking for these settings.

    Raises:
        ConfigurationError: the folder is no bundle.
    """
    from mlops_pipeline.platforms.kubernetes.sources.checking import check

    return check(folder.absolute(), needed=needed_on_kind(context.settings.kind))
