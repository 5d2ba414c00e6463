"""Passes references between assets through the event log, as readable metadata."""

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

from mlops_pipeline.delivery.references import DatasetRef, DeploymentRef, ModelRef, Reference
from mlops_pipeline.settings import load_settings

_LOOKED_AT = 20
"""Number of latest materializations in which a run searches its own."""
_EARLIER = "reference"
"""Metadata key in which earlier versions stored the reference to a deployment, as JSON."""
_STATE_FOLDER_STORAGE = "StateFolderStorage"
"""Class in `storage`, which imports a database library: definitions load without it."""


class ReferenceIOManager(dg.ConfigurableIOManager):
    """Stores the reference in the asset's materialization and reads it from the latest one.

    So every machine or process that uses the Dagster instance can run the next step. The entries
    come last in the UI's table: digest and URI, or endpoint and artifact.
    """

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Attach the reference to the materialization."""
        if obj is not None:
            context.add_output_metadata(encode(obj))

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the reference that this run materialized, else the latest one.

        Raises:
            dagster.Failure: the asset was never materialized.
        """
        run_id = context.step_context.run_id
        return get_reference(context.instance, context.asset_key, run_id=run_id)


def get_reference(instance: dg.DagsterInstance, key: dg.AssetKey, *, run_id: str) -> Reference:
    """Return the reference that the run `run_id` materialized, else the latest one.

    Raises:
        dagster.Failure: the asset was never materialized.
    """
    found = latest_reference(instance, key, run_id=run_id)
    if found is None:
        raise dg.Failure(
            f"{key.to_user_string()} was never materialized; materialize it first"
            + describe_elsewhere(instance),
            allow_retries=False,
        )
    return found


def latest_reference(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, run_id: str
) -> Reference | None:
    """Return the reference that the run `run_id` materialized, else the latest one, or None.

    So simultaneous runs do not use each other's artifacts.
    """
    # Their metadata contains pictures: reading 20 of them takes as long as a step.
    records = instance.fetch_materializations(key, limit=1).records
    if records and records[0].run_id != run_id:
        records = instance.fetch_materializations(key, limit=_LOOKED_AT).records
    own = [record for record in records if record.run_id == run_id]
    materializations = (record.asset_materialization for record in [*own, *records])
    newest = next((m for m in materializations if m is not None), None)
    return decode(newest.metadata) if newest else None


def encode(reference: object) -> dict[str, dg.MetadataValue]:
    """Return the metadata that stores `reference`.

    Raises:
        TypeError: it is not a reference.
    """
    if isinstance(reference, DatasetRef | ModelRef):
        return {
            "digest": dg.MetadataValue.text(reference.digest),
            "uri": dg.MetadataValue.text(reference.uri),
        }
    if isinstance(reference, DeploymentRef):
        return {
            "endpoint": dg.MetadataValue.url(reference.url),
            "artifact": dg.MetadataValue.text(reference.model.uri),
        }
    raise TypeError(f"expected a reference to pass between assets, got {type(reference).__name__}")


def decode(metadata: Mapping[str, dg.MetadataValue]) -> Reference | None:
    """Return the reference that this metadata stores, or None."""
    if "endpoint" in metadata and "artifact" in metadata:
        url, artifact = (str(metadata[key].value) for key in ("endpoint", "artifact"))
        *_, namespace, name = urlsplit(url).path.split("/")
        model = _stored(artifact)
        return DeploymentRef(name, namespace, url, model) if isinstance(model, ModelRef) else None
    if _EARLIER in metadata:
        return _earlier(metadata[_EARLIER].value)
    return _stored(str(metadata["uri"].value)) if "uri" in metadata else None


def _stored(uri: str) -> DatasetRef | ModelRef | None:
    """Return the reference to `s3://<bucket>/<model>/<digest>`."""
    parts = urlsplit(uri)
    name, _, digest = parts.path.lstrip("/").partition("/")
    if parts.scheme != "s3" or not digest:
        return None
    if parts.netloc == "datasets":
        return DatasetRef(name, uri, digest)
    return ModelRef(name, uri, digest) if parts.netloc == "models" else None


def _earlier(value: Any) -> Reference | None:
    fields = json.loads(value) if isinstance(value, str) else dict(value)
    if fields.pop("type") != DeploymentRef.__name__:
        return _stored(fields["uri"])
    return DeploymentRef(**{**fields, "model": ModelRef(**fields["model"])})


def describe_elsewhere(instance: dg.DagsterInstance) -> str:
    """Return what to do if this process may use separate records; otherwise an empty text."""
    if os.environ.get("DAGSTER_HOME") or instance.is_ephemeral:
        return ""
    storage = instance.get_ref().storage_data
    if storage is not None and storage.class_name == _STATE_FOLDER_STORAGE:
        return ""
    return (
        ". DAGSTER_HOME is not set, so this command uses separate records: run `export "
        f"DAGSTER_HOME={load_settings().dagster_home}` and the command again"
    )
