import socket
import sys
from collections.abc import Iterator

import pytest
import yaml

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes.cluster import config as cluster_config
from mlops_pipeline.platforms.kubernetes.cluster.config import HostPorts
from mlops_pipeline.platforms.kubernetes.layers.istio import charts
from mlops_pipeline.platforms.kubernetes.layers.object_store import manifests
from mlops_pipeline.settings.kind import ClusterSettings
from mlops_pipeline_tests.platforms.kubernetes.rig import MAPPED, node

V1 = "kindest/node:v1.34.4"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ports that others listen on."""
    used: set[int] = set()
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: port in used)
    return used


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def ports_at(http: int, https: int) -> HostPorts:
    return {"http": http, "https": https}


def mapped(settings: ClusterSettings) -> tuple[cluster_config.MappedPort, ...]:
    """Return the ports that a cluster with Istio and the object store maps."""
    return cluster_config.mapped_ports(settings, [*charts.PORTS, *manifests.PORTS])


def different(settings: ClusterSettings, *, before: HostPorts | None = None) -> tuple[str, ...]:
    return cluster_config.differences(
        settings, mapped(settings), [node()], image=V1, asked_before=before
    )


def test_the_control_plane_maps_the_ports_and_is_labelled_for_an_ingress() -> None:
    settings = ClusterSettings(workers=2)
    text = cluster_config.render(
        settings, mapped(settings), ports_at(8080, 443), identity="mlops-1"
    )
    content = yaml.safe_load(text)
    first, *workers = content["nodes"]
    assert first["labels"] == {"mlops-pipeline/made-by": "mlops-1", "ingress-ready": "true"}
    there = [
        (m["containerPort"], m["hostPort"], m["listenAddress"]) for m in first["extraPortMappings"]
    ]
    assert there == [(80, 8080, "127.0.0.1"), (443, 443, "127.0.0.1")]
    assert [worker["role"] for worker in workers] == ["worker", "worker"]
    assert all(w["labels"] == {"mlops-pipeline/made-by": "mlops-1"} for w in workers)
    assert content["networking"] == {"ipFamily": "ipv4"}


def test_free_ports_are_those_that_are_asked_for(taken: set[int]) -> None:
    assert cluster_config.choose_ports(
        ClusterSettings(), mapped(ClusterSettings()), before=None
    ) == ports_at(80, 443)


def test_a_taken_port_gives_way_to_the_next_free_one(taken: set[int]) -> None:
    taken |= {80, 443, 8080, 8081}
    found = cluster_config.choose_ports(ClusterSettings(), mapped(ClusterSettings()), before=None)
    assert found == ports_at(8082, 8443)


def test_both_ports_are_never_the_same(taken: set[int]) -> None:
    settings = ClusterSettings(http_port=8443, https_port=443)
    taken |= {443}
    found = cluster_config.choose_ports(settings, mapped(settings), before=None)
    assert found == ports_at(8443, 8444)


def test_the_ports_that_it_had_come_first(taken: set[int]) -> None:
    before = ports_at(8085, 8449)
    assert (
        cluster_config.choose_ports(ClusterSettings(), mapped(ClusterSettings()), before=before)
        == before
    )
    taken |= {8085}
    assert cluster_config.choose_ports(
        ClusterSettings(), mapped(ClusterSettings()), before=before
    ) == ports_at(80, 8449)


def test_no_free_port_at_all_is_refused(taken: set[int]) -> None:
    taken |= set(range(1, 65536))
    with pytest.raises(ConfigurationError, match=r"neither port 80 of 127\.0\.0\.1 nor any from"):
        cluster_config.choose_ports(ClusterSettings(), mapped(ClusterSettings()), before=None)


def test_a_port_is_taken_while_somebody_listens(listener: int) -> None:
    assert ports.is_taken(listener)
    assert ports.is_taken(listener, address="0.0.0.0")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        free = int(bound.getsockname()[1])
    assert not ports.is_taken(free)


def test_a_port_that_only_root_may_listen_on_is_asked(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert ports.is_taken(listener)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"could not listen on 192\.0\.2\.1"):
        ports.is_taken(80, address="192.0.2.1")


def test_the_same_cluster_has_no_differences() -> None:
    assert different(ClusterSettings()) == ()


def test_another_kubernetes_version_is_a_difference() -> None:
    nodes = [node(image="kindest/node:v1.33.1@sha256:00")]
    found = cluster_config.differences(
        ClusterSettings(), mapped(ClusterSettings()), nodes, image=V1, asked_before=None
    )
    assert found == ("it runs Kubernetes v1.33.1, expected v1.34.4",)


def test_a_digest_and_another_registry_are_no_difference() -> None:
    nodes = [node(image="mirror:5000/kindest/node:v1.34.4@sha256:00")]
    settings = ClusterSettings()
    assert (
        cluster_config.differences(settings, mapped(settings), nodes, image=V1, asked_before=None)
        == ()
    )


def test_images_whose_tag_is_no_version_are_compared_by_name() -> None:
    nodes = [node(image="mine:latest")]
    settings = ClusterSettings()
    kept = cluster_config.differences(
        settings, mapped(settings), nodes, image="mine:latest", asked_before=None
    )
    other = cluster_config.differences(
        settings, mapped(settings), nodes, image="other:latest", asked_before=None
    )
    assert kept == ()
    assert other == ("it runs Kubernetes mine:latest, expected other:latest",)


def test_another_number_of_workers_is_a_difference() -> None:
    assert different(ClusterSettings(workers=2)) == ("its number of workers is 0, expected 2",)


def test_another_port_or_address_is_a_difference() -> None:
    assert different(ClusterSettings(http_port=81)) == (
        "its port 80 is mapped to 127.0.0.1:80, expected 127.0.0.1:81",
    )
    assert len(different(ClusterSettings(listen_address="0.0.0.0"))) == 2


def test_a_port_that_is_not_mapped_is_a_difference() -> None:
    nodes = [node(ports={6443: 40001})]
    found = cluster_config.differences(
        ClusterSettings(), mapped(ClusterSettings()), nodes, image=V1, asked_before=None
    )
    assert found == (
        "its port 80 is not mapped to 127.0.0.1:80",
        "its port 443 is not mapped to 127.0.0.1:443",
    )


@pytest.mark.parametrize(
    ("there", "before", "fits"),
    [
        (8085, ports_at(80, 443), True),  # Taken because 80 was in use.
        (8085, ports_at(8085, 443), False),  # What was asked for then; 80 is asked for now.
        (8085, None, True),  # Nobody knows: it looks like one that was taken.
        (9999, None, False),
        (80, ports_at(9999, 443), True),
    ],
)
def test_a_port_taken_in_place_of_one_in_use_stays(
    there: int, before: HostPorts | None, *, fits: bool
) -> None:
    nodes = [node(ports={80: there, 443: 443})]
    found = cluster_config.differences(
        ClusterSettings(), mapped(ClusterSettings()), nodes, image=V1, asked_before=before
    )
    assert (found == ()) is fits


BY_PORTS = ClusterSettings(reach="ports")


def test_by_ports_the_services_have_some_of_this_machine(taken: set[int]) -> None:
    taken |= {8180}
    given = cluster_config.choose_ports(BY_PORTS, mapped(BY_PORTS), before=None)
    services = {"gateway": 8181, "gateway_https": 8543, "object_store": 8433}
    assert given == {**ports_at(80, 443), **services}
    content = yaml.safe_load(
        cluster_config.render(BY_PORTS, mapped(BY_PORTS), given, identity="mlops-1")
    )
    there = {m["containerPort"]: m["hostPort"] for m in content["nodes"][0]["extraPortMappings"]}
    assert there == {80: 80, 443: 443, 30080: 8181, 30043: 8543, 30083: 8433}


def test_a_cluster_without_those_ports_has_to_be_made_anew() -> None:
    assert different(BY_PORTS) == (
        "its port 30080 is not mapped to 127.0.0.1:8180, as kind.cluster.reach = ports needs",
        "its port 30043 is not mapped to 127.0.0.1:8543, as kind.cluster.reach = ports needs",
        "its port 30083 is not mapped to 127.0.0.1:8433, as kind.cluster.reach = ports needs",
    )
    nodes = [node(ports=MAPPED)]
    for settings in (BY_PORTS, ClusterSettings()):
        assert (
            cluster_config.differences(
                settings, mapped(settings), nodes, image=V1, asked_before=None
            )
            == ()
        )


@pytest.mark.parametrize(
    ("system", "reach", "by_ports"),
    [
        ("linux", "auto", False),
        ("darwin", "auto", True),
        ("linux", "ports", True),
        ("darwin", "addresses", False),
    ],
)
def test_only_on_linux_are_containers_in_a_network_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, system: str, reach: str, *, by_ports: bool
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    settings = ClusterSettings.model_validate({"reach": reach})
    assert cluster_config.reaches_by_ports(settings) is by_ports


def test_nodes_are_those_containers_with_a_role_the_control_plane_first() -> None:
    worker, control = node("seldon-a", role="worker"), node("seldon-b")
    balancer = node("seldon-lb", role="external-load-balancer")
    assert cluster_config.nodes_of([worker, balancer, control]) == (control, worker)


def test_the_api_servers_address_is_where_its_port_is_mapped() -> None:
    assert cluster_config.api_address(node()) == "https://127.0.0.1:40001"
    assert cluster_config.api_address(node(ports={})) == ""


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("docker.io", "mirror:5000"),
        ("../etc", "http://mirror"),
        ("docker.io", 'http://a"b'),
        ("a/b", "http://mirror"),
        ("", "http://mirror"),
    ],
)
def test_mirrors_that_containerd_cannot_follow_are_refused(registry: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"kind\.cluster\.mirrors"):
        cluster_config.check_mirrors({registry: url})


def test_a_mirror_becomes_a_hosts_file() -> None:
    cluster_config.check_mirrors({"registry.example:5000": "https://mirror.example/proxy"})
    assert cluster_config.hosts_toml("http://mirror:5000") == (
        'server = "http://mirror:5000"\n\n'
        '[host."http://mirror:5000"]\n  capabilities = ["pull", "resolve"]\n'
    )
