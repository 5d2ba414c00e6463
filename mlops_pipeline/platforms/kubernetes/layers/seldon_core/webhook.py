"""Does Seldon's webhook check? Dry runs of small SeldonDeployments, which change nothing."""

from collections.abc import Callable
from typing import Any

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, KubernetesApi
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.chart import NAMESPACE
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.layers import Finding, HealthCheck
from mlops_pipeline.serving.frameworks import SKLEARN


def describe_refusal(api: KubernetesApi, *, namespace: str = NAMESPACE) -> str | None:
    """Say why a small SeldonDeployment is not accepted now; None when it is."""
    try:
        return describe_silence(lambda: api.apply(_probe(namespace, 100), dry_run=True))
    except InvalidManifestError as error:
        return str(error)


def webhook_check(api: Callable[[], KubernetesApi], *, namespace: str = NAMESPACE) -> HealthCheck:
    """Return the check that the webhook does its work."""
    return HealthCheck(
        "accepts_a_deployment",
        "A right SeldonDeployment passes the webhook, and a wrong one does not.",
        lambda: try_webhook(api(), namespace=namespace),
    )


def try_webhook(api: KubernetesApi, *, namespace: str = NAMESPACE) -> Finding:
    """Ask for a right and for a wrong one: a webhook that is not asked accepts both."""
    if reason := describe_refusal(api, namespace=namespace):
        return Finding(passed=False, seen=f"a right SeldonDeployment was refused: {reason}")
    try:
        api.apply(_probe(namespace, 50, 40), dry_run=True)
    except InvalidManifestError as error:
        return Finding(passed=True, seen=f"a right one is accepted, a wrong one not: {error}")
    seen = "a SeldonDeployment whose traffic adds up to 90 percent was accepted"
    return Finding(passed=False, seen=seen)


def _probe(namespace: str, *shares: int) -> dict[str, Any]:
    """Return a SeldonDeployment with a predictor for each share of the traffic."""
    graph = {
        "name": "probe",
        "implementation": SKLEARN.implementation,
        "modelUri": "s3://models/probe",
    }
    return {
        "apiVersion": SELDON_DEPLOYMENT.api_version,
        "kind": SELDON_DEPLOYMENT.kind,
        "metadata": {"name": "mlops-pipeline-probe", "namespace": namespace},
        "spec": {
            "predictors": [
                {"name": f"p{number}", "graph": graph, "traffic": share}
                for number, share in enumerate(shares)
            ]
        },
    }
