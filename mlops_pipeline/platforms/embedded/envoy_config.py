"""Envoy's configuration as a pure function of what is deployed.

Fields: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api. Routes follow what Seldon's
operator gives Istio (createIstioResources in seldondeployment_controller.go of 1.17.1).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_pipeline.platforms.embedded.envoy_discovery import TYPE, address, discovery
from mlops_pipeline.platforms.embedded.routing import (
    ATTEMPTS,
    Protocol,
    Route,
    Target,
    chosen_name,
    cluster_name,
)

INSTANCE_HEADER = "x-mlops-gateway"
"""On the answer of `PROBE_PATH`: which installation's gateway answered."""
PROBE_PATH = "/healthz/ready"
RANDOM_HEADER = "x-mlops-random"
"""On each request that Envoy routes: a random name, whatever the client sent."""
ROUTES = "seldon"
_GRPC_PATHS = ".*tensorflow.*|.*seldon.protos.*|.*inference.*"
_GRPC = "application/grpc"
_NOT_FOUND = "5"
"""gRPC's status code for what does not exist."""
_TIMEOUT = "60s"
_COOKIE_SECONDS = 30 * 24 * 3600
"""How long a client keeps the cookie of a sticky split."""
_MEGABYTE = 1 << 20
_KEPT_BODY = 64 * _MEGABYTE
"""Bytes of a request's body that Envoy keeps, for a retry on another predictor."""


def routes(deployed: Sequence[Route], *, instance: str) -> str:
    """Return the route discovery file."""
    paths = [_probe_route(instance)]
    for route in sorted(deployed, key=lambda r: (r.namespace, r.name)):
        paths += [*_http_routes(route), *_grpc_routes(route)]
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
        "early_header_mutation_extensions": [_random_name()],
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


def _random_name() -> dict[str, Any]:
    kind = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    named = {
        "header": {"key": RANDOM_HEADER, "value": "%UNIQUE_ID%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": f"{TYPE}{kind}", "mutations": [{"append": named}]},
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


def _http_routes(route: Route) -> list[dict[str, Any]]:
    prefix = f"/seldon/{route.namespace}/{route.name}/"
    return _routes({"prefix": prefix}, route, "http", path=prefix)


def _grpc_routes(route: Route) -> list[dict[str, Any]]:
    match = {
        "safe_regex": {"regex": _GRPC_PATHS},
        "headers": [
            {"name": name, "string_match": {"exact": value}}
            for name, value in (("seldon", route.name), ("namespace", route.namespace))
        ],
    }
    return _routes(match, route, "grpc", path="/")


def _routes(
    match: dict[str, Any], route: Route, protocol: Protocol, *, path: str
) -> list[dict[str, Any]]:
    """Return the routes of one protocol: two if the split is sticky by a cookie, else one.

    Envoy selects by the cookie's value. A client without the cookie gets one, on `path`. Its value
    is the random name of this request, by which Envoy selects the predictor of the first answer.
    """
    destination = _destination(route, protocol)
    sticky = route.sticky if len(route.live()) > 1 else None
    if sticky is None:
        return [{"match": match, **destination}]
    if sticky.kind == "header":
        return [{"match": match, **_hashed(destination, _header_policy(sticky.name))}]
    known = {"name": sticky.name, "string_match": {"safe_regex": {"regex": ".+"}}}
    value = (
        f"{sticky.name}=%REQ({RANDOM_HEADER})%; Path={path}; Max-Age={_COOKIE_SECONDS}; "
        "HttpOnly; SameSite=Lax"
    )
    given = {"header": {"key": "set-cookie", "value": value}}
    by_cookie = _hashed(destination, {"cookie": {"name": sticky.name}})
    by_chance = _hashed(destination, _header_policy(RANDOM_HEADER))
    return [
        {"match": {**match, "cookies": [known]}, **by_cookie},
        {"match": match, **by_chance, "response_headers_to_add": [given]},
    ]


def _header_policy(name: str) -> dict[str, Any]:
    return {"header": {"header_name": name}}


def _hashed(destination: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    """Return a destination whose split is selected by a hash of what `policy` names."""
    action = destination["route"]
    weighted = {**action["weighted_clusters"], "use_hash_policy": True}
    return {
        **destination,
        "route": {**action, "weighted_clusters": weighted, "hash_policy": [policy]},
    }


def _destination(route: Route, protocol: Protocol) -> dict[str, Any]:
    live = route.live()
    if not live:
        sentence = f"the deployment {route.name} in {route.namespace} has no replicas; scale it up"
        return {"direct_response": {"status": 503, "body": {"inline_string": sentence}}}
    action = {
        **_shares(route, protocol),
        "timeout": _TIMEOUT,
        "retry_policy": _retries(elsewhere=len(live) > 1),
        "request_mirror_policies": [_mirror(route, t, protocol) for t in route.shadows()],
    }
    if protocol == "http":
        action["prefix_rewrite"] = "/"
    if len(live) == 1:
        return {"route": action}
    return {"route": action, "request_body_buffer_limit": _KEPT_BODY}


def _shares(route: Route, protocol: Protocol) -> dict[str, Any]:
    live = route.live()
    if len(live) == 1:
        return {"cluster": cluster_name(route, live[0], protocol)}
    weighted = [
        {"name": chosen_name(cluster_name(route, t, protocol)), "weight": t.traffic} for t in live
    ]
    return {"weighted_clusters": {"clusters": weighted}}


def _mirror(route: Route, shadow: Target, protocol: Protocol) -> dict[str, Any]:
    percent = {"numerator": shadow.traffic or 100, "denominator": "HUNDRED"}
    return {
        "cluster": cluster_name(route, shadow, protocol),
        "runtime_fraction": {"default_value": percent},
    }


def _retries(*, elsewhere: bool) -> dict[str, Any]:
    """Return the retry policy: predictions change nothing, so any broken attempt is repeated.

    `elsewhere` says that another predictor gets the next attempt. Then it is also made at once, and
    where a server says that it cannot serve: 503 of HTTP, or UNAVAILABLE of gRPC.
    """
    policy: dict[str, Any] = {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": ATTEMPTS - 1,
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
    if not elsewhere:
        return policy
    return policy | {
        "retry_on": f"{policy['retry_on']},retriable-status-codes,unavailable",
        "retriable_status_codes": [503],
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.010s"},
    }
