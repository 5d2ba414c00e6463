"""How assets are named: `<platform>/<layer>` and `<platform>/<model>/<part>`."""

import dagster as dg
from dagster._core.storage.tags import PRIORITY_TAG

OWNERS = ["team:ml-platform"]
OBJECT_STORE = "object_store"
"""Name of the layer, on every platform, that stores datasets and artifacts."""
PARTS = ("dataset", "model", "deployment", "predictions")
"""A model's assets, each depending on the one before."""
PLATFORM_TAG, MODEL_TAG, TRIGGER_TAG = "mlops/platform", "mlops/model", "mlops/trigger"
"""Tags of a run: its subject, and what started it: a command and who typed it, or a schedule."""
COMMAND_TAG = "mlops/command"
"""Tag of a run: the command line that started it."""
_WORKED = ("dataset", "model")
WORKER_TAG = "mlops/worker"
"""Tag of the steps that release the turn while a worker loads data or trains."""


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


def step_tags(key: dg.AssetKey, *, is_check: bool = False) -> dict[str, str]:
    """Return the tags of a step: its model, and its place in a run.

    A run completes the layers first, then model by model. So a model is deployed, checked and asked
    before the next one is trained, and who changes another model during that training finds nothing
    half done.
    """
    _, name, *parts = key.path
    if not parts:
        return {PRIORITY_TAG: str(2 * len(PARTS) + is_check)}
    (part,) = parts
    worker = {WORKER_TAG: "true"} if part in _WORKED and not is_check else {}
    return {PRIORITY_TAG: str(2 * PARTS.index(part) + is_check), MODEL_TAG: name, **worker}
