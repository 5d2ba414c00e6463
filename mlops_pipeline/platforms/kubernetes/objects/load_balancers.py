"""Services of type LoadBalancer, and the addresses that are assigned to them."""

from collections.abc import Mapping

from mlops_pipeline.clients.kubernetes import SERVICE, KubernetesApi, Manifest
from mlops_pipeline.clients.ports import is_reachable
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint

NONE_GIVEN = "no external IP was assigned to its Service"
_PIN = "metallb.io/loadBalancerIPs"
"""Requests an address from MetalLB (https://metallb.io/usage/#requesting-specific-ips)."""
_GIVER = "metallb.io/ip-allocated-from-pool"
"""MetalLB writes this annotation on a Service to which it assigned an address."""


def find_address(api: KubernetesApi, service: str, *, namespace: str) -> str | None:
    """Return the address of a Service, or None if none is assigned yet."""
    return address_of(api.find(SERVICE, service, namespace=namespace) or {})


def address_of(service: Manifest) -> str | None:
    """Return the address in a Service's status, or None if none is assigned yet."""
    status = service.get("status") or {}
    for given in (status.get("loadBalancer") or {}).get("ingress") or ():
        return str(given.get("ip") or given.get("hostname"))
    return None


def find_endpoint(
    parts: Parts, service: str, *, namespace: str, node_ports: Mapping[int, int]
) -> Endpoint | None:
    """Return where this machine reaches a Service, or None while it has no address.

    Raises:
        NotFoundError: there is no cluster.
        UnavailableError: the container engine, which knows the ports of this machine, does not
            answer, or no port is mapped.
    """
    address = find_address(parts.api(), service, namespace=namespace)
    return parts.endpoint(address, node_ports) if address is not None else None


def wait_for_address(parts: Parts, service: str, *, namespace: str, of: str) -> str:
    """Wait until a Service has an address, and return it. `of` names its owner in messages.

    From then on, the Service requests this address. Otherwise MetalLB would mix up the addresses of
    all Services when its pool is created again. An address that is no longer available is released.

    Raises:
        WaitTimeoutError: no address was assigned.
    """
    api, found = parts.api(), [""]
    if not find_address(api, service, namespace=namespace):
        _request_address(api, service, None, namespace=namespace)

    def describe() -> str | None:
        found[0] = find_address(api, service, namespace=namespace) or ""
        return None if found[0] else NONE_GIVEN

    wait_until(
        f"the address of {of}",
        patiently(describe),
        timeout=parts.settings.ready_timeout,
        clock=parts.clock,
        hint=_hint(parts, service, namespace=namespace),
    )
    _request_address(api, service, found[0], namespace=namespace)
    return found[0]


def describe_waiting(parts: Parts) -> str | None:
    """Name the Services without an address or whose address does not answer, else None."""
    describe = _describe_silent if parts.reaches_addresses else _describe_missing
    reasons = (
        describe(found)
        for found in parts.api().list(SERVICE)
        if found["spec"].get("type") == "LoadBalancer"
    )
    return "; ".join(reason for reason in reasons if reason) or None


def _describe_silent(service: Manifest) -> str | None:
    address, ports = address_of(service), service["spec"].get("ports") or ()
    if address is None:
        return _describe_missing(service)
    silent = any(not is_reachable(address, int(part["port"])) for part in ports[:1])
    return f"{_shown(service)} does not answer at {address}" if silent else None


def _describe_missing(service: Manifest) -> str | None:
    return f"{_shown(service)} has no address" if address_of(service) is None else None


def _shown(service: Manifest) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _request_address(
    api: KubernetesApi, service: str, address: str | None, *, namespace: str
) -> None:
    """Let a Service request `address` from MetalLB, or with None any address."""
    annotations = api.get(SERVICE, service, namespace=namespace)["metadata"].get("annotations", {})
    if annotations.get(_PIN) == address or (address and _GIVER not in annotations):
        return
    change = {"metadata": {"annotations": {_PIN: address}}}
    api.patch(SERVICE, service, change, namespace=namespace)


def _hint(parts: Parts, service: str, *, namespace: str) -> str:
    if (giver := parts.settings.load_balancer) != "cluster":
        return f"see `mlops-pipeline status` for {giver}"
    return (
        f"see `kubectl describe service {service} --namespace {namespace}`: the cluster's own load "
        "balancer must assign an address, or MetalLB with kubernetes.metallb.install"
    )
