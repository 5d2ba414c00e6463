"""Does Seldon's webhook verify? Dry runs of small SeldonDeployments, which change nothing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mlops_pipeline.clients.errors import InvalidManifestError, WaitTimeoutError
from mlops_pipeline.clients.kubernetes import POD, SELDON_DEPLOYMENT, KubernetesApi
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.chart import NAMESPACE
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Finding, HealthCheck
from mlops_pipeline.serving.frameworks import SKLEARN

_FORMER = 15.0
"""Seconds for replaced pods of the operator to end; they have 10 to do so."""
_PODS = "app=seldon"


def describe_refusal(api: KubernetesApi, *, namespace: str = NAMESPACE) -> str | None:
    """Say why a small SeldonDeployment is not accepted now; None if it is."""
    try:
        return describe_silence(lambda: api.apply(_probe(namespace, 100), dry_run=True))
    except InvalidManifestError as error:
        return str(error)


def wait_for_webhook(parts: Parts, *, timeout: float) -> None:
    """Wait until the webhook accepts a small SeldonDeployment.

    Raises:
        WaitTimeoutError: has its last answer.
    """
    api = parts.api()
    _wait_for_former_pods(parts, api)
    wait_until(
        "Seldon Core's webhook",
        lambda: describe_refusal(api),
        timeout=timeout,
        clock=parts.clock,
        interval=0.25,
        hint="see `mlops-pipeline logs seldon_core`",
    )


def webhook_check(api: Callable[[], KubernetesApi], *, namespace: str = NAMESPACE) -> HealthCheck:
    """Return the check that the webhook works."""
    return HealthCheck(
        "accepts_a_deployment",
        "The webhook accepts a valid SeldonDeployment and refuses an invalid one.",
        lambda: try_webhook(api(), namespace=namespace),
    )


def try_webhook(api: KubernetesApi, *, namespace: str = NAMESPACE) -> Finding:
    """Try a valid and an invalid one: without a webhook, both are accepted."""
    if reason := describe_refusal(api, namespace=namespace):
        return Finding(passed=False, seen=f"a valid SeldonDeployment was refused: {reason}")
    try:
        api.apply(_probe(namespace, 50, 40), dry_run=True)
    except InvalidManifestError as error:
        return Finding(
            passed=True, seen=f"a valid one is accepted, an invalid one is refused: {error}"
        )
    seen = "a SeldonDeployment whose traffic adds up to 90 percent was accepted"
    return Finding(passed=False, seen=seen)


def _wait_for_former_pods(parts: Parts, api: KubernetesApi) -> None:
    """Wait for ending pods: one of them may be the one that still answers."""

    def describe_ending() -> str | None:
        pods = api.list(POD, namespace=NAMESPACE, labels=_PODS)
        ending = [str(pod["metadata"]["name"]) for pod in pods if is_ending(pod)]
        return f"{', '.join(ending)} is ending" if ending else None

    with suppress(WaitTimeoutError):  # A pod of a lost node never ends.
        wait_until(
            "the end of the operator's previous pods",
            patiently(describe_ending),
            timeout=_FORMER,
            clock=parts.clock,
        )


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
