"""Servers of a deployment, asked one by one: what they have counted, and for predictions."""

import logging
from collections.abc import Mapping

from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.counting import in_parallel, process_id, server_counts
from mlops_pipeline.platforms.embedded.interfaces import Gateway
from mlops_pipeline.platforms.embedded.routing import PROTOCOLS, Endpoint, Route, cluster_name
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts

_log = logging.getLogger(__name__)


def counts(
    route: Route, servers: Servers, *, lost: Mapping[str, int]
) -> tuple[PredictorCounts, ...]:
    """Ask all servers at the same time. `lost` is predictor → requests that the gateway lost.

    Raises:
        UnavailableError: the metrics of a server are damaged or too large.
    """
    endpoints = [endpoint for target in route.targets for endpoint in target.endpoints]
    pages = in_parallel(servers.metrics, endpoints)
    found = {e: _counts(servers, e, page) for e, page in zip(endpoints, pages, strict=True)}
    return tuple(
        PredictorCounts(
            target.predictor,
            tuple(counts for e in target.endpoints if (counts := found[e]) is not None),
            lost.get(target.predictor),
        )
        for target in route.targets
    )


def lost(route: Route, gateway: Gateway) -> Mapping[str, int]:
    """Return predictor → requests that the gateway lost; empty if it does not tell."""
    clusters = {
        t.predictor: [cluster_name(route, t, protocol) for protocol in PROTOCOLS]
        for t in route.targets
    }
    try:
        found = gateway.lost([name for names in clusters.values() for name in names])
    except UnavailableError as error:
        _log.warning("could not count the requests that the gateway lost: %s", error)
        return {}
    return {
        predictor: sum(found[name].lost for name in names) for predictor, names in clusters.items()
    }


def _counts(servers: Servers, endpoint: Endpoint, page: str | None) -> ServerCounts | None:
    """Read the page that was found at an endpoint; None if it is not the server's."""
    if page is None or (found := server_counts(page, server=endpoint.program)) is None:
        return None
    pid = process_id(page, server=endpoint.program)
    return found if servers.is_own(endpoint, pid) else None


def ready(route: Route, servers: Servers) -> Mapping[str, tuple[Predictions, ...]]:
    """Return predictor → clients of its ready servers."""
    return {
        target.predictor: tuple(
            servers.predictions(e) for e in target.endpoints if _is_ready(servers, e)
        )
        for target in route.targets
    }


def _is_ready(servers: Servers, endpoint: Endpoint) -> bool:
    try:
        return servers.describe_unready(endpoint) is None
    except FatalStateError:  # Another program answers on its port.
        return False
