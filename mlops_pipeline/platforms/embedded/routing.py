"""Where the requests to a deployment go: its predictors, their shares and their servers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlops_pipeline.platforms.sticky import Sticky

Protocol = Literal["http", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
ATTEMPTS = 3
"""How often the gateway tries a request: once, and at most two retries."""


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
    sticky: Sticky | None = None
    """What decides which of several predictors answers; None: chance."""

    def live(self) -> tuple[Target, ...]:
        """Return the targets that answer requests."""
        return tuple(t for t in self.targets if not t.shadow and t.endpoints and t.traffic > 0)

    def attempts(self, target: Target) -> tuple[Target, ...]:
        """Return who is asked when the split has chosen `target`: first it, then the others.

        The other live targets follow by their shares, and the one with the largest share is asked
        again at the end, until there are `ATTEMPTS`. If only one target is live, it is all of them.
        """
        largest_first = sorted(self.live(), key=lambda live: -live.traffic)
        others = [other for other in largest_first if other != target]
        return (target, *others, *largest_first[:1] * ATTEMPTS)[:ATTEMPTS]

    def shadows(self) -> tuple[Target, ...]:
        """Return the targets that get copies of requests."""
        return tuple(t for t in self.targets if t.shadow and t.endpoints)


def cluster_name(route: Route, target: Target, protocol: Protocol) -> str:
    """Return the name of a target's cluster: it changes whenever what its servers run does."""
    return f"{route.namespace}/{route.name}/{target.predictor}/{target.servers}/{protocol}"


def chosen_name(cluster: str) -> str:
    """Return the name of the cluster that a split over several predictors leads to.

    It has no servers of its own: its first attempt goes to `cluster`, the next ones elsewhere.
    """
    return f"{cluster}/chosen"


def cluster_names(routes: Iterable[Route]) -> set[str]:
    """Return the names of all clusters of these routes."""
    return {
        cluster_name(route, target, protocol)
        for route in routes
        for target in route.targets
        for protocol in PROTOCOLS
    }
