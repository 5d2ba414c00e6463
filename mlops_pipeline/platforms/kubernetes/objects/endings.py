"""Objects that are being deleted: they can still be found, but count as absent."""

from mlops_pipeline.clients.kubernetes import KubernetesApi, Manifest, Resource
from mlops_pipeline.clients.waiting import Clock, patiently, wait_until


def is_ending(found: Manifest) -> bool:
    """Say whether the object is being deleted."""
    return bool(found["metadata"].get("deletionTimestamp"))


def is_lasting(found: Manifest | None) -> bool:
    """Say whether an object exists and is not being deleted."""
    return found is not None and not is_ending(found)


def find_lasting(
    api: KubernetesApi, resource: Resource, name: str, *, namespace: str = ""
) -> Manifest | None:
    """Return the object, or None if it does not exist or is being deleted."""
    found = api.find(resource, name, namespace=namespace)
    return found if is_lasting(found) else None


def wait_for_end(
    api: KubernetesApi,
    resource: Resource,
    name: str,
    *,
    namespace: str = "",
    timeout: float,
    clock: Clock,
) -> None:
    """Wait until an object that is being deleted is gone. Return at once for any other object.

    What is applied to such an object is deleted with it.

    Raises:
        AccessDeniedError: the user may not read it.
        UnavailableError: the cluster does not answer.
        WaitTimeoutError: it still exists.
    """
    place, option = (f"{namespace}/", f" --namespace {namespace}") if namespace else ("", "")

    def describe_ending() -> str | None:
        found = api.find(resource, name, namespace=namespace)
        return None if found is None or is_lasting(found) else "it is still being deleted"

    if describe_ending() is None:
        return
    wait_until(
        f"the deletion of the {resource.kind} {place}{name}",
        patiently(describe_ending),
        timeout=timeout,
        clock=clock,
        hint=f"see what it waits for: `kubectl describe {resource.kind.lower()} {name}{option}`",
    )
