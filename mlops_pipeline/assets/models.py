"""What every registered model gets: its assets and their checks."""

from collections.abc import Sequence

import dagster as dg

from mlops_pipeline.assets.dataset import dataset_asset, dataset_checks
from mlops_pipeline.assets.deployment import deployment_asset
from mlops_pipeline.assets.deployment_checks import deployment_checks
from mlops_pipeline.assets.model import model_asset
from mlops_pipeline.assets.model_checks import model_checks
from mlops_pipeline.assets.predictions import predictions_asset, predictions_checks
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.settings import Settings


def assets_of_models(
    platform: Platform, models: Sequence[RegisteredModel], *, settings: Settings
) -> list[dg.AssetsDefinition]:
    """Return the assets of the models on a platform."""
    name = platform.name
    return [
        *(dataset_asset(name, m, file=settings.datasets.get(m.name)) for m in models),
        *(model_asset(name, m) for m in models),
        *(deployment_asset(platform, m) for m in models),
        *(predictions_asset(name, m) for m in models),
    ]


def checks_of_models(
    platform: str, models: Sequence[RegisteredModel]
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the models' assets on a platform."""
    return [
        make(platform, model)
        for model in models
        for make in (dataset_checks, model_checks, deployment_checks, predictions_checks)
    ]
