"""`<model>/dataset`: the data that a model is trained and judged on."""

from pathlib import Path

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import make_checks, of_criteria, require_passed
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OBJECT_STORE, OWNERS, layer_key, model_group, model_key
from mlops_pipeline.assets.layers import ROUND_TRIPS
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.delivery.criteria import dataset_criteria
from mlops_pipeline.delivery.references import DatasetRef


def dataset_asset(
    platform: str, model: RegisteredModel, *, file: Path | None
) -> dg.AssetsDefinition:
    """Return the asset; `file` is the configured source of the data, None for the model's own."""
    spec, store_key = model.spec, layer_key(platform, OBJECT_STORE)

    @dg.asset(
        key=model_key(platform, spec.name, "dataset"),
        deps=[store_key],
        description=f"The data of {spec.name}, as one immutable snapshot in the object store.",
        group_name=model_group(platform, spec.name),
        kinds={"numpy", "s3"},
        owners=OWNERS,
        required_resource_keys={"platform"},
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult[DatasetRef]:
        require_passed(context.instance, store_key, [ROUND_TRIPS])
        with explained():
            snapshot = context.resources.platform.datasets().ensure(model, file=file)
        train, test = snapshot.profile["train"], snapshot.profile["test"]
        return dg.MaterializeResult(
            value=snapshot.ref,
            data_version=dg.DataVersion(snapshot.ref.digest),
            metadata={
                "change": "created" if snapshot.created else "unchanged",
                "uri": snapshot.ref.uri,
                "digest": snapshot.ref.digest,
                "bytes": snapshot.size,
                "training_rows": train["shape"][0],
                "holdout_rows": test["shape"][0],
                "features": train["shape"][1] if len(train["shape"]) > 1 else 0,
                "profile": metadata.table(snapshot.profile),
            },
        )

    return asset


def dataset_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the dataset; all are blocking, bad data trains nothing."""
    criteria = dataset_criteria(model.spec.dataset)
    return make_checks(model_key(platform, model.name, "dataset"), of_criteria(criteria))
