"""Does Seldon's webhook check? Dry runs of small SeldonDeployments, which change nothing."""

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
"""Seconds for pods of the operator that are replaced to end; they have 10 to do so."""
_PODS = "app=seldon"


def describe_refusal(api: KubernetesApi, *, namespace: str = NAMESPACE) -> str | None:
    """Say why a small SeldonDeployment is not accepted now; None when it is."""
    try:
        return describe_silence(lambda: api.apply(_probe(namespace, 100), dry_run=True))
    except InvalidManifestError as error:
        return str(error)


def wait_for_webhook(parts: Parts, *, timeout: float) -> None:
    """Wait until the webhook accepts a small SeldonDeployment.

    Raises:
        WaitTimeoutError: with what it said last.
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


def _wait_for_former_pods(parts: Parts, api: KubernetesApi) -> None:
    """Wait for pods that end: one of them may be the one that still answers."""

    def describe_ending() -> str | None:
        pods = api.list(POD, namespace=NAMESPACE, labels=_PODS)
        ending = [str(pod["metadata"]["name"]) for pod in pods if is_ending(pod)]
        return f"{', '.join(ending)} is ending" if ending else None

    with suppress(WaitTimeoutError):  # That of a node which is lost never ends.
        wait_until(
            "the end of the operator's former pods",
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
