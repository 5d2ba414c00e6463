"""Where this machine reaches a Service: at the Service's own address, or by ports of this machine.

Ports are for a machine that is not in the network of the nodes. The way is then: a port of this
machine, the node port it is mapped to, the Service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DEFAULT = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ServicePort:
    """A port of a Service that this machine uses."""

    name: str
    """That of the setting of kind.cluster without `_port`, where there is one."""
    inner: int
    """The Service's own."""
    node: int
    """The same on every node.

    Below 30086 are those that Kubernetes gives to nobody who does not ask for one
    (https://kubernetes.io/blog/2023/05/11/nodeport-dynamic-and-static-allocation/).
    """
    first: int
    """The first port of this machine to try where the setting's is in use."""


def node_ports(ports: Iterable[ServicePort]) -> dict[int, int]:
    """Return port of a Service → its port on every node."""
    return {port.inner: port.node for port in ports}


@dataclass(frozen=True)
class Endpoint:
    """Where a Service is reached from here."""

    host: str
    """An address or a name."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Port of the Service → port of `host`, where they differ."""

    def port(self, inner: int) -> int:
        """Return the port of `host` that leads to the Service's port `inner`."""
        return self.ports.get(inner, inner)

    def url(self, *, scheme: str = "http", port: int | None = None) -> str:
        """Return `scheme://host[:port]`, an IPv6 address in brackets.

        `port` is one of the Service; by default the one that the scheme stands for.
        """
        default = _DEFAULT[scheme]
        outer = self.port(port or default)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}" + (f":{outer}" if outer != default else "")
