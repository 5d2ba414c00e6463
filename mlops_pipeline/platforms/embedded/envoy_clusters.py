"""Envoy's clusters: the servers of each predictor, one cluster for each protocol.

If several predictors are live, each has a composite cluster beside its own. Requests are split over
the composite clusters. Envoy selects the servers of the first attempt from the first cluster in the
list of a composite cluster, those of the first retry from the second, and so on. So a request that
one predictor loses is answered by another.

Fields: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
Composite clusters:
https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/composite_cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mlops_pipeline.platforms.embedded.envoy_discovery import TYPE, address, discovery
from mlops_pipeline.platforms.embedded.routing import (
    PROTOCOLS,
    Protocol,
    Route,
    Target,
    chosen_name,
    cluster_name,
)

MOST_RETRIES = 1024
"""How many requests of one cluster may be in a retry at the same time."""


def clusters(deployed: Sequence[Route]) -> str:
    """Return the cluster discovery file. A cluster that occurs twice is taken once, first wins."""
    found: dict[str, dict[str, Any]] = {}
    for route in deployed:
        for protocol in PROTOCOLS:
            for cluster in (*_clusters(route, protocol), *_composites(route, protocol)):
                found.setdefault(cluster["name"], cluster)
    return discovery([found[name] for name in sorted(found)])


def _clusters(route: Route, protocol: Protocol) -> Iterator[dict[str, Any]]:
    for target in route.targets:
        if target.endpoints:
            yield _cluster(cluster_name(route, target, protocol), target, protocol)


def _composites(route: Route, protocol: Protocol) -> Iterator[dict[str, Any]]:
    live = route.live()
    for target in live if len(live) > 1 else ():
        names = [cluster_name(route, t, protocol) for t in route.attempts(target)]
        # Never an attempt of its own. But Envoy goes on to it where a cluster before was removed.
        yield _composite(chosen_name(names[0]), [*names, names[0]])


def _composite(name: str, attempts: Sequence[str]) -> dict[str, Any]:
    kind = "envoy.extensions.clusters.composite.v3.ClusterConfig"
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.composite",
            "typed_config": {
                "@type": f"{TYPE}{kind}",
                "clusters": [{"name": attempt} for attempt in attempts],
            },
        },
        # It counts the requests that are in a retry.
        "circuit_breakers": {
            "thresholds": [{"max_retries": MOST_RETRIES, "track_remaining": True}]
        },
    }


def _cluster(name: str, target: Target, protocol: Protocol) -> dict[str, Any]:
    hosts = [_host(e.http if protocol == "http" else e.grpc, e.http) for e in target.endpoints]
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        # Not LEAST_REQUEST: a dead server fails at once, so it always has the fewest requests.
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        "health_checks": [_health_check()],
        # All unhealthy: try them all the same, they may be back before the next check sees it.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 4096, "max_pending_requests": 4096}
                | {"max_requests": 8192, "max_retries": MOST_RETRIES}
            ]
        },
        "typed_extension_protocol_options": _upstream_protocol(protocol),
    }


def _host(port: int, health_port: int) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"address": address(port)}
    if health_port != port:
        endpoint["health_check_config"] = {"port_value": health_port}
    return {"endpoint": endpoint}


def _health_check() -> dict[str, Any]:
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/v2/health/ready", "codec_client_type": "HTTP1"},
    }


def _upstream_protocol(protocol: Protocol) -> dict[str, Any]:
    options = "http_protocol_options" if protocol == "http" else "http2_protocol_options"
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {options: {}},
            # Shorter than the 5 s after which uvicorn closes an idle connection.
            "common_http_protocol_options": {"idle_timeout": "4s"},
        }
    }
