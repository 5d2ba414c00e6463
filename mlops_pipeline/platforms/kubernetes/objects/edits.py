"""Manual changes of our objects: reported, and reverted."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlops_pipeline.clients.kubernetes import KubernetesApi, Manifest, Resource


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield each field that differs from `wanted`, with both values. A list counts as one value."""
    for key in dict.fromkeys((*wanted, *there)):
        now, then = there.get(key), wanted.get(key)
        if isinstance(now, Mapping) and isinstance(then, Mapping):
            yield from (f"{key}.{inner}" for inner in differences(now, then))
        elif now != then:
            yield f"{key} is {_shown(now)}, expected {_shown(then)}"


def apply_whole(api: KubernetesApi, manifest: Manifest) -> Manifest:
    """Apply the object, remove what others have added to its spec, and return it.

    An apply alone does not change fields that another manager owns, such as after `kubectl scale`.

    Raises:
        InvalidManifestError: refused; nothing was changed.
        UnavailableError: the cluster or a webhook does not answer.
    """
    applied = api.apply(manifest).manifest
    if not (added := _added(applied["spec"], manifest["spec"])):
        return applied
    metadata = manifest["metadata"]
    resource = Resource(manifest["apiVersion"], manifest["kind"])
    namespace = metadata.get("namespace", "")
    return api.patch(resource, metadata["name"], {"spec": added}, namespace=namespace)


def _added(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that removes fields that `wanted` lacks. Lists have one owner."""
    change: dict[str, Any] = {}
    for key, value in there.items():
        if key not in wanted:
            change[key] = None
        elif isinstance(value, Mapping) and (inner := _added(value, wanted[key])):
            change[key] = inner
    return change


def _shown(value: object) -> object:
    return "nothing" if value is None else value
