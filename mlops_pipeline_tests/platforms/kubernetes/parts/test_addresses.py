from ipaddress import IPv4Address, IPv4Network

import pytest

from mlops_pipeline.clients.containers import Network
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange, choose

IPV6 = "fc00:f853:ccd:e793::/64"


def network(subnet: str, *used: str, ipv6_first: bool = True) -> Network:
    gateway = str(IPv4Network(subnet)[1])
    families = (IPV6, subnet) if ipv6_first else (subnet, IPV6)
    return Network(families, (gateway, "fc00:f853:ccd:e793::1"), used)


def chosen(
    net: Network, *, wanted: str = "", existing: str = "", cluster: str = "seldon"
) -> AddressRange:
    return choose(net, wanted=wanted, existing=existing, least=4, cluster=cluster)


@pytest.mark.parametrize("ipv6_first", [True, False])
@pytest.mark.parametrize(
    ("subnet", "size"), [("172.18.0.0/16", 50), ("10.1.16.0/20", 50), ("10.1.2.0/24", 32)]
)
def test_the_range_is_near_the_end_of_the_ipv4_subnet(
    subnet: str, size: int, *, ipv6_first: bool
) -> None:
    found = chosen(network(subnet, ipv6_first=ipv6_first))
    whole = IPv4Network(subnet)
    assert len(found) == size
    assert found.first >= whole[whole.num_addresses // 2]
    assert found.last < whole.broadcast_address


@pytest.mark.parametrize("prefix", range(16, 29))
def test_every_prefix_length_has_room_for_the_layers_and_a_check(prefix: int) -> None:
    whole = IPv4Network(f"10.0.0.0/{prefix}")
    found = chosen(network(str(whole), str(whole[2])))
    assert len(found) >= 4
    assert whole[2] not in found


def test_what_a_container_has_is_left_out() -> None:
    free = chosen(network("10.1.2.0/28"))
    other = chosen(network("10.1.2.0/28", str(free.last)))
    assert free.last not in other
    assert len(other) == 4


def test_clusters_of_other_names_get_other_places() -> None:
    net = network("172.18.0.0/16")
    places = {str(chosen(net, cluster=name)) for name in ("seldon", "dev", "test", "other")}
    assert len(places) == 4
    assert chosen(net, cluster="dev") == chosen(net, cluster="dev")


def test_what_other_clusters_announce_is_left_out() -> None:
    net = network("172.18.0.0/16")
    first = chosen(net)
    part = AddressRange(first.last, first.last + 10)
    second = choose(net, wanted="", existing="", least=4, cluster="seldon", others=lambda: [part])
    assert not second.overlaps(part)
    kept = choose(
        net, wanted="", existing=str(first), least=4, cluster="seldon", others=lambda: [part]
    )
    assert kept == first


def test_a_full_network_is_refused_with_what_to_do() -> None:
    used = [f"10.1.2.{last}" for last in (2, 5, 8, 12)]
    with pytest.raises(
        ConfigurationError, match=r"not have 4 free consecutive addresses.*kind\.metallb\.addresses"
    ):
        chosen(network("10.1.2.0/28", *used))


def test_a_network_too_small_for_anything_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not have 4 free"):
        chosen(network("10.1.2.0/30"))


def test_a_network_of_ipv6_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"has no IPv4 subnet \(it has fc00"):
        chosen(Network((IPV6,), (), ()))


def test_the_existing_range_is_kept_where_it_fits() -> None:
    assert str(chosen(network("172.18.0.0/16"), existing="172.18.9.0-172.18.9.9")) == (
        "172.18.9.0-172.18.9.9"
    )


@pytest.mark.parametrize(
    "existing",
    [
        "10.9.0.1-10.9.0.9",
        "172.18.0.1-172.18.0.9",
        "172.18.0.2/32",
        "fc00::1-fc00::9",
        "a, b",
        "172.18.9.9-172.18.9.0",
    ],
)
def test_an_existing_range_that_does_not_fit_any_more_is_replaced(existing: str) -> None:
    found = chosen(network("172.18.0.0/16", "172.18.0.2"), existing=existing)
    assert found == chosen(network("172.18.0.0/16", "172.18.0.2"))


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("172.18.7.0-172.18.7.9", "172.18.7.0", "172.18.7.9"),
        ("172.18.7.0 - 172.18.7.9", "172.18.7.0", "172.18.7.9"),
        ("172.18.7.0/28", "172.18.7.0", "172.18.7.15"),
    ],
)
def test_what_the_settings_say_comes_first(wanted: str, first: str, last: str) -> None:
    found = chosen(network("172.18.0.0/16"), wanted=wanted, existing="172.18.9.0-172.18.9.9")
    assert (found.first, found.last) == (IPv4Address(first), IPv4Address(last))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("10.9.0.1-10.9.0.9", "is not inside the container network 172.18.0.0/16"),
        ("172.18.255.250-172.19.0.9", "is not inside the container network"),
        ("172.18.0.0-172.18.0.9", "contains 172.18.0.0, the address of the network"),
        ("172.18.0.1/32", "contains 172.18.0.1, the address of the gateway"),
        ("172.18.255.255/32", "the address of broadcasts"),
        ("172.18.0.2-172.18.0.9", "contains 172.18.0.2, the address of a container"),
        ("fc00::1-fc00::9", "not a range of IPv4 addresses"),
        ("fc00::/64", "not a range of IPv4 addresses"),
        ("172.18.7.1", "neither `first-last` nor a prefix"),
        ("172.18.7.9-172.18.7.1", "172.18.7.9 comes after 172.18.7.1"),
        ("172.18.7.1/28", "host bits set"),
    ],
)
def test_what_the_settings_say_is_refused_by_name(wanted: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        chosen(network("172.18.0.0/16", "172.18.0.2"), wanted=wanted)
    assert reason in str(caught.value)
    assert "kind.metallb.addresses" in str(caught.value)
    assert "172.18.0.0/16" in str(caught.value)


def test_an_existing_range_that_is_too_small_for_the_layers_is_replaced() -> None:
    net = network("172.18.0.0/16")
    existing = "172.18.255.1-172.18.255.4"
    assert str(chosen(net, existing=existing)) == existing
    more = choose(net, wanted="", existing=existing, least=5, cluster="seldon")
    assert len(more) == 50
