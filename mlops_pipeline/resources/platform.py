"""The platform as a Dagster resource."""

from typing import Any

import dagster as dg
from pydantic import Field

from mlops_pipeline.delivery.artifacts import ArtifactStore, artifact_store
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.working import WorkerContext
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.settings import Settings


class PlatformResource(dg.ConfigurableResource[Any]):
    """Builds the platform of a code location."""

    platform: str = Field(description="Name of the platform: embedded, kind or kubernetes.")
    settings: dict[str, Any] = Field(
        description="The validated settings, as in mlops.toml. They contain no secrets."
    )

    @classmethod
    def of(cls, platform: str, settings: Settings) -> "PlatformResource":
        """Return the resource of a platform, configured by the settings."""
        chosen = settings.model_dump(
            mode="json", include={"home", "bundle", "mirror", "signing", platform}
        )
        return cls(platform=platform, settings={k: v for k, v in chosen.items() if v is not None})

    def build(self) -> Platform:
        """Return the platform. Nothing is contacted."""
        return build_platform(self.platform, Settings.model_validate(self.settings))

    @staticmethod
    def worker_context(instance: dg.DagsterInstance) -> WorkerContext:
        """Return the context of a run's workers: without the turn, and with their output stored."""
        from mlops_pipeline.resources.step_output import worker_context  # It loads slowly.

        return worker_context(instance)

    def artifacts(self) -> ArtifactStore:
        """Return the platform's artifact store."""
        return artifact_store(self.build())

    def datasets(self) -> DatasetStore:
        """Return the platform's store of dataset snapshots."""
        return DatasetStore(self.build().object_store())
