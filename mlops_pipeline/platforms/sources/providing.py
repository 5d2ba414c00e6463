"""Downloading everything before the first change."""

import logging
from collections.abc import Iterable
from typing import Protocol

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.platforms.layers import Layer, Ready
from mlops_pipeline.platforms.sources import Sources

_log = logging.getLogger(__name__)


def provide(sources: Sources, names: Iterable[str], *, layers: Iterable[Layer]) -> None:
    """Ensure that everything of those names is on this machine, unless all `layers` are ready.

    Raises:
        PipelineError: something is not available, and a layer must be changed.
    """
    try:
        sources.require(names)
    except PipelineError as error:
        if any(not isinstance(layer.observe(), Ready) for layer in layers):
            raise
        _log.warning("this will be needed when a layer must be changed: %s", error)


class Needing(Protocol):
    """A layer that needs something from elsewhere."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the programs, charts, manifests and groups of images that it needs."""


def sources_of(layers: Iterable[Needing]) -> tuple[str, ...]:
    """Return the names of everything that the layers download, each once."""
    return tuple(dict.fromkeys(name for layer in layers for name in layer.sources))
