"""Jobs: the platform, everything, or one model's life cycle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_pipeline.assets.keys import MODEL_TAG, PARTS, PLATFORM_TAG, layers_group, model_key
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


def release_job_name(model: str) -> str:
    """Return the name of the job that acts on the release of a model."""
    return f"{model}_release"


def release_run_config(platform: str, model: str, step: str) -> dict[str, Any]:
    """Return the config of a run that does `step` (`DeploymentConfig.release`) with the release."""
    deployment = model_key(platform, model, "deployment")
    return {"ops": {"__".join(deployment.path): {"config": {"release": step}}}}


def job_for(models: Sequence[str], *, targets: Sequence[str]) -> str:
    """Return the name of the job for a run of `models`, selected by `targets`.

    One model: its life cycle. Only layers: the platform. No targets, or several models: everything.
    """
    if targets and len(models) == 1:
        return lifecycle_job_name(models[0])
    return EVERYTHING if models or not targets else PLATFORM


def make_jobs(
    platform: str, models: Sequence[RegisteredModel]
) -> list["UnresolvedAssetJobDefinition"]:
    """Return the jobs of a platform."""
    layers = dg.AssetSelection.groups(layers_group(platform))
    tags = {PLATFORM_TAG: platform}
    return [
        dg.define_asset_job(
            PLATFORM,
            layers,
            tags=tags,
            description=f"The layers of the {platform} platform, without models.",
        ),
        dg.define_asset_job(
            EVERYTHING,
            dg.AssetSelection.all(),
            tags=tags,
            description="Platform, datasets, training, deployments and verified predictions.",
        ),
        *(
            dg.define_asset_job(
                lifecycle_job_name(model.name),
                layers | dg.AssetSelection.assets(*life_cycle(platform, model.name)),
                tags={**tags, MODEL_TAG: model.name},
                description=f"Dataset, training, deployment and verification of {model.name}, "
                "after the layers.",
            )
            for model in models
        ),
        *(
            dg.define_asset_job(
                release_job_name(model.name),
                dg.AssetSelection.assets(model_key(platform, model.name, "deployment")),
                config=release_run_config(platform, model.name, "advance"),
                tags={**tags, MODEL_TAG: model.name},
                description=f"The release of {model.name} in progress takes its next step. To "
                "decide yourself, set `release` in the Launchpad: promote, abort, pause, resume.",
            )
            for model in models
        ),
    ]


def life_cycle(platform: str, model: str) -> list[dg.AssetKey]:
    """Return the assets of a model, without layers."""
    return [model_key(platform, model, part) for part in PARTS]
