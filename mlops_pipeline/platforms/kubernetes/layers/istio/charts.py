"""What Istio is installed from: three charts, sized for one machine, and where they may run."""

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
"""The charts, as the sources know them."""
PORTS = (
    ServicePort("gateway", 80, 30080, 8180),
    ServicePort("gateway_https", 443, 30043, 8543),
)
GATEWAY_PORTS = node_ports(PORTS)
_INJECTOR = Resource("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
"""What puts the image into the gateway's pod. Without it a pod that is made anew has none."""
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
    # The chart asks for half a processor and 2 GiB, which a laptop does not have to spare.
    {"autoscaleEnabled": False, "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}},
    deployment="istiod",
    brings=((_INJECTOR, "istio-sidecar-injector", ""),),
)
_INGRESS: Mapping[str, Any] = {
    "autoscaling": {"enabled": False},
    # Not given, it would be left as somebody set it, 0 too.
    "replicaCount": 1,
    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    # The pod is made with the image `auto`, whose missing tag makes the default `Always`:
    # an image that was loaded into the node would not be used.
    "imagePullPolicy": "IfNotPresent",
}
_PORTS_OF_THE_CHART = {"status-port": 15021, "http2": 80, "https": 443}
"""The chart's own ports of the gateway."""

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
    """Return the gateway's release; `fixed` are those of its ports that it has on every node."""
    values = dict(_INGRESS)
    if fixed:
        values["service"] = {"ports": [_port(n, p, fixed) for n, p in _PORTS_OF_THE_CHART.items()]}
    brings = ((SERVICE, GATEWAY, NAMESPACE),)
    return Installation(GATEWAY, NAMESPACE, "gateway", values, deployment=GATEWAY, brings=brings)


def check_window(istio: str, kubernetes: str) -> str:
    """Return a warning where it is not known that this Istio runs on this Kubernetes, or "".

    What is newer than Istio's makers have tried mostly runs, so it is no reason to refuse.

    Raises:
        ConfigurationError: this Istio is known not to run on a Kubernetes that old.
    """
    window = _WINDOWS.get(_minor(istio))
    if window is None:
        return f"Istio {istio} is not in the table of versions; Kubernetes is {kubernetes}"
    first, last = window
    if _minor(kubernetes) < first:
        raise ConfigurationError(
            f"could not install Istio {istio}: it needs Kubernetes 1.{first} or newer, and the "
            f"cluster is {kubernetes}; take a newer one (for kind: kind.cluster.node_image), "
            "nothing was changed"
        )
    if last is not None and _minor(kubernetes) > last:
        return f"Istio {istio} is supported up to Kubernetes 1.{last}; this is {kubernetes}"
    return ""


def _port(name: str, port: int, fixed: Mapping[int, int]) -> dict[str, Any]:
    node = {"nodePort": fixed[port]} if port in fixed else {}
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": port, **node}


def _minor(version: str) -> int:
    match = re.match(r"v?1\.(\d+)", version)
    if match is None:
        raise ConfigurationError(f"{version!r} is not a version 1.x; is it the right chart?")
    return int(match[1])
