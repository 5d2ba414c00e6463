"""Getting everything from elsewhere before the first thing is changed."""

import logging
from collections.abc import Iterable

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.platforms.kubernetes.sources import Sources
from mlops_pipeline.platforms.layers import Layer, Ready

_log = logging.getLogger(__name__)


def provide(sources: Sources, names: Iterable[str], *, layers: Iterable[Layer]) -> None:
    """Make sure that everything of those names is here, unless all `layers` are right without.

    Raises:
        PipelineError: something cannot be had, and a layer has to be changed.
    """
    try:
        sources.require(names)
    except PipelineError as error:
        if any(not isinstance(layer.observe(), Ready) for layer in layers):
            raise
        _log.warning("a layer that has to be changed will need this: %s", error)
