"""Envoy's configuration as a pure function of what is deployed.

Fields: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api. Routes follow what Seldon's
operator gives Istio (createIstioResources in seldondeployment_controller.go of 1.17.1).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_pipeline.platforms.embedded.envoy_discovery import TYPE, address, discovery
from mlops_pipeline.platforms.embedded.routing import Protocol, Route, Target, cluster_name

INSTANCE_HEADER = "x-mlops-gateway"
"""On the answer of `PROBE_PATH`: which installation's gateway answered."""
PROBE_PATH = "/healthz/ready"
ROUTES = "seldon"
_GRPC_PATHS = ".*tensorflow.*|.*seldon.protos.*|.*inference.*"
_GRPC = "application/grpc"
_NOT_FOUND = "5"
"""gRPC's status code for what does not exist."""
_TIMEOUT = "60s"
_MEGABYTE = 1 << 20


def routes(deployed: Sequence[Route], *, instance: str) -> str:
    """Return the route discovery file."""
    paths = [_probe_route(instance)]
    for route in sorted(deployed, key=lambda r: (r.namespace, r.name)):
        paths += [_http_route(route), _grpc_route(route)]
    paths += _unknown_routes()
    table = {
        "@type": f"{TYPE}envoy.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "validate_clusters": False,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": paths}],
    }
    return discovery([table])


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
        "address": address(port),
        # Else two gateways that start at once would share a port, and each other's requests.
        "enable_reuse_port": False,
        "connection_balance_config": {"exact_balance": {}},
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
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3"
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
                    "@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router",
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
        # ApacheBench and old clients speak it; their Host is nothing that a route asks for.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "gateway"},
        "local_reply_config": {"mappers": [_refused_codings(), _failures()]},
    }


def _refused_codings() -> dict[str, Any]:
    """Call a transfer coding that Envoy does not know a bad request: its parser would say 501."""
    return {"filter": _status("EQ", 501), "status_code": 400, **_seldon_status()}


def _failures() -> dict[str, Any]:
    """Give Seldon's status object to failures that Envoy answers itself, but not to gRPC calls.

    Those get the sentence alone, as their status's message.
    """
    not_grpc = {
        "header_filter": {
            "header": {
                "name": "content-type",
                "string_match": {"prefix": _GRPC},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            }
        }
    }
    return {"filter": {"and_filter": {"filters": [_status("GE", 400), not_grpc]}}} | (
        _seldon_status()
    )


def _status(comparison: str, status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": f"seldon.local_reply_{status}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _seldon_status() -> dict[str, Any]:
    status = {
        "code": "%RESPONSE_CODE%",
        "info": "%LOCAL_REPLY_BODY%",
        "reason": "%RESPONSE_CODE_DETAILS%",
        "status": "FAILURE",
    }
    return {
        "body_format_override": {
            "json_format": {"status": status},
            "content_type": "application/json",
        }
    }


def _probe_route(instance: str) -> dict[str, Any]:
    return {
        "match": {"path": PROBE_PATH},
        "direct_response": {"status": 200, "body": {"inline_string": "the gateway is ready"}},
        "response_headers_to_add": [{"header": {"key": INSTANCE_HEADER, "value": instance}}],
    }


def _unknown_routes() -> list[dict[str, Any]]:
    sentence = (
        "no deployment has this path; paths are /seldon/<namespace>/<name>/..., "
        "and gRPC calls require the metadata seldon and namespace"
    )
    answer = {"direct_response": {"status": 404, "body": {"inline_string": sentence}}}
    # Envoy makes UNIMPLEMENTED of 404; but it is the deployment that is missing, not the method.
    not_found = {
        "header": {"key": "grpc-status", "value": _NOT_FOUND},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    grpc = {"match": {"prefix": "/", "grpc": {}}, "response_headers_to_add": [not_found], **answer}
    return [grpc, {"match": {"prefix": "/"}, **answer}]


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
        sentence = f"the deployment {route.name} in {route.namespace} has no replicas; scale it up"
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
                    "@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3"
                    ".PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 32,
    }
