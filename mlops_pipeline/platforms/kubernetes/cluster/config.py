"""The configuration of the kind cluster, and how an existing cluster differs from it.

Format: https://kind.sigs.k8s.io/docs/user/configuration/
"""

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.containers import ContainerInfo, PortMapping
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort
from mlops_pipeline.settings.kind import ClusterSettings

CLUSTER_LABEL = "io.x-k8s.kind.cluster"
"""On the container of each node: the name of its cluster."""
ROLE_LABEL = "io.x-k8s.kind.role"
MADE_BY_LABEL = "mlops-pipeline/made-by"
"""On each node, from its creation: the identity of the state folder."""
INGRESS_LABEL = "ingress-ready"
"""On the node whose ports are mapped."""
HTTP, HTTPS = 80, 443
"""Ports of the control plane at which an Ingress answers."""
_API_SERVER = 6443
_TRIES = 200
_ROLES = ("control-plane", "worker")
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
_MIRROR = re.compile(r"https?://[^\s\"\\]+")


HostPorts = Mapping[str, int]
"""Name of a mapped port → the port of this machine that leads to it."""


@dataclass(frozen=True)
class MappedPort:
    """A port of the control plane to which a port of this machine leads."""

    name: str
    """The name of the setting in kind.cluster, without `_port`."""
    inner: int
    first: int
    """The first port to try if the requested one is in use."""
    of_service: bool = False
    """Whether it leads to a Service, not to an Ingress."""

    def asked(self, settings: ClusterSettings) -> int:
        """Return the requested port of this machine: the setting's, else the first."""
        return int(getattr(settings, f"{self.name}_port", self.first))


_INGRESS = (MappedPort("http", HTTP, 8080), MappedPort("https", HTTPS, 8443))


def mapped_ports(
    settings: ClusterSettings, services: Iterable[ServicePort] = ()
) -> tuple[MappedPort, ...]:
    """Return the ports to map; those of Services only if their addresses are not used."""
    if not reaches_by_ports(settings):
        return _INGRESS
    return (
        *_INGRESS,
        *(MappedPort(p.name, p.node, p.first, of_service=True) for p in services),
    )


def reaches_by_ports(settings: ClusterSettings) -> bool:
    """Say whether Services are reached by ports of this machine, not by their own addresses.

    Containers share a network with this machine only on Linux; elsewhere they are in a virtual
    machine.
    """
    if settings.reach == "auto":
        return sys.platform != "linux"
    return settings.reach == "ports"


def render(
    settings: ClusterSettings,
    mapped: Sequence[MappedPort],
    given: HostPorts,
    *,
    identity: str,
) -> str:
    """Return kind's configuration as YAML."""
    ours = {MADE_BY_LABEL: identity}
    control_plane = {
        "role": "control-plane",
        # Labels of the node, not arguments of the kubelet: kubeadm's v1beta4 changed those.
        "labels": {**ours, INGRESS_LABEL: "true"},
        "extraPortMappings": [
            {
                "containerPort": port.inner,
                "hostPort": given[port.name],
                "listenAddress": str(settings.listen_address),
                "protocol": "TCP",
            }
            for port in mapped
        ],
    }
    workers = [{"role": "worker", "labels": ours} for _ in range(settings.workers)]
    configuration: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"ipFamily": "ipv4"},
        "nodes": [control_plane, *workers],
    }
    return yaml.safe_dump(configuration, sort_keys=False)


def nodes_of(containers: Sequence[ContainerInfo]) -> tuple[ContainerInfo, ...]:
    """Return the containers that are nodes, the control plane first."""
    nodes = [c for c in containers if c.labels.get(ROLE_LABEL) in _ROLES]
    return tuple(sorted(nodes, key=lambda c: (_ROLES.index(c.labels[ROLE_LABEL]), c.name)))


def host_port(node: ContainerInfo, inner: int) -> int | None:
    """Return the port of this machine that leads to the node's port `inner`, or None."""
    return mapped.host_port if (mapped := _mapping(node, inner)) is not None else None


def way_to(node: ContainerInfo, inner: int) -> tuple[str, int] | None:
    """Return the address and the port of this machine that lead to the node's port `inner`."""
    if (mapped := _mapping(node, inner)) is None:
        return None
    everywhere = mapped.host_address in ("", "0.0.0.0")
    return ("127.0.0.1" if everywhere else mapped.host_address, mapped.host_port)


def _mapping(node: ContainerInfo, inner: int) -> PortMapping | None:
    return next((p for p in node.ports if p.container_port == inner), None)


def api_address(node: ContainerInfo) -> str:
    """Return the URL of the API server in the control plane; empty if it has none."""
    mapped = _mapping(node, _API_SERVER)
    return f"https://{mapped.host_address}:{mapped.host_port}" if mapped is not None else ""


