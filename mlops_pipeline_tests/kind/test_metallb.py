"""MetalLB in the shared cluster: its pool, its webhooks, and an address that answers."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.kubernetes import IP_ADDRESS_POOL, NAMESPACE, POD
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting
from mlops_pipeline.platforms.kubernetes.objects.probes import PROBE_LABEL
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Drifted, Ready
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import MetalLBSettings

pytestmark = pytest.mark.kind

SYSTEM = "metallb-system"


def test_its_pool_is_in_the_ipv4_subnet_of_the_containers(parts: KindParts) -> None:
    state = MetalLB(parts).observe()
    assert isinstance(state, Ready)
    first, _, last = str(state.facts["addresses"]).partition("-")
    (subnet,) = [IPv4Network(s) for s in parts.engine.network("kind").subnets if ":" not in s]
    assert IPv4Address(first) in subnet
    assert IPv4Address(last) in subnet


def test_a_second_time_changes_nothing(parts: KindParts) -> None:
    assert MetalLB(parts).ensure().action == "unchanged"


def test_an_address_answers_from_here_and_nothing_is_left(parts: KindParts) -> None:
    finding = MetalLB(parts).checks[0].run()
    assert finding.passed
    labels = ",".join(f"{key}={value}" for key, value in PROBE_LABEL.items())
    left = parts.api().list(NAMESPACE, labels=labels)
    assert all(n["metadata"].get("deletionTimestamp") for n in left)


def test_a_lost_pool_is_made_again_while_the_webhook_is_away(parts: KindParts) -> None:
    api = parts.api()
    before = api.get(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM)["spec"]["addresses"]
    found = api.list(POD, namespace=SYSTEM, labels="component=controller")
    (controller,) = filter(is_lasting, found)
    api.delete(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM)
    api.delete(POD, controller["metadata"]["name"], namespace=SYSTEM)
    assert not isinstance(MetalLB(parts).observe(), Ready)
    MetalLB(parts).ensure()
    assert isinstance(MetalLB(parts).observe(), Ready)
    after = api.get(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM)["spec"]["addresses"]
    assert after == before


def test_a_range_outside_the_network_is_refused(parts: KindParts, bundle: Path | None) -> None:
    metallb = MetalLBSettings(addresses="192.0.2.0/28")
    settings = KindSettings(cluster=parts.settings.cluster, metallb=metallb)
    wrong = MetalLB(KindParts.make(parts.state.home, settings, bundle=bundle))
    assert isinstance(wrong.observe(), Drifted)
    with pytest.raises(ConfigurationError, match="is not inside the container network"):
        wrong.ensure()
    assert isinstance(MetalLB(parts).observe(), Ready)
