"""The Gateway that every VirtualService of a deployment is bound to, and its address."""

from typing import Any

from mlops_pipeline.clients.kubernetes import SERVICE, KubernetesApi
from mlops_pipeline.platforms.kubernetes.istio_charts import GATEWAY, NAMESPACE
from mlops_pipeline.platforms.kubernetes.istio_tls import SECRET
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.settings.kind import IstioSettings

NAME = "seldon-gateway"
REFERENCE = f"{NAMESPACE}/{NAME}"
"""How a VirtualService in another namespace names it."""


def gateway_manifest(settings: IstioSettings) -> dict[str, Any]:
    """Return the Gateway: port 80 always, port 443 with TLS, every host name."""
    plain: dict[str, Any] = {
        "port": {"number": 80, "name": "http", "protocol": "HTTP"},
        "hosts": ["*"],
    }
    if settings.https_redirect:
        plain["tls"] = {"httpsRedirect": True}
    servers = [plain]
    if settings.tls != "off":
        servers.append(
            {
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": ["*"],
                "tls": {"mode": "SIMPLE", "credentialName": SECRET},
            }
        )
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": dict(MANAGED_BY)},
        "spec": {"selector": {"istio": GATEWAY.removeprefix("istio-")}, "servers": servers},
    }


def find_address(api: KubernetesApi, service: str, *, namespace: str) -> str | None:
    """Return the address that a Service of type LoadBalancer was given, or None as yet."""
    found = api.find(SERVICE, service, namespace=namespace)
    status = (found or {}).get("status") or {}
    for given in (status.get("loadBalancer") or {}).get("ingress") or ():
        return str(given.get("ip") or given.get("hostname"))
    return None


def url_of(address: str, *, scheme: str = "http", port: int | None = None) -> str:
    """Return `scheme://address[:port]`, an IPv6 address in brackets."""
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}" + (f":{port}" if port is not None else "")