def kubernetes_version(reference: str) -> str:
    """Return the version in an image's tag (`v1.34.4`); empty if the tag has none."""
    found = re.search(r":(v\d+\.\d+\.\d+)(@|$)", reference)
    return found.group(1) if found else ""


def asked_ports(settings: ClusterSettings, mapped: Sequence[MappedPort]) -> HostPorts:
    """Return the requested ports of this machine; they may be in use."""
    return {port.name: port.asked(settings) for port in mapped}


def choose_ports(
    settings: ClusterSettings, mapped: Sequence[MappedPort], *, before: HostPorts | None
) -> HostPorts:
    """Return free ports of this machine: those of `before`, else the requested, else the next.

    Raises:
        ConfigurationError: none is free, or the listen address is not this machine's.
    """
    address, had, given = str(settings.listen_address), before or {}, dict[str, int]()
    for port in mapped:
        preferred = [had.get(port.name, 0), port.asked(settings)]
        given[port.name] = _choose(
            port, [p for p in preferred if p], address, besides=given.values()
        )
    return given


def _choose(
    port: MappedPort, preferred: Sequence[int], address: str, *, besides: Collection[int]
) -> int:
    last = port.first + _TRIES - 1
    candidates: list[int] = [*preferred, *range(port.first, last + 1)]
    for candidate in candidates:
        if candidate not in besides and not ports.is_taken(candidate, address=address):
            return candidate
    raise ConfigurationError(
        f"neither port {preferred[-1]} of {address} nor any from {port.first} to {last} is free "
        f"for port {port.inner} of the cluster; end the programs that use them or set another "
        f"kind.cluster.{port.name}_port"
    )


def differences(
    settings: ClusterSettings,
    mapped: Sequence[MappedPort],
    nodes: Sequence[ContainerInfo],
    *,
    image: str,
    asked_before: HostPorts | None,
) -> tuple[str, ...]:
    """Name the differences that only another cluster can remove.

    `image` is the requested node image. `asked_before` has the ports that were requested at its
    creation, when others were chosen if those were in use. None: not known.
    """
    before = asked_before or {}
    others = (
        difference
        for port in mapped
        for difference in _other_port(settings, nodes[0], port, before.get(port.name, 0))
    )
    return (*_other_version(nodes[0], image), *_other_size(settings, nodes), *others)


def _other_version(node: ContainerInfo, image: str) -> Iterator[str]:
    wanted, there = kubernetes_version(image), kubernetes_version(node.image)
    if (wanted or image) != (there or node.image):
        yield f"it runs Kubernetes {there or node.image}, expected {wanted or image}"


def _other_size(settings: ClusterSettings, nodes: Sequence[ContainerInfo]) -> Iterator[str]:
    if (workers := len(nodes) - 1) != settings.workers:
        yield f"its number of workers is {workers}, expected {settings.workers}"


def _other_port(
    settings: ClusterSettings, node: ContainerInfo, port: MappedPort, asked_before: int
) -> Iterator[str]:
    mapping = _mapping(node, port.inner)
    address, asked = str(settings.listen_address), port.asked(settings)
    if mapping is None:
        needs = ", as kind.cluster.reach = ports needs" if port.of_service else ""
        yield f"its port {port.inner} is not mapped to {address}:{asked}{needs}"
    elif mapping.host_address != address or not _is_as_asked(
        mapping.host_port, port, asked, asked_before
    ):
        yield (
            f"its port {port.inner} is mapped to {mapping.host_address}:{mapping.host_port}, "
            f"expected {address}:{asked}"
        )


def _is_as_asked(there: int, port: MappedPort, asked: int, asked_before: int) -> bool:
    """Keep a port that was chosen because the requested one was in use."""
    if there == asked or asked_before:
        return asked in (there, asked_before)
    return port.first <= there < port.first + _TRIES


def check_mirrors(mirrors: Mapping[str, str]) -> None:
    """Refuse mirrors that containerd cannot use.

    Raises:
        ConfigurationError: names the entry and says what is allowed.
    """
    for registry, url in mirrors.items():
        if not _REGISTRY.fullmatch(registry) or not _MIRROR.fullmatch(url):
            raise ConfigurationError(
                "kind.cluster.mirrors: expected a registry (`docker.io`, `registry.example:5000`) "
                f"with the URL of its mirror (`http://mirror:5000`), got {registry!r} = {url!r}; "
                "nothing was changed"
            )


def hosts_toml(url: str) -> str:
    """Return containerd's `hosts.toml` of a registry whose images come from `url` instead.

    Format: https://github.com/containerd/containerd/blob/main/docs/hosts.md
    """
    shown = json.dumps(url)
    return f'server = {shown}\n\n[host.{shown}]\n  capabilities = ["pull", "resolve"]\n'
