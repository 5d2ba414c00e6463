"""The manifests on the way from what a cluster serves to what is wanted, without a lost request.

Seldon's operator writes the route to a new predictor before its DestinationRule, and deletes the
Service of an old predictor together with the route: for a moment the gateway has no destination for
a share of the requests. So new predictors are added without traffic first, and old ones are removed
last, when the gateway sends them nothing any more.

The route says which predictors serve; the manifest does not: after an apply was killed, the
predictors of its manifest are still starting, or not proved.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mlops_pipeline.platforms.kubernetes.deployments.rollout import HIDDEN_GATEWAY
from mlops_pipeline.platforms.kubernetes.deployments.written import GATEWAY_ANNOTATION
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment, between


@dataclass(frozen=True)
class Served:
    """What a cluster serves of a deployment."""

    there: SeldonDeployment
    """What its manifest asks for, each predictor by the name that it has in the cluster."""
    routed: Mapping[str, int] = field(default_factory=dict)
    """Predictor → percent of the requests. The manifest may not have it any more."""
    ready: frozenset[str] = frozenset()
    """The predictors of the manifest whose servers are all ready."""

    @property
    def exposed(self) -> dict[str, int]:
        """The predictors that get requests."""
        return {name: share for name, share in self.routed.items() if share}


@dataclass(frozen=True)
class Stage:
    """One manifest on the way, and what must be true before the next one is applied."""

    deployment: SeldonDeployment
    waits_for_route: bool = True
    """Whether the route must follow it."""
    moves: bool = False
    """Whether predictors get traffic that had none."""


def unproved(
    served: Served, placed: SeldonDeployment, *, known: Collection[str] = ()
) -> tuple[Predictor, ...]:
    """Return the wanted predictors that get no requests yet, and that are not `known`.

    Those were applied before: a version is proved once, also if it gets no traffic, and its further
    servers are not asked alone.
    """
    proved = {*served.exposed, *known}
    return tuple(p for p in placed.spec.predictors if p.name not in proved)


def plan(
    served: Served,
    wanted: SeldonDeployment,
    placed: SeldonDeployment,
    *,
    unproved: Sequence[Predictor],
) -> list[Stage]:
    """Return the stages, the wanted deployment last.

    `placed` is `wanted` with the names that its predictors have in the cluster. Predictors that are
    `unproved` get no traffic in the first stage: where no predictor gets requests yet, it binds the
    route to a Gateway that does not exist.
    """
    if not unproved:
        return _in_place(served, wanted, placed)
    if not served.exposed:
        hidden = wanted.annotated({GATEWAY_ANNOTATION: HIDDEN_GATEWAY})
        return [Stage(hidden, waits_for_route=False), Stage(wanted, moves=True)]
    return _beside(served, wanted, placed, {p.name for p in unproved})


def _in_place(served: Served, wanted: SeldonDeployment, placed: SeldonDeployment) -> list[Stage]:
    """Return the stages where nothing is proved alone. If nothing serves, one is enough."""
    shares = {name: served.routed.get(name, 0) for name in served.ready}
    way = between(served.there, placed, shares) if sum(shares.values()) == 100 else ()
    last = placed.traffic()
    return [*(Stage(d, moves=_routes_as(d, last)) for d in way), Stage(wanted)]


def _beside(
    served: Served, wanted: SeldonDeployment, placed: SeldonDeployment, new: set[str]
) -> list[Stage]:
    """Return the stages that add new predictors beside what gets the requests.

    The operator writes no route while a predictor is not ready. So if one that gets requests is not
    ready, the first stage keeps the route as it is, and the last one replaces all at once.
    """
    last = Stage(wanted, moves=_gives_traffic(placed, new))
    if served.exposed.keys() <= served.ready:
        way = between(served.there, placed, served.exposed)
        return [*(Stage(d, moves=_gives_traffic(d, new)) for d in way), last]
    asked = {name: share for name, share in served.there.traffic().items() if share}
    way = between(served.there, placed, asked)
    first = [deployment for deployment in way if not _gives_traffic(deployment, new)]
    return [*(Stage(deployment, waits_for_route=False) for deployment in first), last]


def _routes_as(deployment: SeldonDeployment, shares: Mapping[str, int]) -> bool:
    """Say whether requests go where they go in the end: what else stands gets none."""
    return all(share == shares.get(name, 0) for name, share in deployment.traffic().items())


def _gives_traffic(deployment: SeldonDeployment, names: set[str]) -> bool:
    return any(share and name in names for name, share in deployment.traffic().items())
