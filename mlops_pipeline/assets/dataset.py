"""`<model>/dataset`: the data that a model is trained and evaluated on."""

from pathlib import Path
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import make_checks, of_criteria, require_passed
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import (
    OBJECT_STORE,
    OWNERS,
    layer_key,
    model_group,
    model_key,
    step_tags,
)
from mlops_pipeline.assets.layers import ROUND_TRIPS
from mlops_pipeline.catalog import describing
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.delivery.criteria import dataset_criteria
from mlops_pipeline.delivery.datasets import DatasetStore, Snapshot
from mlops_pipeline.delivery.references import DatasetRef
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.serving.schema import TABLE, Schema


def _library(schema: Schema | None) -> str:
    """Return the library of the rows that `load` returns, as a kind of the asset."""
    return "pandas" if schema is not None and schema.form == TABLE else "numpy"


def dataset_asset(
    platform: str, model: RegisteredModel, *, file: Path | None
) -> dg.AssetsDefinition:
    """Return the asset; `file` is the configured data; None: the model's default."""
    spec, store_key = model.spec, layer_key(platform, OBJECT_STORE)
    key = model_key(platform, model.name, "dataset")

    @dg.asset(
        key=key,
        deps=[store_key],
        description=f"The data of {spec.name}: an immutable snapshot in the object store.",
        group_name=model_group(platform, spec.name),
        kinds={_library(spec.dataset.schema), "s3"},
        owners=OWNERS,
        op_tags=step_tags(key),
        required_resource_keys={"platform"},
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult[DatasetRef]:
        require_passed(context.instance, store_key, [ROUND_TRIPS])
        resource: PlatformResource = context.resources.platform
        with explained():
            snapshot = resource.datasets().ensure(
                model, file=file, worker_context=resource.worker_context(context.instance)
            )
        return dg.MaterializeResult(
            value=snapshot.ref,
            data_version=dg.DataVersion(snapshot.ref.digest),
            metadata=_metadata(spec, snapshot, resource.datasets()),
        )

    return asset


def _metadata(spec: ModelSpec, snapshot: Snapshot, datasets: DatasetStore) -> dict[str, Any]:
    train, test = (snapshot.profile[split] for split in ("train", "test"))
    described = datasets.find_description(snapshot.ref) or {"features": [], "samples": []}
    pictures = {
        name.removesuffix(".png"): metadata.picture(png, title=name)
        for name in describing.PICTURES
        if (png := datasets.find_picture(snapshot.ref, name)) is not None
    }
    tables = {
        **spec.task.target_tables(snapshot.profile, spec.dataset),
        "feature_statistics": described["features"],
        "sample_rows": described["samples"],
    }
    return {
        "dagster/row_count": train["shape"][0] + test["shape"][0],
        "dagster/column_schema": _schema(spec, describes_each=bool(described["samples"])),
        "training_rows": train["shape"][0],
        "holdout_rows": test["shape"][0],
        "features": train["shape"][1] if len(train["shape"]) > 1 else 0,
        **{name: metadata.records(rows) for name, rows in tables.items() if rows},
        **pictures,
        **metadata.of_problems(described),
        "change": snapshot.change,
        "bytes": snapshot.size,
    }


def _schema(spec: ModelSpec, *, describes_each: bool) -> dg.TableSchema:
    dataset, target = spec.dataset, spec.task.target
    names = dataset.names() if describes_each else (f"{dataset.features} features",)
    known = {column.name: column.type for column in (dataset.schema or Schema(())).columns}
    columns = {name: known.get(name, "float") for name in names}
    columns[target] = "string" if dataset.classes else "float"
    return dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])


def dataset_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the dataset; all are blocking, so no model is trained on bad data."""
    criteria = dataset_criteria(model.spec)
    return make_checks(model_key(platform, model.name, "dataset"), of_criteria(criteria))
