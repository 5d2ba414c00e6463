"""`<model>/model`: the trained artifact."""

import json
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_pipeline.assets import metadata, serving
from mlops_pipeline.assets.checks import require_judged_good, run_name
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, model_group, model_key, step_tags
from mlops_pipeline.catalog import evaluating
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.delivery.criteria import dataset_criteria
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.training import (
    Training,
    TrainingOrder,
    ensure_trained,
    merge_hyperparameters,
)
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.serving.frameworks import get_framework


class TrainingConfig(dg.Config):
    """Options of one training."""

    force: bool = Field(False, description="Train even if an artifact with the same inputs exists.")
    hyperparameters: dict[str, Any] = Field(
        {}, description="Hyper-parameters to override in this run, by name."
    )


def model_asset(platform: str, model: RegisteredModel) -> dg.AssetsDefinition:
    """Return the asset whose materialization trains the model, unless its inputs are unchanged."""
    spec, dataset_key = model.spec, model_key(platform, model.name, "dataset")
    key = model_key(platform, model.name, "model")

    @dg.asset(
        key=key,
        ins={"dataset": dg.AssetIn(dataset_key)},
        description=f"{spec.description}: the trained, immutable artifact in the object store.",
        group_name=model_group(platform, spec.name),
        kinds={get_framework(spec.framework).icon, "s3"},
        owners=OWNERS,
        op_tags=step_tags(key),
        required_resource_keys={"platform"},
    )
    def asset(
        context: dg.AssetExecutionContext, config: TrainingConfig, dataset: DatasetRef
    ) -> dg.MaterializeResult[ModelRef]:
        resource: PlatformResource = context.resources.platform
        with explained():
            judge = Judge(resource.build(), by=run_name(context.run))
            judge.sign_older()
            require_judged_good(judge, dataset_key, dataset_criteria(spec), dataset)
            hyperparameters = merge_hyperparameters(spec, config.hyperparameters)
            training = ensure_trained(
                TrainingOrder(model, dataset, hyperparameters),
                datasets=resource.datasets(),
                artifacts=resource.artifacts(),
                run_id=context.run.run_id,
                force=config.force,
                worker_context=resource.worker_context(context.instance),
            )
        return dg.MaterializeResult(
            value=training.ref,
            data_version=dg.DataVersion(training.ref.digest),
            metadata=_metadata(training, spec, judge),
        )

    return asset


def _metadata(training: Training, spec: ModelSpec, judge: Judge) -> dict[str, Any]:
    """Describe the artifact from its stored evaluation, also in a run without training."""
    manifest, ref, artifacts = training.manifest, training.ref, judge.artifacts
    files = artifacts.evaluation_files(ref, suffixes=(".png", evaluating.TABLES))
    report = json.loads(files.pop(evaluating.TABLES, "{}"))  # Of earlier versions: none.
    plots = {
        name.removesuffix(".png"): metadata.picture(png, title=name) for name, png in files.items()
    }
    records = report.get("tables", {})
    for row in records.get("metrics", ()):
        row["limit"] = spec.thresholds.limits.get(row["metric"])
    tables = {name: metadata.records(rows) for name, rows in records.items() if rows}
    return {
        "artifacts": serving.artifacts(spec, platform=judge.platform, checked_next=ref),
        **{
            f"holdout_{metric.name}": manifest.metrics[metric.name]
            for metric in spec.task.metrics
            if metric.name in manifest.metrics
        },
        **tables,
        **metadata.of_problems(report),
        **plots,
        "hyperparameters": metadata.table(manifest.hyperparameters),
        "versions": metadata.table(manifest.versions),
        "change": "created" if training.trained else "unchanged",
        **({} if training.seconds is None else {"training_seconds": round(training.seconds, 3)}),
        **(
            {"trained_in_run": dg.MetadataValue.dagster_run(manifest.run_id)}
            if manifest.run_id
            else {"origin": manifest.origin}
        ),
        "bytes": artifacts.size(ref),
    }
