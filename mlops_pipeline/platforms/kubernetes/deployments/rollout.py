"""What Seldon's operator has made of a SeldonDeployment, and whether that is what was asked for.

The SeldonDeployment's own status is not asked: `Available` may be that of the version before, since
the operator never writes `observedGeneration`, and it says nothing about the route.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    EVENT,
    POD,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.deployments.manifests import (
    IMAGE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    loader,
    mirrors_of,
    traffic_of,
)
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.kubernetes.objects.workloads import is_rolled_out
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment

ID_LABEL = "seldon-deployment-id"
_PASSING = (
    "status unknown for quota",
    "error looking up service account",
    "timed out",
    "failed calling webhook",
)
"""Words of refusals of a pod that Kubernetes gets over by itself: it goes on trying."""
_FINAL = (2, 3, 4)
"""Exit codes of our model server for what a restart cannot help: a bad parameter, an artifact that
is not what its manifest says, a model that does not load."""


@dataclass(frozen=True)
class Rollout:
    """The objects that belong to one SeldonDeployment now."""

    resource: Manifest
    """The SeldonDeployment itself."""
    deployments: tuple[Manifest, ...]
    pods: tuple[Manifest, ...]
    routes: tuple[Manifest, ...]
    """Its VirtualServices."""

    def of(self, predictor: Predictor) -> list[Manifest]:
        """Return the Deployments of a predictor: one, in graphs of one unit."""
        version = predictor.labels.get("version", predictor.name)
        return [d for d in self.deployments if _label(d, "version") == version]

    def pods_of(self, deployment: Manifest) -> list[Manifest]:
        """Return the pods that a Deployment selects, of whichever of its versions."""
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        return [p for p in self.pods if selector <= (p["metadata"].get("labels") or {}).items()]


def look(api: KubernetesApi, resource: Manifest) -> Rollout:
    """Return what there is of a SeldonDeployment. Owners and labels tell, no name is guessed."""
    namespace, uid = resource["metadata"]["namespace"], resource["metadata"]["uid"]
    deployments = api.list(DEPLOYMENT, namespace=namespace, labels=ID_LABEL)
    routes = api.list(VIRTUAL_SERVICE, namespace=namespace)
    found = Rollout(
        resource,
        tuple(d for d in deployments if _is_owned(d, uid)),
        (),
        tuple(r for r in routes if _is_owned(r, uid)),
    )
    ids = {_label(d, ID_LABEL) for d in found.deployments}
    every = api.list(POD, namespace=namespace, labels=ID_LABEL)
    mine = tuple(p for p in every if _label(p, ID_LABEL) in ids)
    return Rollout(resource, found.deployments, mine, found.routes)


def describe_unready(
    api: KubernetesApi, resource: Manifest, wanted: SeldonDeployment, *, slow: bool = False
) -> str | None:
    """Say what is still to come of what was applied as `resource`; None when nothing is.

    `slow` says that it takes long: what the operator says is no longer about the version before.

    Raises:
        FatalStateError: a pod cannot become ready, or cannot be made; the reason and its log.
    """
    rollout = look(api, resource)
    namespace = wanted.namespace
    log = pods.log_reader(api, namespace=namespace)
    events = api.list(EVENT, namespace=namespace)
    _require_taken_up(rollout, wanted, slow=slow)
    reasons = [
        _describe_predictor(rollout, wanted, predictor, events, log)
        for predictor in wanted.spec.predictors
    ]
    if unready := "; ".join(reason for reason in reasons if reason):
        return unready
    return _describe_route(rollout, wanted)


def ready_shares(
    api: KubernetesApi, resource: Manifest, there: SeldonDeployment
) -> Mapping[str, int]:
    """Return the percent of the live requests that each ready predictor gets, as they are routed.

    Empty where one that is routed to is not ready.
    """
    rollout = look(api, resource)
    routed = traffic_of(rollout.routes)
    live = [p for p in there.spec.predictors if not p.shadow]
    ready = {p.name: routed.get(p.name, 0) for p in live if _is_ready(rollout, there, p)}
    return ready if sum(ready.values()) == 100 else {}


def described_status(resource: Manifest) -> str:
    """Return what the operator says that it failed in; empty where it says nothing."""
    status = resource.get("status") or {}
    return str(status.get("description", "")) if status.get("state") == "Failed" else ""


def newest_first(deployment: Manifest, found: Sequence[Manifest]) -> list[Manifest]:
    """Sort pods: those of the Deployment's newest version before those that they replace."""
    template = _template(deployment)
    return sorted(found, key=lambda pod: _annotation(pod, TEMPLATE_ANNOTATION) != template)


