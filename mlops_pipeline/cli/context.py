"""What every command starts from: settings, models, the platform. Without Dagster."""

from dataclasses import dataclass
from functools import cached_property

from mlops_pipeline.catalog.registry import RegisteredModel, load_catalog
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.settings import Settings, load_settings


@dataclass(frozen=True)
class Context:
    """The settings, and what is built of them when a command asks for it."""

    settings: Settings

    @cached_property
    def models(self) -> tuple[RegisteredModel, ...]:
        """Every registered model."""
        return load_catalog(
            self.settings.models,
            datasets=self.settings.datasets,
            namespace=self.settings.models_namespace,
        )

    @cached_property
    def platform(self) -> Platform:
        """The platform that the settings name."""
        return build_platform(self.settings.platform, self.settings)

    @property
    def artifacts(self) -> ArtifactStore:
        """The platform's artifacts."""
        return ArtifactStore(self.platform.object_store())

    def model(self, name: str) -> RegisteredModel:
        """Return the model called `name`, or the one whose deployment is.

        Raises:
            ConfigurationError: there is none; names those that are.
        """
        for model in self.models:
            if name in (model.name, model.spec.server.deployment):
                return model
        known = ", ".join(model.name for model in self.models)
        raise ConfigurationError(f"there is no model {name!r}; there are: {known}")


def load_context() -> Context:
    """Read the settings.

    Raises:
        ConfigurationError: they are wrong; nothing was changed.
    """
    return Context(load_settings())
