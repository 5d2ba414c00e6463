import pytest

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.kubernetes import ENDPOINT_SLICE
from mlops_pipeline.platforms.kubernetes.cluster import nodes
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    NAME,
    RESOLVED,
    node,
    ready_cluster,
)


class FailingEngine(FakeEngine):
    def exec(self, *_: object, **__: object) -> str:
        raise CommandError("could not run it\nin detail")


def engine(*outputs: tuple[tuple[str, ...], str]) -> FakeEngine:
    return FakeEngine(containers=[node()], outputs=outputs)


def unresolved(engine: FakeEngine) -> str | None:
    return nodes.describe_unresolved(engine, FakeKubernetes(ready_cluster()), CONTROL_PLANE)


@pytest.mark.parametrize(
    ("configuration", "identity"),
    [
        ('  node-labels: "mlops-pipeline/made-by=mlops-1,ingress-ready=true"', "mlops-1"),
        ("  node-labels: ingress-ready=true", ""),
        ("\n", None),
    ],
)
def test_kinds_configuration_tells_who_made_a_node(
    configuration: str, identity: str | None
) -> None:
    assert nodes.made_by(engine((("sh",), configuration)), CONTROL_PLANE) == identity


def test_mirrors_are_written_and_former_ones_removed() -> None:
    asked = engine()
    nodes.write_mirrors(asked, CONTROL_PLANE, {"docker.io": "http://m"}, before=["ghcr.io"])
    removed, written = [call.command for call in asked.calls]
    assert removed == ("rm", "-rf", "--", "/etc/containerd/certs.d/ghcr.io")
    assert written[-2] == "/etc/containerd/certs.d/docker.io"
    assert 'server = "http://m"' in written[-1]


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("1000\nanon 5\ninactive_file 300\n", 700),
        ("1000\ninactive_file 1\ntotal_inactive_file 400\n", 600),
        ("", 0),
        ("1000\n", 0),
    ],
)
def test_memory_is_counted_without_what_can_be_dropped(text: str, used: int) -> None:
    assert nodes.memory_used(engine((("sh",), text)), [CONTROL_PLANE]) == used


def test_memory_that_cannot_be_read_is_unknown() -> None:
    assert nodes.memory_used(FailingEngine(), [CONTROL_PLANE]) == 0


def test_a_name_is_asked_for_over_tcp_at_each_server_and_at_the_services_address() -> None:
    asked = engine((("bash",), RESOLVED))
    assert unresolved(asked) is None
    assert [call.command[-2] for call in asked.calls] == ["10.244.0.3", "10.96.0.10"]
    call = asked.calls[0]
    message = bytes.fromhex(call.command[-1].replace("\\x", ""))
    assert int.from_bytes(message[:2], "big") == len(message) - 2
    assert b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00" in message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "CoreDNS did not answer"),
        ("0 72 1 1 133 131 0 1 0 0", "answer code 3, 0 addresses"),
        ("0 72 1 1 133 128 0 1 0 0", "answer code 0, 0 addresses"),
        ("no numbers", "CoreDNS did not answer"),
    ],
)
def test_a_name_that_does_not_resolve_is_told(answer: str, reason: str) -> None:
    assert reason in (unresolved(engine((("bash",), answer))) or "")


def test_a_node_that_cannot_be_asked_is_told_in_one_line() -> None:
    reason = unresolved(FailingEngine())
    assert reason == f"CoreDNS did not answer {CONTROL_PLANE} at 10.244.0.3: could not run it"


def test_without_the_service_of_coredns_nothing_is_asked() -> None:
    reason = nodes.describe_unresolved(engine(), FakeKubernetes(), CONTROL_PLANE)
    assert reason == "the Service kube-system/kube-dns is missing"


def test_without_a_coredns_that_is_ready_nothing_is_asked() -> None:
    api = FakeKubernetes(ready_cluster())
    api.patch(ENDPOINT_SLICE, "kube-dns-1", {"endpoints": None}, namespace="kube-system")
    reason = nodes.describe_unresolved(engine(), api, CONTROL_PLANE)
    assert reason == "no CoreDNS is ready"


def test_the_pools_of_other_clusters_are_asked_for() -> None:
    asked = engine((("kubectl",), "172.18.254.0-172.18.254.49 fc00::/120 10.0.0.0/28"))
    found = [str(one) for one in nodes.pools_of_others(asked, "another")]
    assert found == ["172.18.254.0-172.18.254.49", "10.0.0.0-10.0.0.15"]
    assert nodes.pools_of_others(asked, NAME) == []
    assert nodes.pools_of_others(FailingEngine(containers=[node()]), "another") == []
