"""Envoy's clusters: the servers of each predictor, one cluster for each protocol.

Fields: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from collections.abc import Sequence
from typing import Any

from mlops_pipeline.platforms.embedded.envoy_discovery import TYPE, address, discovery
from mlops_pipeline.platforms.embedded.routing import (
    PROTOCOLS,
    Protocol,
    Route,
    Target,
    cluster_name,
)


def clusters(deployed: Sequence[Route]) -> str:
    """Return the cluster discovery file. A cluster that occurs twice is taken once, first wins."""
    found: dict[str, dict[str, Any]] = {}
    for route in deployed:
        for target in route.targets:
            for protocol in PROTOCOLS:
                cluster = _cluster(cluster_name(route, target, protocol), target, protocol)
                if target.endpoints:
                    found.setdefault(cluster["name"], cluster)
    return discovery([found[name] for name in sorted(found)])


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
                | {"max_requests": 8192, "max_retries": 1024}
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
