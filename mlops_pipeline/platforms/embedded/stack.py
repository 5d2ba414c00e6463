"""The layers above the supervisor, in the order of their requirements.

A new layer is a file with a class, and its row in `ROWS`.
"""

from mlops_pipeline.platforms.embedded.answer_shipper import AnswerShipper
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.embedded.supervised import LayerParts, SupervisedLayer
from mlops_pipeline.platforms.sources.providing import sources_of

ROWS: list[type[SupervisedLayer]] = [SeaweedObjectStore, EnvoyGateway, AnswerShipper]


class Stack:
    """The layers that the settings enable, and their roles."""

    def __init__(self, parts: LayerParts) -> None:
        """Nothing is contacted."""
        self.layers = tuple(row(parts) for row in ROWS if row.is_wanted(parts.settings))

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of everything that they download."""
        return sources_of(self.layers)

    @property
    def gateway(self) -> EnvoyGateway:
        """The layer that routes requests."""
        return next(layer for layer in self.layers if isinstance(layer, EnvoyGateway))

    @property
    def store(self) -> SeaweedObjectStore:
        """The layer that keeps artifacts."""
        return next(layer for layer in self.layers if isinstance(layer, SeaweedObjectStore))
