"""Istio's three charts, sized for one machine, and the Kubernetes versions that they support."""

import re
from collections.abc import Mapping
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    SERVICE,
    Resource,
)
from mlops_pipeline.clients.kubernetes import GATEWAY as GATEWAY_KIND
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.kubernetes.parts.endpoints import ServicePort, node_ports

NAMESPACE = "istio-system"
GATEWAY = "istio-ingressgateway"
"""Release, Deployment and Service. The chart labels its pods `istio: <release without istio->`."""

NAMES = ("base", "istiod", "gateway")
"""The charts' names in the sources."""
PORTS = (
    ServicePort("gateway", 80, 30080, 8180),
    ServicePort("gateway_https", 443, 30043, 8543),
)
GATEWAY_PORTS = node_ports(PORTS)
_INJECTOR = Resource("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
"""Sets the image in the gateway's pod. Without it, a new pod has no image."""
_DEFINITION = f"gateways.{GATEWAY_KIND.api_version.partition('/')[0]}"

BASE = Installation(
    "istio-base",
    NAMESPACE,
    "base",
    {},
    brings=((CUSTOM_RESOURCE_DEFINITION, _DEFINITION, ""),),
)
ISTIOD = Installation(
    "istiod",
    NAMESPACE,
    "istiod",
    # The chart requests half a processor and 2 GiB, which a laptop cannot spare.
    {"autoscaleEnabled": False, "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}},
    deployment="istiod",
    brings=((_INJECTOR, "istio-sidecar-injector", ""),),
)
_INGRESS: Mapping[str, Any] = {
    "autoscaling": {"enabled": False},
    # Without a value, helm would keep a manual change, even to 0.
    "replicaCount": 1,
    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    # The pod is created with the image `auto`. Its missing tag makes the default policy `Always`,
    # which would ignore an image that was loaded into the node.
    "imagePullPolicy": "IfNotPresent",
}
_PORTS_OF_THE_CHART = {"status-port": 15021, "http2": 80, "https": 443}
"""The gateway's ports in the chart."""

_WINDOWS: dict[int, tuple[int, int | None]] = {
    28: (30, 34),
    29: (31, 35),
    30: (32, 36),
    31: (32, None),
}
"""Minor of Istio 1.x → first and last minor of Kubernetes 1.x that it supports.

https://istio.io/latest/docs/releases/supported-releases/ and, for the first, MinK8SVersion in
istioctl/pkg/install/k8sversion/version.go of the release.
"""


def ingress(fixed: Mapping[int, int]) -> Installation:
    """Return the gateway's release; `fixed` are the ports that it has on every node."""
    values = dict(_INGRESS)
    if fixed:
        values["service"] = {"ports": [_port(n, p, fixed) for n, p in _PORTS_OF_THE_CHART.items()]}
    brings = ((SERVICE, GATEWAY, NAMESPACE),)
    return Installation(GATEWAY, NAMESPACE, "gateway", values, deployment=GATEWAY, brings=brings)


def check_window(istio: str, kubernetes: str) -> str:
    """Return a warning if this Istio may not run on this Kubernetes, else "".

    Versions that are newer than Istio's tests usually work, so they are not refused.

    Raises:
        ConfigurationError: this Istio does not run on such an old Kubernetes.
    """
    window = _WINDOWS.get(_minor(istio))
    if window is None:
        return (
            f"Istio {istio} is not in the table of supported versions; Kubernetes is {kubernetes}"
        )
    first, last = window
    if _minor(kubernetes) < first:
        raise ConfigurationError(
            f"could not install Istio {istio}: expected Kubernetes 1.{first} or newer, got "
            f"{kubernetes}; use a newer cluster (for kind: kind.cluster.node_image). Nothing was "
            "changed"
        )
    if last is not None and _minor(kubernetes) > last:
        return f"Istio {istio} is supported up to Kubernetes 1.{last}, this is {kubernetes}"
    return ""


def _port(name: str, port: int, fixed: Mapping[int, int]) -> dict[str, Any]:
    node = {"nodePort": fixed[port]} if port in fixed else {}
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": port, **node}


def _minor(version: str) -> int:
    match = re.match(r"v?1\.(\d+)", version)
    if match is None:
        raise ConfigurationError(
            f"expected a version 1.x, got {version!r}; check that it is the right chart"
        )
    return int(match[1])
