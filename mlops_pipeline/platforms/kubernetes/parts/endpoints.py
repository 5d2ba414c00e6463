"""Where this machine reaches a Service: at its address, or at ports of this machine.

Ports are for a machine outside of the nodes' network. They lead from a port of this machine to the
node port that it is mapped to, and from there to the Service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DEFAULT = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ServicePort:
    """A port of a Service that this machine uses."""

    name: str
    """The name of the setting of kind.cluster without `_port`, if there is one."""
    inner: int
    """The Service's port."""
    node: int
    """The port on every node.

    Below 30086, Kubernetes assigns a port only on request
    (https://kubernetes.io/blog/2023/05/11/nodeport-dynamic-and-static-allocation/)."""
    first: int
    """The first port of this machine to try if the setting's port is in use."""


def node_ports(ports: Iterable[ServicePort]) -> dict[int, int]:
    """Return port of a Service → its port on every node."""
    return {port.inner: port.node for port in ports}


@dataclass(frozen=True)
class Endpoint:
    """Where this machine reaches a Service."""

    host: str
    """An address or a name."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Port of the Service → port of `host`, if they differ."""

    def port(self, inner: int) -> int:
        """Return the port of `host` that leads to the Service's port `inner`."""
        return self.ports.get(inner, inner)

    def url(self, *, scheme: str = "http", port: int | None = None) -> str:
        """Return `scheme://host[:port]`, with an IPv6 address in brackets.

        `port` is a port of the Service; the default is the scheme's.
        """
        default = _DEFAULT[scheme]
        outer = self.port(port or default)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}" + (f":{outer}" if outer != default else "")
