"""Envoy in memory."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.platforms.embedded.gateway_counts import LostRequests
from mlops_pipeline.platforms.embedded.live_routes import Kind
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, cluster_name
from mlops_pipeline.platforms.layers import Absent, Drifted, LayerState, Ready


class FakeGateway:
    """Envoy in memory: it records what it is given, and how many requests are active is given.

    `published` has what each call of `publish` was given; `on_publish` is called after it.
    `requests` are active ones by cluster, `losses` the counts of those that ended. `refusal` is why
    it refuses what it is given; `down` says that the platform is down on purpose.
    """

    def __init__(self, records: Records, *, url: str = "http://127.0.0.1:8080") -> None:
        self.published: list[tuple[Kind, tuple[Route, ...]]] = []
        self.clusters: tuple[Route, ...] = ()
        self.routes: tuple[Route, ...] = ()
        self.requests: Counter[str] = Counter()
        self.losses: dict[str, LostRequests] = {}
        self.refusal = ""
        self.down = False
        self.on_publish: Callable[[], None] = lambda: None
        self._records = records
        self._url = url

    def observe(self) -> LayerState:
        if self.down:
            return Absent()
        if set(self.routes) != set(self._records.routes()):
            return Drifted(("its routes are not those of the records",))
        return Ready({"address": self._url, "deployments": len(self._records.routes())})

    def is_running(self) -> bool:
        return not self.down

    def is_down(self) -> bool:
        return self.down

    def url(self) -> str:
        return self._url

    def publish(self, kind: Kind, deployed: Sequence[Route]) -> bool:
        if self.down:
            raise UnavailableError("Envoy does not answer")
        if self.refusal:
            raise FatalStateError(f"Envoy refuses the new {kind}: {self.refusal}")
        self.published.append((kind, tuple(deployed)))
        before = self._known(), set(self.routes)
        if kind == "clusters":
            self.clusters = tuple(deployed)
        else:
            self.routes = tuple(deployed)
        self.on_publish()
        return before != (self._known(), set(self.routes))

    def active(self, names: Collection[str]) -> int:
        return sum(self.requests[name] for name in names)

    def lost(self, names: Collection[str]) -> dict[str, LostRequests]:
        return {name: self.losses.get(name, LostRequests(0, 0)) for name in names}

    def find(self, name: str, *, namespace: str) -> Route | None:
        """Return the route of a deployment that requests take now, or None."""
        return next((r for r in self.routes if (r.namespace, r.name) == (namespace, name)), None)

    def unknown(self) -> list[str]:
        """Return the clusters that requests are routed to and that the gateway does not know."""
        used = {cluster_name(r, t, "http") for r in self.routes for t in (*r.live(), *r.shadows())}
        return sorted(used - self._known().keys())

    def _known(self) -> Mapping[str, tuple[Endpoint, ...]]:
        """Return the servers of each cluster; of two with a name, the first wins."""
        known: dict[str, tuple[Endpoint, ...]] = {}
        for route in self.clusters:
            for target in filter(lambda target: target.endpoints, route.targets):
                known.setdefault(cluster_name(route, target, "http"), target.endpoints)
        return known
