"""Downloading everything before the first change."""

import logging
from collections.abc import Iterable

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
