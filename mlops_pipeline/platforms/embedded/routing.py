"""Where the requests to a deployment go: its predictors, their shares and their servers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["http", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")


@dataclass(frozen=True)
class Endpoint:
    """A model server's ports on 127.0.0.1."""

    program: str
    http: int
    grpc: int


@dataclass(frozen=True)
class Target:
    """One predictor's servers, with their share of the requests."""

    predictor: str
    servers: str
    """Key of what they run: another key is another cluster."""
    traffic: int
    """Percent of the live requests; for a shadow, percent of them that it gets a copy of."""
    shadow: bool
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Route:
    """Where the requests to one SeldonDeployment go."""

    namespace: str
    name: str
    targets: tuple[Target, ...]

    def live(self) -> tuple[Target, ...]:
        """Return the targets that answer requests."""
        return tuple(t for t in self.targets if not t.shadow and t.endpoints and t.traffic > 0)

    def shadows(self) -> tuple[Target, ...]:
        """Return the targets that get copies of requests."""
        return tuple(t for t in self.targets if t.shadow and t.endpoints)


def cluster_name(route: Route, target: Target, protocol: Protocol) -> str:
    """Return the name of a target's cluster: it changes whenever what its servers run does."""
    return f"{route.namespace}/{route.name}/{target.predictor}/{target.servers}/{protocol}"


def cluster_names(routes: Iterable[Route]) -> set[str]:
    """Return the names of all clusters of these routes."""
    return {
        cluster_name(route, target, protocol)
        for route in routes
        for target in route.targets
        for protocol in PROTOCOLS
    }
