"""`<model>/model`: the trained artifact."""

import time
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import (
    make_checks,
    of_criteria,
    require_judged_good,
    run_name,
)
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, model_group, model_key
from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.criteria import dataset_criteria, model_criteria
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.training import (
    Training,
    TrainingOrder,
    ensure_trained,
    merge_hyperparameters,
)
from mlops_pipeline.resources.platform import PlatformResource


class TrainingConfig(dg.Config):
    """How to train this time."""

    force: bool = Field(
        False, description="Train although an artifact with the same inputs exists."
    )
    hyperparameters: dict[str, Any] = Field(
        {}, description="Hyper-parameters to change for this run, by name."
    )


def model_asset(platform: str, model: RegisteredModel) -> dg.AssetsDefinition:
    """Return the asset whose materialization trains the model, unless its inputs are unchanged."""
    spec, dataset_key = model.spec, model_key(platform, model.name, "dataset")

    @dg.asset(
        key=model_key(platform, spec.name, "model"),
        ins={"dataset": dg.AssetIn(dataset_key)},
        description=f"{spec.description}: the trained artifact, immutable, in the object store.",
        group_name=model_group(platform, spec.name),
        kinds={"scikitlearn" if spec.framework == "sklearn" else "tensorflow", "s3"},
        owners=OWNERS,
        required_resource_keys={"platform"},
    )
    def asset(
        context: dg.AssetExecutionContext, config: TrainingConfig, dataset: DatasetRef
    ) -> dg.MaterializeResult[ModelRef]:
        resource: PlatformResource = context.resources.platform
        start = time.monotonic()
        with explained():
            judge = Judge(resource.build(), by=run_name(context.run.run_id))
            require_judged_good(judge, dataset_key, dataset_criteria(spec.dataset), dataset)
            hyperparameters = merge_hyperparameters(spec, config.hyperparameters)
            training = ensure_trained(
                TrainingOrder(model, dataset, hyperparameters),
                datasets=resource.datasets(),
                artifacts=resource.artifacts(),
                run_id=context.run.run_id,
                force=config.force,
            )
        return dg.MaterializeResult(
            value=training.ref,
            data_version=dg.DataVersion(training.ref.digest),
            metadata=_metadata(training, resource.artifacts(), time.monotonic() - start),
        )

    return asset


def _metadata(training: Training, artifacts: ArtifactStore, seconds: float) -> dict[str, Any]:
    manifest, ref = training.manifest, training.ref
    plots = {
        name.removesuffix(".png"): metadata.picture(
            artifacts.evaluation_file(ref, name), title=name
        )
        for name in (worker.CONFUSION_MATRIX, worker.TRAINING_CURVES)
        if name in manifest.evaluation
    }
    return {
        "change": "created" if training.trained else "unchanged",
        "uri": ref.uri,
        "digest": ref.digest,
        "bytes": artifacts.size(ref),
        "accuracy": manifest.metrics["accuracy"],
        "log_loss": manifest.metrics["log_loss"],
        "seconds": round(seconds, 3),
        "trained_in_run": manifest.run_id,
        "hyperparameters": metadata.table(manifest.hyperparameters),
        "versions": metadata.table(manifest.versions),
        **plots,
    }


def model_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the artifact; all are blocking, no bad model reaches users."""
    return make_checks(
        model_key(platform, model.name, "model"),
        of_criteria(model_criteria(model.spec)),
        can_accept_worse=True,
    )
