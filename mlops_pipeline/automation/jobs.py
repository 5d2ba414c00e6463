"""What people run: the platform, everything, or one model's life cycle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlops_pipeline.assets.keys import PARTS, layers_group, model_key
from mlops_pipeline.catalog.registry import RegisteredModel

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

PLATFORM = "platform"
EVERYTHING = "everything"


def lifecycle_job_name(model: str) -> str:
    """Return the name of a model's job."""
    return f"{model}_lifecycle"


def make_jobs(
    platform: str, models: Sequence[RegisteredModel]
) -> list["UnresolvedAssetJobDefinition"]:
    """Return the jobs of a platform."""
    return [
        dg.define_asset_job(
            PLATFORM,
            dg.AssetSelection.groups(layers_group(platform)),
            description=f"The layers of the {platform} platform, without models.",
        ),
        dg.define_asset_job(
            EVERYTHING,
            dg.AssetSelection.all(),
            description="From an empty machine to proven predictions.",
        ),
        *(_lifecycle_job(platform, model) for model in models),
    ]


def _lifecycle_job(platform: str, model: RegisteredModel) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        lifecycle_job_name(model.name),
        dg.AssetSelection.assets(*(model_key(platform, model.name, part) for part in PARTS)),
        description=f"Data, training, deployment and proof of {model.name}, on layers that are up.",
    )
