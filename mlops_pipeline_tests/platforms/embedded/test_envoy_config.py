"""Envoy's configuration, as the pure function that it is."""

import json
import re
from pathlib import Path
from typing import Any

from mlops_pipeline.platforms.embedded import envoy_config
from mlops_pipeline.platforms.embedded.envoy_clusters import clusters
from mlops_pipeline.platforms.embedded.envoy_discovery import version_of
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, Target
from mlops_pipeline.platforms.sticky import Sticky
from mlops_pipeline.serving.grpc_operations import OPERATIONS


def target(
    name: str = "default", *, traffic: int = 100, shadow: bool = False, servers: int = 1
) -> Target:
    endpoints = tuple(Endpoint(f"{name}.{i}", 9000 + 2 * i, 9001 + 2 * i) for i in range(servers))
    return Target(name, "abc", traffic, shadow, endpoints)


def table(*targets: Target, sticky: Sticky | None = None) -> list[dict[str, Any]]:
    """Return the routes of one deployment: HTTP, gRPC."""
    text = envoy_config.routes([Route("ns", "iris", targets, sticky)], instance="me")
    found: list[dict[str, Any]] = json.loads(text)["resources"][0]["virtual_hosts"][0]["routes"]
    assert found[0]["match"] == {"path": envoy_config.PROBE_PATH}
    assert [route["direct_response"]["status"] for route in found[-2:]] == [404, 404]
    return found[1:-2]


def test_http_is_routed_by_prefix_which_is_taken_off() -> None:
    http, _ = table(target())
    assert http["match"] == {"prefix": "/seldon/ns/iris/"}
    assert http["route"]["prefix_rewrite"] == "/"
    assert http["route"]["cluster"] == "ns/iris/default/abc/http"


def test_grpc_is_routed_by_its_headers_as_in_istio() -> None:
    _, grpc = table(target())
    assert grpc["match"]["safe_regex"]["regex"] == (
        ".*tensorflow.*|.*seldon.protos.*|.*inference.*"
    )
    for service in OPERATIONS:
        assert re.fullmatch(grpc["match"]["safe_regex"]["regex"], f"/{service}/Predict")
    headers = {h["name"]: h["string_match"]["exact"] for h in grpc["match"]["headers"]}
    assert headers == {"seldon": "iris", "namespace": "ns"}
    assert grpc["route"]["cluster"] == "ns/iris/default/abc/grpc"
    assert "prefix_rewrite" not in grpc["route"]


def test_traffic_becomes_weights_and_none_gets_no_weight() -> None:
    http, _ = table(target("a", traffic=90), target("b", traffic=10), target("c", traffic=0))
    weights = {c["name"]: c["weight"] for c in http["route"]["weighted_clusters"]["clusters"]}
    assert weights == {"ns/iris/a/abc/http/chosen": 90, "ns/iris/b/abc/http/chosen": 10}


def attempts(*targets: Target) -> dict[str, list[str]]:
    """Return the predictor that a split chose → the predictors of its composite cluster."""
    found = json.loads(clusters([Route("ns", "iris", targets)]))["resources"]
    names = {c["name"] for c in found}
    composites = {
        c["name"]: [entry["name"] for entry in c["cluster_type"]["typed_config"]["clusters"]]
        for c in found
        if "cluster_type" in c
    }
    assert {name for tried in composites.values() for name in tried} <= names
    return {
        name.split("/")[2]: [cluster.split("/")[2] for cluster in tried]
        for name, tried in composites.items()
        if name.endswith("/http/chosen")
    }


def test_a_request_that_one_predictor_loses_is_tried_on_the_others_by_their_shares() -> None:
    two = target("a", traffic=95), target("b", traffic=5)
    # The last one is no attempt: Envoy goes on to it where a cluster before it was removed.
    assert attempts(*two) == {"a": ["a", "b", "a", "a"], "b": ["b", "a", "a", "b"]}
    three = target("a", traffic=10), target("b", traffic=20), target("c", traffic=70)
    assert attempts(*three) == {
        "a": ["a", "c", "b", "a"],
        "b": ["b", "c", "a", "b"],
        "c": ["c", "b", "a", "c"],
    }
    four = (*three[:2], target("c", traffic=30), target("d", traffic=40))
    assert attempts(*four)["a"] == ["a", "d", "c", "a"]


def test_every_predictor_of_a_split_has_its_composite_clusters_and_no_other_has() -> None:
    split = target("a", traffic=95), target("b", traffic=5), target("c", shadow=True)
    text = envoy_config.routes([Route("ns", "iris", split)], instance="me")
    named = set(re.findall(r'"(ns/iris/[^"]+)"', text))
    found = json.loads(clusters([Route("ns", "iris", split)]))["resources"]
    assert named <= {cluster["name"] for cluster in found}
    assert attempts(target("a"), target("b", traffic=0), target("c", shadow=True)) == {}


