"""The pool of addresses that MetalLB may assign, its other users, and its creation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from mlops_pipeline.clients.errors import WaitTimeoutError
from mlops_pipeline.clients.kubernetes import (
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    SERVICE,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.layers.metallb.speakers import SYSTEM
from mlops_pipeline.platforms.kubernetes.objects.endings import (
    find_lasting,
    is_lasting,
    wait_for_end,
)
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import address_of, describe_waiting
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_mine, our_namespaces
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange
from mlops_pipeline.platforms.kubernetes.parts.base import Parts

NAME = "mlops-pipeline"
_CONFIGURING = (
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    *(Resource("metallb.io/v1beta1", k) for k in ("BGPAdvertisement", "BFDProfile", "Community")),
    Resource("metallb.io/v1beta2", "BGPPeer"),
)
"""Kinds with which people configure MetalLB."""
_GIVEN = 20.0
"""Seconds for existing Services to get their addresses from a new pool."""
_SLOW = 0.5
"""Seconds between attempts in waits that take seconds."""


def find(api: KubernetesApi) -> Manifest | None:
    """Return our pool, or None if there is none or it is being deleted."""
    return find_lasting(api, IP_ADDRESS_POOL, NAME, namespace=SYSTEM)


def addresses_of(pool: Manifest) -> str:
    """Return the addresses of a pool as text."""
    return ", ".join(str(part) for part in pool["spec"].get("addresses") or ())


def differences(api: KubernetesApi, pool: Manifest, chosen: AddressRange) -> Iterator[str]:
    """Say how the existing pool differs from the expected one."""
    if (there := addresses_of(pool)) != str(chosen):
        yield f"its addresses are {there or 'none'}, expected {chosen}"
    if find_lasting(api, L2_ADVERTISEMENT, NAME, namespace=SYSTEM) is None:
        yield f"the L2Advertisement {SYSTEM}/{NAME} is missing: no address is announced"


def manifests(
    chosen: AddressRange, *, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> list[Manifest]:
    """Return the pool, with the annotations, and its announcement by ARP."""
    metadata = {"name": NAME, "namespace": SYSTEM, "labels": labels}
    return [
        {
            "apiVersion": IP_ADDRESS_POOL.api_version,
            "kind": IP_ADDRESS_POOL.kind,
            "metadata": {**metadata, "annotations": annotations},
            "spec": {"addresses": [str(chosen)]},
        },
        {
            "apiVersion": L2_ADVERTISEMENT.api_version,
            "kind": L2_ADVERTISEMENT.kind,
            "metadata": metadata,
            "spec": {"ipAddressPools": [NAME]},
        },
    ]


def open_as_soon_as_it_may(
    parts: Parts, objects: Sequence[Manifest], steps: Steps, *, controller: str
) -> None:
    """Apply the pool as soon as MetalLB's webhooks answer, which is some time after its pods.

    A webhook that answered may stop a moment later, with a controller that is being replaced.
    """
    api, timeout, clock = parts.api(), parts.settings.ready_timeout, parts.clock

    def apply() -> None:
        for manifest in objects:
            api.apply(manifest, dry_run=True)
        api.apply_all(objects)

    for resource in (IP_ADDRESS_POOL, L2_ADVERTISEMENT):
        wait_for_end(api, resource, NAME, namespace=SYSTEM, timeout=timeout, clock=clock)
    with steps.step("webhook"):
        wait_until(
            "MetalLB's webhook",
            lambda: describe_silence(apply),
            timeout=timeout,
            clock=clock,
            hint=f"see `kubectl logs --namespace {SYSTEM} deployment/{controller}`",
        )
    with steps.step("addresses"), suppress(WaitTimeoutError):
        # Other layers report Services of theirs that cannot have their addresses.
        wait_until(
            "the addresses of Services",
            patiently(lambda: describe_waiting(parts)),
            timeout=_GIVEN,
            clock=clock,
            interval=_SLOW / 5,
        )


def users(api: KubernetesApi) -> tuple[str, ...]:
    """Return the Services of somebody else with an address of ours, and other people's pools.

    Removing MetalLB removes its definitions, and with them all objects of these kinds.
    """
    pools, namespaces = api.list(IP_ADDRESS_POOL), set(our_namespaces(api))
    ranges = [part for pool in pools if is_mine(api, pool) for part in _ranges(pool)]
    services = [
        found
        for found in api.list(SERVICE)
        if _is_given(found, ranges) and found["metadata"]["namespace"] not in namespaces
    ]
    configured = [found for resource in _CONFIGURING for found in api.list(resource)]
    return tuple(
        f"{found['kind']} {found['metadata']['namespace']}/{found['metadata']['name']}"
        for found in (*services, *configured)
        if not is_mine(api, found) and is_lasting(found)
    )


def _is_given(service: Manifest, ranges: Sequence[AddressRange]) -> bool:
    """Say whether a Service has an address in one of the ranges."""
    try:
        address = IPv4Address(address_of(service) or "")
    except ValueError:
        return False
    return any(address in given for given in ranges)


def _ranges(pool: Manifest) -> Iterator[AddressRange]:
    for part in pool["spec"].get("addresses") or ():
        with suppress(ValueError):
            yield AddressRange.parse(str(part))
