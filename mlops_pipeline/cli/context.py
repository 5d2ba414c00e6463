"""What every command starts from: settings, models, the platform. Without Dagster."""

import getpass
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mlops_pipeline.catalog.registry import (
    Catalog,
    RefusedModel,
    RegisteredModel,
    load_catalog,
)
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.delivery.artifacts import ArtifactStore, artifact_store
from mlops_pipeline.platforms.build import build_platform, layer_names
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import SeldonDeployment
from mlops_pipeline.resources.home import require_ours
from mlops_pipeline.settings import Settings, load_settings


@dataclass(frozen=True)
class Context:
    """The settings, and what is built of them when a command asks for it."""

    settings: Settings

    @cached_property
    def catalog(self) -> Catalog:
        """Every registered model, those that are refused too."""
        return load_catalog(
            self.settings.models,
            datasets=self.settings.datasets,
            namespace=self.settings.models_namespace,
            reserved=layer_names(),
        )

    @property
    def models(self) -> tuple[RegisteredModel, ...]:
        """Every registered model that can be used."""
        return self.catalog.models

    @property
    def refused(self) -> tuple[RefusedModel, ...]:
        """Every registered model that cannot be used, with the reason."""
        return self.catalog.refused

    @cached_property
    def platform(self) -> Platform:
        """The platform that the settings name."""
        return build_platform(self.settings.platform, self.settings)

    @property
    def artifacts(self) -> ArtifactStore:
        """The platform's artifacts."""
        return artifact_store(self.platform)

    def model(self, name: str) -> RegisteredModel:
        """Return the model called `name`, or the one whose deployment is.

        Raises:
            ConfigurationError: there is none, or it is refused; names those that are.
        """
        if (model := self.find_model(name)) is not None:
            return model
        raise ConfigurationError(self.describe_unknown(name, [m.name for m in self.models]))

    def find_model(self, name: str) -> RegisteredModel | None:
        """Return the model called `name`, or the one whose deployment is; None if there is none."""
        named = [m for m in self.models if m.name == name]
        deployed = [m for m in self.models if m.spec.server.deployment == name]
        # Two models may have deployments of one name in different namespaces.
        return next(iter(named), None) or (deployed[0] if len(deployed) == 1 else None)

    def find_deployed_by(self, manifest: SeldonDeployment) -> RegisteredModel | None:
        """Return the model whose own deployment has the manifest's name and namespace, or None."""
        place = (manifest.namespace, manifest.name)
        own = (
            m for m in self.models if place == (m.spec.server.namespace, m.spec.server.deployment)
        )
        return next(own, None)

    def require_deployed(self, model: RegisteredModel) -> None:
        """Refuse a model that is not deployed.

        Raises:
            NotFoundError: it is not; how to deploy it.
        """
        server = model.spec.server
        if self.platform.deployments.find(server.deployment, namespace=server.namespace) is None:
            raise NotFoundError(
                f"{model.name} is not deployed; run `mlops-pipeline up {model.name}`"
            )

    def describe_unknown(self, name: str, known: Sequence[str]) -> str:
        """Say why nothing is called `name`, where `known` is what could have been meant."""
        refused = [model.describe() for model in self.refused]
        if why := [r.describe() for r in self.refused if name == r.label]:
            return "; ".join(why)
        return "; ".join([f"unknown name {name!r}; expected one of: {', '.join(known)}", *refused])


def typed(command: str) -> str:
    """Return how the log of verdicts names a command, and who typed it."""
    return f"mlops-pipeline {command}, {getpass.getuser()} on {platform.node()}"


def load_context() -> Context:
    """Read the settings.

    Raises:
        ConfigurationError: they are wrong, or the state folder is somebody else's; nothing was
            changed.
    """
    settings = load_settings()
    require_ours(settings.home)
    return Context(settings)
