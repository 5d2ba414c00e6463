"""`<model>/dataset`: the data that a model is trained and judged on."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import Proposition, Verdict, make_checks, require_passed
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OBJECT_STORE, OWNERS, layer_key, model_group, model_key
from mlops_pipeline.assets.layers import ROUND_TRIPS
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import DatasetSpec
from mlops_pipeline.delivery.references import DatasetRef
from mlops_pipeline.resources.platform import PlatformResource


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
    return make_checks(
        model_key(platform, model.name, "dataset"), dataset_propositions(model.spec.dataset)
    )


def dataset_propositions(spec: DatasetSpec) -> list[Proposition]:
    """Return what must hold of a model's data."""
    named = {
        "has_expected_schema": (
            f"Both splits have {spec.features} features in their range, one known label per row.",
            lambda profile: schema_problems(spec, profile),
        ),
        "has_no_missing_values": (
            "Every value is a finite number.",
            lambda profile: [
                f"{split}: {part['missing']} values are missing or infinite"
                for split, part in profile.items()
                if part["missing"]
            ],
        ),
        "has_all_classes": (
            f"Each of the {len(spec.classes)} classes is in both splits.",
            lambda profile: [
                f"{split}: no row of {name}"
                for split, part in profile.items()
                for name, rows in part["rows_per_class"].items()
                if not rows
            ],
        ),
    }
    return [
        Proposition(name, description, _decided_by(find_problems), blocking=True)
        for name, (description, find_problems) in named.items()
    ]


def _decided_by(find_problems: Any) -> Any:
    def evaluate(_context: Any, resource: PlatformResource, reference: DatasetRef) -> Verdict:
        profile = resource.datasets().profile(reference)
        problems = find_problems(profile)
        rows = sum(part["shape"][0] for part in profile.values())
        return Verdict(not problems, "; ".join(problems) or f"holds for all {rows} rows")

    return evaluate


def schema_problems(spec: DatasetSpec, profile: dict[str, Any]) -> list[str]:
    """Return what of a profile (see `catalog.worker.profile`) is not as the spec says."""
    problems = []
    for split, part in profile.items():
        shape = part["shape"]
        if len(shape) != 2 or shape[1] != spec.features or not shape[0]:
            problems.append(f"{split}: shape is {json.dumps(shape)}, not [n, {spec.features}]")
        if part["label_shape"] != shape[:1]:
            problems.append(f"{split}: labels of shape {part['label_shape']} for {shape[0]} rows")
        if part["unknown_labels"]:
            problems.append(f"{split}: {part['unknown_labels']} labels are of no known class")
        least, greatest = spec.value_range or (float("-inf"), float("inf"))
        if part["minimum"] < least or part["maximum"] > greatest:
            problems.append(
                f"{split}: values go from {part['minimum']:g} to {part['maximum']:g}, "
                f"not {least:g} to {greatest:g}"
            )
    return problems