def _describe_predictor(
    rollout: Rollout,
    wanted: SeldonDeployment,
    predictor: Predictor,
    events: Sequence[Manifest],
    log: pods.Log,
) -> str:
    template, made = _made(rollout, predictor)
    if not made:
        return f"Seldon's operator has not taken up {predictor.name} yet"
    for deployment in made:
        _require_image(deployment, wanted, predictor)
        replicas = wanted.replicas(predictor)
        if deployment["spec"].get("replicas", 1) != replicas:
            return f"Seldon's operator has not scaled {predictor.name} to {replicas} yet"
        found = rollout.pods_of(deployment)
        if is_rolled_out(deployment, found):
            continue
        current = [
            pod
            for pod in found
            if is_ending(pod) or _annotation(pod, TEMPLATE_ANNOTATION) == template
        ]
        reason = pods.explain_unready(current, events, log=log, final_exit_codes=_FINAL)
        _require_possible(deployment, current)
        refused = _condition(deployment.get("status") or {}, "ReplicaFailure").get("message", "")
        why = "; ".join(filter(None, (reason, refused)))
        return f"{predictor.name}: {why or _progress(deployment)}"
    return ""


def _is_ready(rollout: Rollout, wanted: SeldonDeployment, predictor: Predictor) -> bool:
    _, made = _made(rollout, predictor)
    replicas = wanted.replicas(predictor)
    return bool(made) and all(
        d["spec"].get("replicas", 1) == replicas and is_rolled_out(d, rollout.pods_of(d))
        for d in made
    )


def _made(rollout: Rollout, predictor: Predictor) -> tuple[str, list[Manifest]]:
    """Return the digest of what a predictor's pods must run, and the Deployments that say so."""
    predictors = rollout.resource["spec"]["predictors"]
    plain: Manifest = next((p for p in predictors if p["name"] == predictor.name), {})
    template = str((plain.get("annotations") or {}).get(TEMPLATE_ANNOTATION, ""))
    return template, [d for d in rollout.of(predictor) if _template(d) == template]


def _require_taken_up(rollout: Rollout, wanted: SeldonDeployment, *, slow: bool) -> None:
    """Refuse what the operator cannot make anything of.

    Raises:
        FatalStateError: in its words.
    """
    failed = described_status(rollout.resource)
    if slow and failed and not all(_made(rollout, p)[1] for p in wanted.spec.predictors):
        raise FatalStateError(
            f"Seldon's operator cannot make {wanted.namespace}/{wanted.name}: {failed}; "
            "mend the manifest"
        )


def _require_image(deployment: Manifest, wanted: SeldonDeployment, predictor: Predictor) -> None:
    """Refuse a Deployment that the operator made with another image than ours.

    Raises:
        FatalStateError: the operator knows of another one.
    """
    template = deployment["spec"]["template"]
    expected = _annotation(template, IMAGE_ANNOTATION)
    name = loader(predictor, wanted.spec.protocol)
    images = [c.get("image", "") for c in template["spec"]["containers"] if c["name"] == name]
    if expected and expected not in images:
        raise FatalStateError(
            f"Seldon's operator serves {wanted.namespace}/{wanted.name} with "
            f"{', '.join(images) or 'no image'} instead of {expected}; "
            "`mlops-pipeline up seldon_core` tells it which image to take"
        )


def _require_possible(deployment: Manifest, found: Sequence[Manifest]) -> None:
    """Refuse what Kubernetes has given up, or does not let be made.

    Raises:
        FatalStateError: a quota or a policy is in the way, or too much time has gone by.
    """
    status, name = deployment.get("status") or {}, deployment["metadata"]["name"]
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return
    refused = _condition(status, "ReplicaFailure")
    passing = any(words in str(refused.get("message", "")) for words in _PASSING)
    if refused.get("status") == "True" and not passing and not any(map(is_ending, found)):
        raise FatalStateError(
            f"no pod can be made for the Deployment {name}: {refused.get('message', '')}; "
            "raise the quota or ask for less"
        )
    progress = _condition(status, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        raise FatalStateError(
            f"the Deployment {name} has given up: {progress.get('message', '')} "
            f"({pods.describe_unready(found) or 'its pods are ready by now'})"
        )


def _describe_route(rollout: Rollout, wanted: SeldonDeployment) -> str | None:
    shadows = {p.name for p in wanted.spec.predictors if p.shadow}
    routed, mirrored = traffic_of(rollout.routes), mirrors_of(rollout.routes)
    if routed == wanted.traffic() and mirrored == shadows:
        return None
    shown = ", ".join(f"{name} {share} %" for name, share in sorted(routed.items()))
    return f"its route is not the new one yet: it leads to {shown or 'nothing'}"


def _progress(deployment: Manifest) -> str:
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    return (
        f"{status.get('updatedReplicas', 0)} of {wanted} new pods made, "
        f"{status.get('availableReplicas', 0)} ready in all"
    )


def _template(deployment: Manifest) -> str:
    return _annotation(deployment["spec"]["template"], TEMPLATE_ANNOTATION)


def _annotation(manifest: Mapping[str, Any], name: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, ""))


def _label(manifest: Manifest, name: str) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(name, ""))


def _is_owned(manifest: Manifest, uid: str) -> bool:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = status.get("conditions") or ()
    found: Mapping[str, Any] = next((c for c in conditions if c.get("type") == kind), {})
    return found
