"""How assets are named: `<platform>/<layer>` and `<platform>/<model>/<part>`."""

import dagster as dg

OWNERS = ["team:ml-platform"]
OBJECT_STORE = "object_store"
"""Name of the layer, on every platform, that stores datasets and artifacts."""
PARTS = ("dataset", "model", "deployment", "predictions")
"""A model's assets, each depending on the one before."""


def layers_group(platform: str) -> str:
    """Return the group of a platform's layers: the UI's graph shows all platforms at once."""
    return f"{platform}_platform"


def model_group(platform: str, model: str) -> str:
    """Return the group of a model's assets on a platform."""
    return f"{platform}_{model}"


def layer_key(platform: str, layer: str) -> dg.AssetKey:
    """Return the key of a layer's asset."""
    return dg.AssetKey([platform, layer])


def model_key(platform: str, model: str, part: str) -> dg.AssetKey:
    """Return the key of one of a model's assets."""
    return dg.AssetKey([platform, model, part])
