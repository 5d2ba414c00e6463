"""How a reference gets from one asset to the next: through the event log, as JSON."""

import json
from dataclasses import asdict, is_dataclass
from typing import Any

import dagster as dg

from mlops_pipeline.delivery.references import DatasetRef, DeploymentRef, ModelRef, Reference
from mlops_pipeline.resources.storage import describe_elsewhere

METADATA_KEY = "reference"
_LOOKED_AT = 20
"""Latest materializations among which a run finds its own."""
_TYPES = (DatasetRef, ModelRef, DeploymentRef)


class ReferenceIOManager(dg.ConfigurableIOManager):
    """Keeps the reference in the asset's materialization and reads it from the latest one.

    So it is where Dagster's instance is, whichever machine or process runs the next step.
    """

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Attach the reference to the materialization."""
        if obj is not None:
            context.add_output_metadata({METADATA_KEY: dg.MetadataValue.json(encode(obj))})

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the reference that this run materialized, else the latest one.

        Raises:
            dagster.Failure: the asset was never materialized.
        """
        found = latest_reference(
            context.instance, context.asset_key, run_id=context.step_context.run_id
        )
        if found is None:
            raise dg.Failure(
                f"{context.asset_key.to_user_string()} was never materialized; do that first"
                + describe_elsewhere(context.instance),
                allow_retries=False,
            )
        return found


def latest_reference(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, run_id: str
) -> Reference | None:
    """Return the reference that the run `run_id` materialized, else the latest one, or None.

    So runs at the same time do not go on from each other's artifacts.
    """
    records = instance.fetch_materializations(key, limit=_LOOKED_AT).records
    own = [record for record in records if record.run_id == run_id]
    materializations = (record.asset_materialization for record in [*own, *records])
    newest = next((m for m in materializations if m is not None), None)
    metadata = newest.metadata.get(METADATA_KEY) if newest else None
    return decode(metadata.value) if isinstance(metadata, dg.JsonMetadataValue) else None


def encode(reference: object) -> dict[str, Any]:
    """Return the reference as JSON-able fields, with its type."""
    if not is_dataclass(reference) or isinstance(reference, type):
        raise TypeError(f"only references pass between assets, not {type(reference).__name__}")
    return {"type": type(reference).__name__, **asdict(reference)}


def decode(fields: Any) -> Reference:
    """Return the reference that `encode` made these fields of."""
    fields = json.loads(fields) if isinstance(fields, str) else dict(fields)
    made = {kind.__name__: kind for kind in _TYPES}[fields.pop("type")]
    if made is DeploymentRef:
        fields["model"] = ModelRef(**fields["model"])
    return made(**fields)
