"""The Gateway that the VirtualServices of all deployments use."""

from typing import Any

from mlops_pipeline.platforms.kubernetes.layers.istio.charts import GATEWAY, NAMESPACE
from mlops_pipeline.platforms.kubernetes.layers.istio.tls import SECRET
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.settings.layers import IstioSettings

NAME = "seldon-gateway"


def gateway_manifest(settings: IstioSettings) -> dict[str, Any]:
    """Return the Gateway: port 80, port 443 if it has TLS, every host name."""
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
