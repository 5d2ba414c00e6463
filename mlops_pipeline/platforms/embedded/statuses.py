"""What the predictors of a deployment really are now, asked of their servers."""

from typing import Literal

from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, Target
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.embedded.supervisor import UNSUPERVISED
from mlops_pipeline.platforms.platform import PredictorStatus


def statuses(route: Route, servers: Servers, *, down: bool) -> tuple[PredictorStatus, ...]:
    """Look at each predictor; `down` says that the platform is, on purpose."""
    live = route.live()
    total = sum(target.traffic for target in live)
    return tuple(
        _status(
            target,
            servers,
            traffic=round(100 * target.traffic / total) if target in live else 0,
            down=down,
        )
        for target in route.targets
    )


def _status(target: Target, servers: Servers, *, traffic: int, down: bool) -> PredictorStatus:
    reasons = {e: _describe_unready(servers, e) for e in target.endpoints}
    ready = [endpoint for endpoint, reason in reasons.items() if reason is None]
    why = [f"{e.program}: {reason}" for e, reason in reasons.items() if reason is not None]
    unsupervised = any(map(servers.is_unsupervised, ready))
    if unsupervised:
        why.append(UNSUPERVISED)
    return PredictorStatus(
        name=target.predictor,
        digest=servers.digest(ready[0]) if ready else "",
        traffic=traffic,
        replicas=len(ready),
        state=(
            "stopped"
            if down
            else _state(target, servers, ready=len(ready), unsupervised=unsupervised)
        ),
        reason="; ".join(why) if target.endpoints else "it has no replicas",
    )


def _describe_unready(servers: Servers, endpoint: Endpoint) -> str | None:
    """Say why a server is not ready; None if it is. It may end while it is asked."""
    try:
        return servers.describe_unready(endpoint)
    except FatalStateError as error:
        return str(error)


def _state(
    target: Target, servers: Servers, *, ready: int, unsupervised: bool
) -> Literal["ready", "starting", "failed", "stopped", "unsupervised"]:
    if not target.endpoints:
        return "stopped"
    if ready == len(target.endpoints):
        return "unsupervised" if unsupervised else "ready"
    alive = [endpoint for endpoint in target.endpoints if servers.is_running(endpoint)]
    return "starting" if len(alive) == len(target.endpoints) else "failed"