def test_only_a_split_is_retried_after_503_and_with_a_large_body() -> None:
    for alone in table(target(), target("b", shadow=True)):
        assert alone["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream,reset"
        assert alone["route"]["retry_policy"]["num_retries"] == 2
        assert set(alone) == {"match", "route"}
    for several in table(target("a", traffic=95), target("b", traffic=5)):
        policy = several["route"]["retry_policy"]
        assert policy["retry_on"].endswith(",reset,retriable-status-codes,unavailable")
        assert (policy["retriable_status_codes"], policy["num_retries"]) == ([503], 2)
        assert several["request_body_buffer_limit"] == 64 << 20


def test_a_split_is_sticky_by_a_header() -> None:
    targets = target("a", traffic=95), target("b", traffic=5)
    for route in table(*targets, sticky=Sticky("header", "x-user")):
        assert route["route"]["weighted_clusters"]["use_hash_policy"]
        assert route["route"]["hash_policy"] == [{"header": {"header_name": "x-user"}}]
    for route in table(target(), sticky=Sticky("header", "x-user")):
        assert "hash_policy" not in route["route"]


def test_a_client_without_the_cookie_of_a_sticky_split_gets_one() -> None:
    targets = target("a", traffic=95), target("b", traffic=5)
    http, http_without, grpc, grpc_without = table(*targets, sticky=Sticky("cookie", "user"))
    for with_cookie, without, path in (
        (http, http_without, "/seldon/ns/iris/"),
        (grpc, grpc_without, "/"),
    ):
        (matcher,) = with_cookie["match"].pop("cookies")
        assert matcher["name"] == "user"
        assert with_cookie["match"] == without["match"]
        assert with_cookie["route"]["hash_policy"] == [{"cookie": {"name": "user"}}]
        header = {"header_name": envoy_config.RANDOM_HEADER}
        assert without["route"]["hash_policy"] == [{"header": header}]
        (given,) = without["response_headers_to_add"]
        value = f"user=%REQ({envoy_config.RANDOM_HEADER})%; Path={path}; Max-Age=2592000; "
        assert given["header"]["key"] == "set-cookie"
        assert given["header"]["value"].startswith(value)


def test_a_predictor_without_servers_leaves_its_share_to_the_others() -> None:
    http, _ = table(target("a", traffic=90, servers=0), target("b", traffic=10))
    assert http["route"]["cluster"] == "ns/iris/b/abc/http"


def test_a_shadow_is_mirrored_by_its_percent_or_wholly() -> None:
    for given, percent in ((0, 100), (30, 30)):
        http, grpc = table(target("a"), target("b", shadow=True, traffic=given))
        for route in (http, grpc):
            (mirror,) = route["route"]["request_mirror_policies"]
            assert mirror["runtime_fraction"]["default_value"]["numerator"] == percent
        assert http["route"]["cluster"] == "ns/iris/a/abc/http"


def test_no_servers_at_all_answer_503_by_name() -> None:
    for route in table(target(servers=0)):
        assert route["direct_response"]["status"] == 503
        assert "iris in ns has no replicas" in route["direct_response"]["body"]["inline_string"]


def test_clusters_are_made_for_both_protocols_and_checked_over_http() -> None:
    found = json.loads(clusters([Route("ns", "iris", (target(servers=2),))]))
    grpc, http = found["resources"]
    assert (grpc["name"], http["name"]) == ("ns/iris/default/abc/grpc", "ns/iris/default/abc/http")
    hosts = grpc["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [h["endpoint"]["address"]["socket_address"]["port_value"] for h in hosts] == [9001, 9003]
    assert [h["endpoint"]["health_check_config"]["port_value"] for h in hosts] == [9000, 9002]
    assert {h["endpoint"]["address"]["socket_address"]["address"] for h in hosts} == {"127.0.0.1"}


def test_the_first_of_two_clusters_of_a_name_wins() -> None:
    new, old = (Route("ns", "iris", (target(servers=n),)) for n in (2, 1))
    assert clusters([new, old]) == clusters([new])
    assert json.loads(clusters([Route("ns", "x", (target(servers=0),))])) == (
        json.loads(clusters([]))
    )


def test_the_order_of_deployments_does_not_matter() -> None:
    a, b = (Route("ns", name, (target(),)) for name in ("a", "b"))
    assert envoy_config.routes([a, b], instance="me") == envoy_config.routes([b, a], instance="me")


def test_only_the_content_changes_the_version() -> None:
    one = clusters([Route("ns", "iris", (target(),))])
    assert version_of(one) == version_of(one)
    two = clusters([Route("ns", "iris", (target(servers=2),))])
    assert version_of(one) != version_of(two)


def test_only_loopback_and_a_private_socket_are_opened() -> None:
    text = envoy_config.bootstrap(port=8080, admin=Path("/run/ev.sock"), live=Path("/a b/live"))
    configuration = json.loads(text)
    assert configuration["admin"]["address"]["pipe"] == {"path": "/run/ev.sock", "mode": 0o600}
    (listener,) = configuration["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8080}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["normalize_path"]
    assert manager["merge_slashes"]
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert manager["rds"]["config_source"]["path_config_source"]["path"] == "/a b/live/routes.json"


def test_only_failures_get_the_failures_body_and_no_grpc_call_does() -> None:
    text = envoy_config.bootstrap(port=8080, admin=Path("/a"), live=Path("/b"))
    listener = json.loads(text)["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    refused, mapper = manager["local_reply_config"]["mappers"]
    assert refused["status_code"] == 400
    failed, not_grpc = mapper["filter"]["and_filter"]["filters"]
    assert failed["status_code_filter"]["comparison"]["value"]["default_value"] == 400
    assert not_grpc["header_filter"]["header"]["invert_match"]
    assert not listener["enable_reuse_port"]
