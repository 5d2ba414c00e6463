"""Which addresses of the container network Services of type LoadBalancer may get."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from itertools import islice, takewhile

from mlops_pipeline.clients.containers import Network
from mlops_pipeline.clients.errors import ConfigurationError

_MOST = 50
"""Addresses in a range, if the subnet is large enough."""
_SLOTS = 64
"""Number of ranges near the end of the subnet among which clusters are distributed."""


@dataclass(frozen=True)
class AddressRange:
    """Addresses from `first` to `last`, both included."""

    first: IPv4Address
    last: IPv4Address

    @classmethod
    def parse(cls, text: str) -> "AddressRange":
        """Parse `first-last` or a prefix (`172.18.255.0/28`).

        Raises:
            ValueError: it is neither, or not IPv4; says what is wrong.
        """
        if "/" in text:
            network = IPv4Network(text.strip())
            return cls(network[0], network[-1])
        first, dash, last = text.partition("-")
        if not dash:
            raise ValueError(f"{text!r} is neither `first-last` nor a prefix")
        found = cls(IPv4Address(first.strip()), IPv4Address(last.strip()))
        if found.first > found.last:
            raise ValueError(f"{found.first} comes after {found.last}")
        return found

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def overlaps(self, other: "AddressRange") -> bool:
        """Say whether an address is in both."""
        return self.first <= other.last and other.first <= self.last

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1


def choose(
    network: Network,
    *,
    wanted: str,
    existing: str,
    least: int,
    cluster: str,
    others: Callable[[], Sequence[AddressRange]] = tuple,
) -> AddressRange:
    """Return the range for a pool: `wanted`, else `existing` if it still fits, else a free one.

    A free one has at least `least` addresses and is near the end of the IPv4 subnet: containers get
    addresses from its beginning. `others` returns the ranges of the clusters that share the
    network. The cluster's name determines where the search starts, so that clusters that are
    created at the same time get different ranges.

    Raises:
        ConfigurationError: `wanted` cannot be used, or the network has no room.
    """
    subnet = _subnet(network)
    if wanted:
        return _configured(wanted, subnet, network)
    if existing and (kept := _fitting(existing, subnet, network, least)) is not None:
        return kept
    taken = others()
    for slot in _places(subnet, cluster, least):
        if not _conflicts(slot, subnet, network) and not any(slot.overlaps(t) for t in taken):
            return slot
    raise ConfigurationError(
        f"the container network {subnet} does not have {least} free consecutive addresses for "
        "MetalLB; remove containers or other clusters from it, or set kind.metallb.addresses"
    )


def _subnet(network: Network) -> IPv4Network:
    """Return the IPv4 subnet: the address families have no fixed order."""
    for text in network.subnets:
        subnet = ip_network(text)
        if isinstance(subnet, IPv4Network):
            return subnet
    raise ConfigurationError(
        "the container network has no IPv4 subnet (it has "
        f"{', '.join(network.subnets) or 'none'}), but MetalLB's pool needs IPv4; remove the "
        "network `kind` and its clusters, so that it is created again"
    )


def _configured(wanted: str, subnet: IPv4Network, network: Network) -> AddressRange:
    try:
        found = AddressRange.parse(wanted)
    except ValueError as error:
        raise ConfigurationError(
            f"kind.metallb.addresses = {wanted!r} is not a range of IPv4 addresses ({error}); "
            f"write `first-last` or a prefix, in {subnet}"
        ) from error
    if conflicts := _conflicts(found, subnet, network):
        raise ConfigurationError(
            f"kind.metallb.addresses = {wanted!r} cannot be used: {conflicts}; choose another "
            f"range in {subnet}"
        )
    return found


def _fitting(
    existing: str, subnet: IPv4Network, network: Network, least: int
) -> AddressRange | None:
    try:
        found = AddressRange.parse(existing)
    except ValueError:
        return None
    return None if len(found) < least or _conflicts(found, subnet, network) else found


def _conflicts(found: AddressRange, subnet: IPv4Network, network: Network) -> str:
    """Say why the range cannot be used; empty if it can."""
    if found.first not in subnet or found.last not in subnet:
        return f"it is not inside the container network {subnet}"
    reserved = {subnet.network_address: "the network", subnet.broadcast_address: "broadcasts"}
    for text in network.gateways:
        reserved |= {a: "the gateway" for a in _ipv4(text)}
    for text in network.addresses:
        reserved |= {a: "a container" for a in _ipv4(text)}
    taken = sorted(address for address in reserved if address in found)
    return f"it contains {taken[0]}, the address of {reserved[taken[0]]}" if taken else ""


def _ipv4(text: str) -> list[IPv4Address]:
    address = ip_address(text.partition("/")[0])
    return [address] if isinstance(address, IPv4Address) else []


def _places(subnet: IPv4Network, cluster: str, least: int) -> Iterator[AddressRange]:
    """Yield ranges to try: first those near the end, starting by the name, then the others."""
    middle = subnet[subnet.num_addresses // 2]
    upper = list(
        islice(takewhile(lambda slot: slot.first >= middle, _slots(subnet, least)), _SLOTS)
    )
    start = zlib.crc32(cluster.encode()) % len(upper) if upper else 0
    yield from (*upper[start:], *upper[:start])
    yield from islice(_slots(subnet, least), len(upper), None)


def _slots(subnet: IPv4Network, least: int) -> Iterator[AddressRange]:
    """Yield ranges of the subnet from its end, without its first and last address."""
    size = max(least, min(_MOST, subnet.num_addresses // 8))
    last = int(subnet.broadcast_address) - 1
    while last - size + 1 > int(subnet.network_address):
        yield AddressRange(IPv4Address(last - size + 1), IPv4Address(last))
        last -= size
