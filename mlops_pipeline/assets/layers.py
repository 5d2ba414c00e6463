"""One asset per layer of a platform, from one factory."""

import time
import uuid
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import Proposition, Verdict, make_checks
from mlops_pipeline.assets.keys import LAYERS_GROUP, OWNERS, layer_key
from mlops_pipeline.delivery.artifacts import BUCKET
from mlops_pipeline.platforms.layers import Layer, Ready, by_name, describe
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.resources.platform import PlatformResource


def layer_asset(platform: Platform, layer: Layer) -> dg.AssetsDefinition:
    """Return the asset whose materialization makes the layer true."""
    name = layer.name

    @dg.asset(
        key=layer_key(platform.name, name),
        deps=[layer_key(platform.name, required) for required in layer.requires],
        description=layer.description,
        group_name=LAYERS_GROUP,
        kinds=set(layer.kinds),
        owners=OWNERS,
        required_resource_keys={"platform"},
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        start = time.monotonic()
        change = by_name(context.resources.platform.build().layers, name).ensure()
        context.log.info(f"{name}: {change.action}")
        return dg.MaterializeResult(
            metadata={
                **metadata.of_change(change),
                "seconds": dg.MetadataValue.float(round(time.monotonic() - start, 3)),
            }
        )

    return asset


def layer_checks(platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Return the health checks of the layers: those that models stand on are blocking."""
    own = {"object_store": ROUND_TRIPS, "gateway": ROUTES}
    return [
        make_checks(layer_key(platform.name, layer.name), [own[layer.name]], takes_reference=False)
        for layer in platform.layers
        if layer.name in own
    ]


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
        f"{len(sent)} bytes were stored, read and deleted in {1000 * seconds:.0f} ms"
        if passed
        else f"{len(sent)} bytes were stored, {len(received)} came back, left behind: {left}",
        {"milliseconds": round(1000 * seconds, 1)},
    )


def _routes(_context: Any, resource: PlatformResource, _reference: Any) -> Verdict:
    platform = resource.build()
    state = by_name(platform.layers, "gateway").observe()
    if isinstance(state, Ready):
        return Verdict(passed=True, description=f"{platform.gateway_url()} answers our probe route")
    return Verdict(passed=False, description=describe(state))


ROUND_TRIPS = Proposition(
    "round_trips_an_object",
    "An object that is stored comes back the same, and is gone when deleted.",
    _round_trips,
    blocking=True,
)
ROUTES = Proposition(
    "routes",
    "The gateway answers on its address with the routes that were last written.",
    _routes,
    blocking=True,
)
