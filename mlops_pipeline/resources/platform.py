"""The platform as a Dagster resource."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.platforms.embedded import EmbeddedPlatform, EmbeddedSettings
from mlops_pipeline.platforms.platform import Platform


class PlatformResource(dg.ConfigurableResource[Any]):
    """Builds the platform that a location's assets live on."""

    def build(self) -> Platform:
        """Return the platform. Nothing is contacted."""
        raise NotImplementedError

    def artifacts(self) -> ArtifactStore:
        """Return its artifacts."""
        return ArtifactStore(self.build().object_store())

    def datasets(self) -> DatasetStore:
        """Return its dataset snapshots."""
        return DatasetStore(self.build().object_store())


class EmbeddedPlatformResource(PlatformResource):
    """Processes of this machine, on loopback."""

    home: str = Field(description="State folder of the platform.")
    gateway_port: int = Field(description="Preferred port of the gateway.")
    object_store_port: int = Field(description="Preferred port of S3.")
    model_port: int = Field(description="First preferred port of model servers.")
    ready_timeout: float = Field(description="Seconds in which a process must become ready.")
    drain_timeout: float = Field(description="Seconds for requests of a replaced server to end.")
    max_body_bytes: int = Field(description="Largest body of a request to a model server, bytes.")

    def build(self) -> Platform:
        """Return the embedded platform. No process is started."""
        return EmbeddedPlatform(
            Path(self.home),
            EmbeddedSettings(
                gateway_port=self.gateway_port,
                object_store_port=self.object_store_port,
                model_port=self.model_port,
                ready_timeout=self.ready_timeout,
                drain_timeout=self.drain_timeout,
                max_body_bytes=self.max_body_bytes,
            ),
        )
