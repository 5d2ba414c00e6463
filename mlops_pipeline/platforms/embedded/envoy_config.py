"""Envoy's configuration as a pure function of what is deployed.

Fields: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api. Routes follow what Seldon's
operator gives Istio (createIstioResources in seldondeployment_controller.go of 1.17.1).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.ports import LOOPBACK
from mlops_pipeline.platforms.embedded.routing import (
    PROTOCOLS,
    Protocol,
    Route,
    Target,
    cluster_name,
)

INSTANCE_HEADER = "x-mlops-gateway"
"""On the answer of `PROBE_PATH`: which installation's gateway answered."""
PROBE_PATH = "/healthz/ready"
ROUTES = "seldon"
_TYPE = "type.googleapis.com/"
_GRPC_PATHS = ".*tensorflow.*|.*seldon.protos.*|.*inference.*"
_TIMEOUT = "60s"
_MEGABYTE = 1 << 20


def routes(deployed: Sequence[Route], *, instance: str) -> str:
    """Return the route discovery file."""
    paths = [_probe_route(instance)]
    for route in sorted(deployed, key=lambda r: (r.namespace, r.name)):
        paths += [_http_route(route), _grpc_route(route)]
    paths.append(_unknown_route())
    table = {
        "@type": f"{_TYPE}envoy.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "validate_clusters": False,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": paths}],
    }
    return _discovery([table])


def clusters(deployed: Sequence[Route]) -> str:
    """Return the cluster discovery file. A cluster that occurs twice is taken once, first wins."""
    found: dict[str, dict[str, Any]] = {}
    for route in deployed:
        for target in route.targets:
            for protocol in PROTOCOLS:
                cluster = _cluster(cluster_name(route, target, protocol), target, protocol)
                if target.endpoints:
                    found.setdefault(cluster["name"], cluster)
    return _discovery([found[name] for name in sorted(found)])


def version_of(discovery: str) -> str:
    """Return the version of a discovery file, as Envoy reports it once it is active."""
    return str(json.loads(discovery)["version_info"])


def bootstrap(*, port: int, admin: Path, live: Path) -> str:
    """Return Envoy's own configuration: one listener, routes and clusters from files in `live`."""
    configuration = {
        "node": {"id": "embedded", "cluster": "mlops-pipeline"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _from_file(live, "clusters.json")},
        "static_resources": {"listeners": [_listener(port, live)]},
        "layered_runtime": {
            "layers": [
                {
                    "name": "limits",
                    "static_layer": {"overload.global_downstream_max_connections": 10_000},
                }
            ]
        },
    }
    return json.dumps(configuration, indent=1)


def _discovery(resources: list[dict[str, Any]]) -> str:
    text = json.dumps(resources, sort_keys=True)
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    return json.dumps({"version_info": version, "resources": resources}, indent=1)


def _from_file(live: Path, name: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(live / name),
            "watched_directory": {"path": str(live)},
        },
    }


def _listener(port: int, live: Path) -> dict[str, Any]:
    return {
        "name": "gateway",
        "address": _address(port),
        "per_connection_buffer_limit_bytes": _MEGABYTE,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(live),
                    }
                ]
            }
        ],
    }


def _connection_manager(live: Path) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": _from_file(live, "routes.json"),
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "server_name": "mlops-pipeline",
        "use_remote_address": True,
        "generate_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": 60,
        "request_headers_timeout": "10s",
        "request_timeout": _TIMEOUT,
        "stream_idle_timeout": _TIMEOUT,
        "common_http_protocol_options": {"idle_timeout": "300s", "max_headers_count": 100},
        "local_reply_config": {"body_format": _failure_format()},
    }


def _failure_format() -> dict[str, Any]:
    """Return the body of what Envoy answers itself: Seldon's status object."""
    status = {
        "code": "%RESPONSE_CODE%",
        "info": "%LOCAL_REPLY_BODY%",
        "reason": "%RESPONSE_CODE_DETAILS%",
        "status": "FAILURE",
    }
    return {"json_format": {"status": status}, "content_type": "application/json"}


def _probe_route(instance: str) -> dict[str, Any]:
    return {
        "match": {"path": PROBE_PATH},
        "direct_response": {"status": 200, "body": {"inline_string": "the gateway is ready"}},
        "response_headers_to_add": [{"header": {"key": INSTANCE_HEADER, "value": instance}}],
    }


def _unknown_route() -> dict[str, Any]:
    sentence = (
        "no deployment has this path; paths are /seldon/<namespace>/<name>/..., "
        "and gRPC calls carry the metadata seldon and namespace"
    )
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": sentence}},
    }


def _http_route(route: Route) -> dict[str, Any]:
    match = {"prefix": f"/seldon/{route.namespace}/{route.name}/"}
    return {"match": match, **_destination(route, "http")}


def _grpc_route(route: Route) -> dict[str, Any]:
    match = {
        "safe_regex": {"regex": _GRPC_PATHS},
        "headers": [
            {"name": name, "string_match": {"exact": value}}
            for name, value in (("seldon", route.name), ("namespace", route.namespace))
        ],
    }
    return {"match": match, **_destination(route, "grpc")}


def _destination(route: Route, protocol: Protocol) -> dict[str, Any]:
    if not route.live():
        sentence = (
            f"the deployment {route.name} in {route.namespace} has no replicas; "
            "scale it up to have answers"
        )
        return {"direct_response": {"status": 503, "body": {"inline_string": sentence}}}
    action = {
        **_shares(route, protocol),
        "timeout": _TIMEOUT,
        "retry_policy": _retries(),
        "request_mirror_policies": [_mirror(route, t, protocol) for t in route.shadows()],
    }
    if protocol == "http":
        action["prefix_rewrite"] = "/"
    return {"route": action}


def _shares(route: Route, protocol: Protocol) -> dict[str, Any]:
    live = route.live()
    if len(live) == 1:
        return {"cluster": cluster_name(route, live[0], protocol)}
    weighted = [{"name": cluster_name(route, t, protocol), "weight": t.traffic} for t in live]
    return {"weighted_clusters": {"clusters": weighted}}


def _mirror(route: Route, shadow: Target, protocol: Protocol) -> dict[str, Any]:
    percent = {"numerator": shadow.traffic or 100, "denominator": "HUNDRED"}
    return {
        "cluster": cluster_name(route, shadow, protocol),
        "runtime_fraction": {"default_value": percent},
    }


def _retries() -> dict[str, Any]:
    """Return the retry policy: predictions change nothing, so any broken attempt is repeated."""
    return {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 2,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.retry.host.previous_hosts.v3"
                    ".PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 32,
    }


def _cluster(name: str, target: Target, protocol: Protocol) -> dict[str, Any]:
    hosts = [_host(e.http if protocol == "http" else e.grpc, e.http) for e in target.endpoints]
    return {
        "@type": f"{_TYPE}envoy.config.cluster.v3.Cluster",
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
    endpoint: dict[str, Any] = {"address": _address(port)}
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
            "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {options: {}},
            # Shorter than the 5 s after which uvicorn closes an idle connection.
            "common_http_protocol_options": {"idle_timeout": "4s"},
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
