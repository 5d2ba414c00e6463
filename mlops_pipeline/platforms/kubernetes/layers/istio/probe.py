"""Does the gateway route? A route to an echo is created for the check and removed."""

import secrets
from collections.abc import Callable
from typing import Any

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.kubernetes import VIRTUAL_SERVICE
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.objects.probes import Echo, echo
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Finding, HealthCheck
from mlops_pipeline.platforms.seldon import MANAGED_BY

_NAME = "echo"
_GLANCE = 5.0
_ANSWER = 30.0
"""Seconds for a route to reach the gateway; 0.1 is usual."""


def route_check(run: Callable[[], Finding]) -> HealthCheck:
    """Return the check that the gateway routes; `run` calls `try_route`."""
    return HealthCheck(
        "routes_to_a_pod",
        "A request to the gateway's address reaches a pod through a new route.",
        run,
    )


def try_route(parts: Parts, url: str, *, trust: str) -> Finding:
    """Request a random path of the gateway, which is routed to an echo.

    Raises:
        UnavailableError: the echo did not become ready, or another answer came.
    """
    api, path = parts.api(), f"/probe-{secrets.token_hex(8)}/"
    image = parts.sources.echo_image()
    with echo(api, parts.images, type="ClusterIP", image=image, clock=parts.clock) as echoed:
        route = _route(echoed, path, gateway=parts.settings.istio.reference)

        def apply() -> None:
            api.apply(route)

        try:
            wait_until(
                f"the API of the cluster for the VirtualService {echoed.namespace}/{_NAME}",
                patiently(apply),
                timeout=_ANSWER,
                clock=parts.clock,
            )
            seconds = wait_until(
                f"the route {url}{path} to a pod",
                lambda: _describe_other(f"{url}{path}", echoed, trust),
                timeout=_ANSWER,
                clock=parts.clock,
                hint=parts.unreachable,
            )
        finally:
            api.delete(VIRTUAL_SERVICE, _NAME, namespace=echoed.namespace)
    return Finding(
        passed=True,
        seen=f"{url}{path} reached a pod {seconds:.1f} s after its route was applied",
        facts={"address": url, "seconds": round(seconds, 2)},
    )


def _describe_other(url: str, echoed: Echo, trust: str) -> str | None:
    try:
        answer = http.get(url, timeout=_GLANCE, trust=trust)
    except UnavailableError as error:
        return str(error)
    if answer.status == 200 and answer.text.strip() == echoed.text:
        return None
    return f"it answered {answer.status}: {answer.text[:200]!r}"


def _route(echoed: Echo, path: str, *, gateway: str) -> dict[str, Any]:
    destination = {"host": echoed.host, "port": {"number": echoed.port}}
    route = {"match": [{"uri": {"prefix": path}}], "route": [{"destination": destination}]}
    return {
        "apiVersion": VIRTUAL_SERVICE.api_version,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {
            "name": _NAME,
            "namespace": echoed.namespace,
            "labels": dict(MANAGED_BY),
        },
        "spec": {"hosts": ["*"], "gateways": [gateway], "http": [route]},
    }
