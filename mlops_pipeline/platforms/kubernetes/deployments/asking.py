"""Pods of a deployment, asked one by one through the API server: for predictions, and for counts.

https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
"""

from collections.abc import Mapping, Sequence
from functools import partial

from mlops_pipeline.clients import metrics_pages, prediction
from mlops_pipeline.clients.api_server import Limits
from mlops_pipeline.clients.errors import AccessDeniedError, PipelineError
from mlops_pipeline.clients.kubernetes import KubernetesApi, Manifest
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.counting import in_parallel, server_counts
from mlops_pipeline.platforms.kubernetes.deployments.rollout import Rollout, port_of
from mlops_pipeline.platforms.kubernetes.deployments.statuses import names_of
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts
from mlops_pipeline.platforms.seldon import SeldonDeployment

_LIMITS = Limits(seconds=metrics_pages.TIMEOUT, size=metrics_pages.MOST_BYTES)


def server(api: KubernetesApi, pod: Manifest) -> Predictions:
    """Return a client of one pod, whose requests are neither counted nor recorded."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    ask = partial(
        api.ask_pod,
        name,
        namespace=namespace,
        port=port_of(pod),
        path=prediction.PATH,
        headers=prediction.UNRECORDED,
    )
    return Predictions(f"the pod {namespace}/{name}", lambda body: ask(body=body))


def ready(
    api: KubernetesApi, rollout: Rollout, deployment: SeldonDeployment
) -> Mapping[str, tuple[Predictions, ...]]:
    """Return predictor → clients of its ready pods, of its newest version alone."""
    names = names_of(deployment)
    return {
        names[p.name]: tuple(server(api, pod) for pod in rollout.new_pods(p) if pods.is_ready(pod))
        for p in deployment.spec.predictors
    }


def counts(
    api: KubernetesApi, rollout: Rollout, deployment: SeldonDeployment
) -> tuple[PredictorCounts, ...]:
    """Ask the running pods of all predictors at the same time, of their newest version alone.

    Raises:
        AccessDeniedError: we may not ask pods.
        UnavailableError: the metrics of a pod are damaged or too large.
    """
    found = {p.name: _running(rollout.new_pods(p)) for p in deployment.spec.predictors}
    every = [pod for running in found.values() for pod in running]
    counted = iter(in_parallel(partial(_counts, api), every))
    asked = {name: [next(counted) for _ in running] for name, running in found.items()}
    return tuple(
        PredictorCounts(given, tuple(c for c in asked[name] if c is not None))
        for name, given in names_of(deployment).items()
    )


def _running(found: Sequence[Manifest]) -> list[Manifest]:
    return [pod for pod in found if (pod.get("status") or {}).get("phase") == "Running"]


def _counts(api: KubernetesApi, pod: Manifest) -> ServerCounts | None:
    """Return what the server in a pod has counted, or None if it does not answer or count."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    try:
        answer = api.ask_pod(
            name,
            namespace=namespace,
            port=port_of(pod),
            path=metrics_pages.PATH,
            limits=_LIMITS,
        )
    except AccessDeniedError:
        raise
    except PipelineError:
        return None
    metrics_pages.require_small(len(answer.body), where=f"the pod {namespace}/{name}")
    page = metrics_pages.decoded(answer.body)
    return server_counts(page, server=name) if answer.status == 200 else None
