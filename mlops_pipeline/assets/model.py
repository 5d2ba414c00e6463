"""`<model>/model`: the trained artifact."""

import time
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import Proposition, Verdict, make_checks, require_passed
from mlops_pipeline.assets.dataset import dataset_propositions
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, model_group, model_key
from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.training import (
    Training,
    TrainingOrder,
    ensure_trained,
    merge_hyperparameters,
)
from mlops_pipeline.delivery.verification import check_skew
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
        require_passed(
            context.instance, dataset_key, dataset_propositions(spec.dataset), reference=dataset
        )
        resource: PlatformResource = context.resources.platform
        start = time.monotonic()
        with explained():
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
    return make_checks(model_key(platform, model.name, "model"), model_propositions(model.spec))


def model_propositions(spec: ModelSpec) -> list[Proposition]:
    """Return what must hold of a model before it is deployed."""
    least, drop = spec.thresholds.min_accuracy, spec.thresholds.max_accuracy_drop
    return [
        Proposition(
            "accuracy_at_least_threshold",
            f"Accuracy on the hold-out set is at least {least:g}.",
            lambda _c, resource, ref: _accurate(spec, resource, ref),
            blocking=True,
        ),
        Proposition(
            "not_worse_than_deployed",
            f"Accuracy is at most {drop:g} below that of the version deployed now.",
            lambda _c, resource, ref: _not_worse(spec, resource, ref),
            blocking=True,
        ),
        Proposition(
            "matches_its_manifest",
            "Every file of the artifact in the object store has the digest in its manifest.",
            lambda _c, resource, ref: _matches(resource, ref),
            blocking=True,
        ),
        Proposition(
            "predicts_the_same_where_it_is_served",
            "The serving environment loads the artifact and gives the training's predictions.",
            lambda _c, resource, ref: _no_skew(spec, resource, ref),
            blocking=True,
        ),
    ]


def _accurate(spec: ModelSpec, resource: PlatformResource, ref: ModelRef) -> Verdict:
    accuracy, least = (
        resource.artifacts().manifest(ref).metrics["accuracy"],
        spec.thresholds.min_accuracy,
    )
    return Verdict(
        accuracy >= least,
        f"accuracy {accuracy:.4f}, at least {least:g} is asked for",
        {"accuracy": accuracy, "threshold": least},
    )


def _not_worse(spec: ModelSpec, resource: PlatformResource, ref: ModelRef) -> Verdict:
    deployed = deployed_ref(spec, resource.build())
    if deployed is None or deployed == ref:
        return Verdict(
            passed=True,
            description="nothing is deployed yet"
            if deployed is None
            else "it is the one deployed now",
        )
    artifacts = resource.artifacts()
    old, new = (artifacts.manifest(r).metrics["accuracy"] for r in (deployed, ref))
    return Verdict(
        new >= old - spec.thresholds.max_accuracy_drop,
        f"accuracy {new:.4f}, the deployed {deployed.digest[:12]} has {old:.4f}, "
        f"a drop of {spec.thresholds.max_accuracy_drop:g} is allowed",
        {"accuracy": new, "deployed_accuracy": old, "deployed_digest": deployed.digest},
    )


def _matches(resource: PlatformResource, ref: ModelRef) -> Verdict:
    with temporary_folder("check") as folder:
        manifest = resource.artifacts().download(ref, folder)
    return Verdict(
        passed=True,
        description=f"all {len(manifest.files)} files have the digest in the manifest",
        metadata={"files": len(manifest.files), "digest": manifest.digest},
    )


def _no_skew(spec: ModelSpec, resource: PlatformResource, ref: ModelRef) -> Verdict:
    report = check_skew(
        spec,
        ref,
        artifacts=resource.artifacts(),
        environment=resource.build().serving_environment,
    )
    return Verdict(
        report.max_difference <= spec.thresholds.tolerance,
        f"the scores of {report.rows} rows differ by at most {report.max_difference:.3g}, "
        f"{spec.thresholds.tolerance:g} is allowed",
        {
            "rows": report.rows,
            "max_difference": report.max_difference,
            "environment": report.environment,
        },
    )
