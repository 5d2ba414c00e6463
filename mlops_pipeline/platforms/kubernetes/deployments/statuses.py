"""The current status of a deployment's predictors, as their pods report it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mlops_pipeline.clients.errors import FatalStateError, PipelineError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import EVENT, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.deployments.manifests import traffic_of
from mlops_pipeline.platforms.kubernetes.deployments.rollout import (
    Rollout,
    described_status,
    newest_first,
    port_of,
)
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.workloads import is_rolled_out
from mlops_pipeline.platforms.platform import PredictorStatus
from mlops_pipeline.platforms.seldon import PREDICTOR_ANNOTATION, Predictor, SeldonDeployment

_State = Literal["ready", "starting", "failed", "stopped", "edited"]
_DIGEST_HEADER = "x-model-digest"
_MEMORY = re.compile(rb"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


def statuses(
    api: KubernetesApi,
    rollout: Rollout,
    deployment: SeldonDeployment,
    *,
    edits: Mapping[str, str],
) -> tuple[PredictorStatus, ...]:
    """Return the status of each predictor. `edits` is predictor → what was changed by hand."""
    shares, names = traffic_of(rollout.routes), names_of(deployment)
    return tuple(
        _status(
            api,
            rollout,
            predictor,
            name=names[predictor.name],
            traffic=0 if predictor.shadow else shares.get(predictor.name, 0),
            edit=edits.get(predictor.name, ""),
        )
        for predictor in deployment.spec.predictors
    )


def names_of(deployment: SeldonDeployment) -> dict[str, str]:
    """Return a predictor's name in the cluster → its name in its manifest.

    The latter is its name in the cluster while several share that of their manifests.
    """
    shared = Counter(map(_given_name, deployment.spec.predictors))
    return {
        p.name: given if shared[given := _given_name(p)] == 1 else p.name
        for p in deployment.spec.predictors
    }


def _given_name(predictor: Predictor) -> str:
    return predictor.annotations.get(PREDICTOR_ANNOTATION, predictor.name)


def memory_bytes(api: KubernetesApi, found: Iterable[Manifest]) -> int:
    """Return the bytes of memory that the servers in these pods report; 0 if none reports any."""
    answers = (_ask(api, pod, "/metrics") for pod in found)
    seen = (_MEMORY.search(answer.body) for answer in answers if answer is not None)
    return round(sum(float(match.group(1)) for match in seen if match))


def _status(
    api: KubernetesApi,
    rollout: Rollout,
    predictor: Predictor,
    *,
    name: str,
    traffic: int,
    edit: str,
) -> PredictorStatus:
    deployments = rollout.of(predictor)
    found = [pod for d in deployments for pod in newest_first(d, rollout.pods_of(d))]
    ready = [pod for pod in found if pods.is_ready(pod)]
    state, reason = _judge(api, rollout, deployments, found)
    if edit:
        state, told = "edited", f"somebody changed it by hand: {edit}"
        reason = f"{told}; {reason}" if reason else told
    return PredictorStatus(
        name=name,
        digest=_digest(api, ready),
        traffic=traffic,
        replicas=len(ready),
        state=state,
        reason=reason,
    )


def _judge(
    api: KubernetesApi,
    rollout: Rollout,
    deployments: Sequence[Manifest],
    found: Sequence[Manifest],
) -> tuple[_State, str]:
    if not deployments:
        failed = described_status(rollout.resource)
        return ("failed", failed) if failed else ("starting", "the operator has not created it yet")
    if not any(d["spec"].get("replicas", 1) for d in deployments):
        return "stopped", "it has no replicas"
    if all(is_rolled_out(d, rollout.pods_of(d)) for d in deployments):
        return "ready", ""
    try:
        events = api.list(EVENT, namespace=rollout.resource["metadata"]["namespace"])
        reason = pods.explain_unready(found, events)
    except FatalStateError as error:
        return "failed", str(error)
    return "starting", reason or "its pods are being replaced"


def _digest(api: KubernetesApi, ready: Iterable[Manifest]) -> str:
    """Return the artifact digest in the first pod's answer; empty if there is none."""
    for pod in ready:
        answer = _ask(api, pod, "/metadata")
        if answer is not None:
            return answer.headers.get(_DIGEST_HEADER, "")
    return ""


def _ask(api: KubernetesApi, pod: Manifest, path: str) -> HttpAnswer | None:
    """Send a request to the pod's HTTP port; None if it does not answer."""
    metadata = pod["metadata"]
    try:
        return api.ask_pod(
            metadata["name"], namespace=metadata["namespace"], port=port_of(pod), path=path
        )
    except PipelineError:
        return None
