"""Where this machine reaches the store's Service."""

from mlops_pipeline.platforms.kubernetes.layers.object_store.manifests import (
    NAME,
    NAMESPACE,
    NODE_PORTS,
)
from mlops_pipeline.platforms.kubernetes.objects import load_balancers
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint

NONE_GIVEN = load_balancers.NONE_GIVEN


def find_endpoint(parts: Parts) -> Endpoint | None:
    """Return where it is reached, or None while it has no address."""
    return load_balancers.find_endpoint(parts, NAME, namespace=NAMESPACE, node_ports=NODE_PORTS)


def wait_for_address(parts: Parts) -> None:
    """Wait until it has an address.

    Raises:
        WaitTimeoutError: no address was assigned.
    """
    load_balancers.wait_for_address(parts, NAME, namespace=NAMESPACE, of="the object store")
