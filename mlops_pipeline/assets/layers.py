"""One asset per layer of a platform, from one factory."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import Proposition, make_checks, require_passed
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OBJECT_STORE, OWNERS, layer_key, layers_group, step_tags
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.artifacts import BUCKET
from mlops_pipeline.delivery.judging import Verdict
from mlops_pipeline.platforms.layers import Change, HealthCheck, Layer, by_name
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.resources.platform import PlatformResource


def layer_asset(platform: Platform, layer: Layer) -> dg.AssetsDefinition:
    """Return the asset whose materialization ensures the layer."""
    name = layer.name
    key = layer_key(platform.name, name)

    @dg.asset(
        key=key,
        deps=[layer_key(platform.name, required) for required in layer.requires],
        description=layer.description,
        group_name=layers_group(platform.name),
        kinds=set(layer.kinds),
        owners=OWNERS,
        op_tags=step_tags(key),
        required_resource_keys={"platform"},
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        start = time.monotonic()
        with explained():
            built = context.resources.platform.build()
            change = by_name(built.layers, name).ensure()
            if name == OBJECT_STORE:
                adopt(built)
        context.log.info(f"{name}: {change.action}")
        return dg.MaterializeResult(
            data_version=_version(context, change),
            metadata={
                **metadata.of_change(change, seconds=time.monotonic() - start),
                **_memory(built.memory_of(name)),
            },
        )

    return asset


def _version(context: dg.AssetExecutionContext, change: Change) -> dg.DataVersion:
    """Return the version of the layer, which changes only if it was created or updated.

    Otherwise each run would create a new version, and Dagster would show all assets on the layer as
    outdated that were not materialized in the same run: the models that `up MODEL` does not name.
    """
    event = context.instance.get_latest_materialization_event(context.asset_key)
    latest = event.asset_materialization if event else None
    known = (latest.tags or {}).get(DATA_VERSION_TAG) if latest else None
    is_same = change.action in ("unchanged", "repaired")
    return dg.DataVersion(known if known and is_same else context.run.run_id)


def _memory(used: int | None) -> dict[str, int]:
    return {} if used is None else {"memory_megabytes": round(used / 1e6)}


def layer_checks(platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Return the health checks of the layers. All are blocking, because models depend on them."""
    return [
        make_checks(layer_key(platform.name, layer.name), propositions, takes_reference=False)
        for layer in platform.layers
        if (propositions := layer_propositions(layer))
    ]


def layer_propositions(layer: Layer) -> list[Proposition]:
    """Return the conditions that a layer must meet before others are built on it."""
    own = [_proposition(layer.name, check) for check in layer.checks]
    return [*own, ROUND_TRIPS] if layer.name == OBJECT_STORE else own


def require_healthy(instance: dg.DagsterInstance, platform: str, layers: Sequence[Layer]) -> None:
    """Refuse to use layers whose checks did not pass on their latest materialization.

    Raises:
        dagster.Failure: names the check.
    """
    for layer in layers:
        require_passed(instance, layer_key(platform, layer.name), layer_propositions(layer))


def _proposition(layer: str, check: HealthCheck) -> Proposition:
    """Return the check for Dagster. It uses the platform of the run's resource."""

    def evaluate(_context: Any, resource: PlatformResource, _reference: Any) -> Verdict:
        checks = by_name(resource.build().layers, layer).checks
        finding = next(c for c in checks if c.name == check.name).run()
        return Verdict(finding.passed, finding.seen, dict(finding.facts))

    return Proposition(check.name, check.description, evaluate, blocking=True)


def _round_trips(_context: Any, resource: PlatformResource, _reference: Any) -> Verdict:
    store, key, sent = (
        resource.build().object_store(),
        f".checks/{uuid.uuid4()}",
        uuid.uuid4().bytes,
    )
    start = time.monotonic()
    store.put(BUCKET, key, sent)
    received = store.get(BUCKET, key)
    store.delete(BUCKET, key)
    seconds = time.monotonic() - start
    left = key in store.sizes(BUCKET, key)
    passed = received == sent and not left
    return Verdict(
        passed,
        f"stored, read and deleted {len(sent)} bytes in {1000 * seconds:.0f} ms"
        if passed
        else (
            f"stored {len(sent)} bytes, read {len(received)} "
            + ("equal bytes" if received == sent else "different bytes")
            + ("; the object still exists after its deletion" if left else "")
        ),
        {"milliseconds": round(1000 * seconds, 1)},
    )


ROUND_TRIPS = Proposition(
    "round_trips_an_object",
    "A stored object is read back unchanged and can be deleted.",
    _round_trips,
    blocking=True,
)
