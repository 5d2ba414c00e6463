"""Services of type LoadBalancer: the addresses that MetalLB gives them."""

from mlops_pipeline.clients.kubernetes import SERVICE, KubernetesApi, Manifest
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.parts import Parts

NONE_GIVEN = "MetalLB has given its Service none"


def find_address(api: KubernetesApi, service: str, *, namespace: str) -> str | None:
    """Return the address that a Service was given, or None as yet."""
    return address_of(api.find(SERVICE, service, namespace=namespace) or {})


def address_of(service: Manifest) -> str | None:
    """Return the address in a Service's status, or None as yet."""
    status = service.get("status") or {}
    for given in (status.get("loadBalancer") or {}).get("ingress") or ():
        return str(given.get("ip") or given.get("hostname"))
    return None


def wait_for_address(parts: Parts, service: str, *, namespace: str, of: str) -> str:
    """Wait until a Service has an address, and return it; `of` says whose it is.

    Raises:
        WaitTimeoutError: it was given none.
    """
    api, found = parts.api(), [""]

    def describe() -> str | None:
        found[0] = find_address(api, service, namespace=namespace) or ""
        return None if found[0] else NONE_GIVEN

    wait_until(
        f"the address of {of}",
        describe,
        timeout=parts.settings.ready_timeout,
        clock=parts.clock,
        hint="see `mlops-pipeline status` for metallb",
    )
    return found[0]


def url_of(address: str, *, scheme: str = "http", port: int | None = None) -> str:
    """Return `scheme://address[:port]`, an IPv6 address in brackets."""
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}" + (f":{port}" if port is not None else "")
