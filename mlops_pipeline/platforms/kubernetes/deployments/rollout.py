"""The objects that Seldon's operator created for a SeldonDeployment, compared with the wanted ones.

The SeldonDeployment's own status is not used: `Available` may belong to the previous version,
because the operator never writes `observedGeneration`, and it does not include the route.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.clients.errors import FatalStateError, PipelineError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    DESTINATION_RULE,
    EVENT,
    POD,
    VIRTUAL_SERVICE,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.deployments.manifests import mirrors_of, traffic_of
from mlops_pipeline.platforms.kubernetes.deployments.written import TEMPLATE_ANNOTATION
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.kubernetes.objects.workloads import is_rolled_out
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment

_log = logging.getLogger(__name__)
ID_LABEL = "seldon-deployment-id"
HIDDEN_GATEWAY = "mlops-pipeline-without-traffic"
"""The name of a Gateway that does not exist: a VirtualService with it alone routes nothing."""
_PASSING = (
    "status unknown for quota",
    "error looking up service account",
    "timed out",
    "failed calling webhook",
)
"""Parts of messages about a refused pod that are temporary: Kubernetes retries by itself."""
_FINAL = (2, 3, 4)
"""Exit codes of our model server for errors that a restart does not correct: an invalid parameter,
an artifact that differs from its manifest, a model that does not load."""


@dataclass(frozen=True)
class Rollout:
    """The current objects of one SeldonDeployment."""

    resource: Manifest
    """The SeldonDeployment itself."""
    deployments: tuple[Manifest, ...]
    pods: tuple[Manifest, ...]
    routes: tuple[Manifest, ...]
    """Its VirtualServices that lead from a gateway to it."""

    def of(self, predictor: Predictor) -> list[Manifest]:
        """Return the Deployments of a predictor: a graph of one unit has one."""
        version = predictor.labels.get("version", predictor.name)
        return [d for d in self.deployments if _label(d, "version") == version]

    def pods_of(self, deployment: Manifest) -> list[Manifest]:
        """Return the pods that a Deployment selects, of all its versions."""
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        return [p for p in self.pods if selector <= (p["metadata"].get("labels") or {}).items()]

    def new_pods(self, predictor: Predictor) -> list[Manifest]:
        """Return the pods of a predictor that run what its manifest asks for."""
        template, made = _made(self, predictor)
        found = (pod for deployment in made for pod in self.pods_of(deployment))
        return [p for p in found if _annotation(p, TEMPLATE_ANNOTATION) == template]


def look(api: KubernetesApi, resource: Manifest) -> Rollout:
    """Return the objects of a SeldonDeployment, found by owners and labels, not by names."""
    namespace, uid = resource["metadata"]["namespace"], resource["metadata"]["uid"]
    deployments = api.list(DEPLOYMENT, namespace=namespace, labels=ID_LABEL)
    routes = api.list(VIRTUAL_SERVICE, namespace=namespace)
    found = Rollout(
        resource,
        tuple(d for d in deployments if _is_owned(d, uid)),
        (),
        tuple(r for r in routes if _is_owned(r, uid) and not _is_hidden(r)),
    )
    ids = {_label(d, ID_LABEL) for d in found.deployments}
    every = api.list(POD, namespace=namespace, labels=ID_LABEL)
    mine = tuple(p for p in every if _label(p, ID_LABEL) in ids)
    return Rollout(resource, found.deployments, mine, found.routes)


def describe_unready(
    api: KubernetesApi,
    resource: Manifest,
    wanted: SeldonDeployment,
    *,
    slow: bool = False,
    awaited: Collection[str] | None = None,
    kept: Collection[str] = (),
) -> str | None:
    """Say what is not ready yet of `resource`, which was applied; None if all is ready.

    With `slow`, enough time has passed that the operator's status is about this version, not about
    the previous one. If `awaited` names predictors, only their pods count, and no route. The images
    of predictors that are only `kept` are not ours to judge.

    Raises:
        FatalStateError: a pod cannot become ready, or cannot be created; has the reason and log.
    """
    rollout = look(api, resource)
    namespace = wanted.namespace
    log = pods.log_reader(api, namespace=namespace)
    events = api.list(EVENT, namespace=namespace)
    _require_taken_up(rollout, wanted, slow=slow)
    for predictor in wanted.spec.predictors:
        if predictor.name not in kept:
            _require_images(rollout, wanted, predictor)
    reasons = [
        _describe_predictor(rollout, wanted, predictor, events, log)
        for predictor in wanted.spec.predictors
        if awaited is None or predictor.name in awaited
    ]
    if unready := "; ".join(reason for reason in reasons if reason):
        return unready
    # The operator writes no route while a predictor has no ready server.
    is_routed = awaited is None and all(map(wanted.replicas, wanted.spec.predictors))
    return _describe_route(rollout, wanted) if is_routed else None


def serving(rollout: Rollout, there: SeldonDeployment) -> frozenset[str]:
    """Return the predictors whose servers are all ready; one without replicas serves nothing."""
    live = [p for p in there.spec.predictors if not p.shadow and there.replicas(p)]
    return frozenset(p.name for p in live if _is_ready(rollout, there, p))


def described_status(resource: Manifest) -> str:
    """Return the failure that the operator reports; empty if it reports none."""
    status = resource.get("status") or {}
    return str(status.get("description", "")) if status.get("state") == "Failed" else ""


def newest_first(deployment: Manifest, found: Sequence[Manifest]) -> list[Manifest]:
    """Sort pods: the pods of the Deployment's newest version come first."""
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
        return f"waiting for Seldon's operator to roll out {predictor.name}"
    for deployment in made:
        replicas = wanted.replicas(predictor)
        if deployment["spec"].get("replicas", 1) != replicas:
            return f"waiting for Seldon's operator to scale {predictor.name} to {replicas}"
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
    """Return the digest of what a predictor's pods must run, and the Deployments with it."""
    predictors = rollout.resource["spec"]["predictors"]
    plain: Manifest = next((p for p in predictors if p["name"] == predictor.name), {})
    template = str((plain.get("annotations") or {}).get(TEMPLATE_ANNOTATION, ""))
    return template, [d for d in rollout.of(predictor) if _template(d) == template]


def _require_taken_up(rollout: Rollout, wanted: SeldonDeployment, *, slow: bool) -> None:
    """Refuse a SeldonDeployment that the operator cannot reconcile.

    Raises:
        FatalStateError: has the operator's message.
    """
    failed = described_status(rollout.resource)
    if slow and failed and not all(_made(rollout, p)[1] for p in wanted.spec.predictors):
        raise FatalStateError(
            f"Seldon's operator cannot deploy {wanted.namespace}/{wanted.name}: {failed}; "
            "correct the manifest"
        )


def _require_images(rollout: Rollout, wanted: SeldonDeployment, predictor: Predictor) -> None:
    """Refuse Deployments for which the operator chose another image than the manifest.

    It does so for the container before TF Serving: its configuration names that image alone
    (`seldondeployment_prepackaged_servers.go`).

    Raises:
        FatalStateError: names the container and both images.
    """
    found = rollout.resource["spec"]["predictors"]
    plain: Manifest = next((p for p in found if p["name"] == predictor.name), {})
    asked = {
        container["name"]: container["image"]
        for component in plain.get("componentSpecs") or ()
        for container in component["spec"]["containers"]
        if "image" in container
    }
    for deployment in _made(rollout, predictor)[1]:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            name, image = container["name"], container.get("image", "no image")
            if image != asked.get(name, image):
                raise FatalStateError(
                    f"Seldon's operator runs the container {name} of "
                    f"{wanted.namespace}/{wanted.name} with {image} instead of {asked[name]}; "
                    "configure the operator with `mlops-pipeline up seldon_core`, or set "
                    "predictor_servers in its configuration, see docs/kubernetes.md"
                )


def _require_possible(deployment: Manifest, found: Sequence[Manifest]) -> None:
    """Refuse a Deployment that exceeded its deadline, or whose pods Kubernetes refuses.

    Raises:
        FatalStateError: a quota or a policy forbids its pods, or it exceeded its deadline.
    """
    status, name = deployment.get("status") or {}, deployment["metadata"]["name"]
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return
    refused = _condition(status, "ReplicaFailure")
    passing = any(words in str(refused.get("message", "")) for words in _PASSING)
    if refused.get("status") == "True" and not passing and not any(map(is_ending, found)):
        raise FatalStateError(
            f"could not create pods for the Deployment {name}: {refused.get('message', '')}; "
            "raise the quota or request fewer resources"
        )
    progress = _condition(status, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        raise FatalStateError(
            f"the Deployment {name} exceeded its deadline: {progress.get('message', '')} "
            f"({pods.describe_unready(found) or 'its pods are ready now'})"
        )


def _describe_route(rollout: Rollout, wanted: SeldonDeployment) -> str | None:
    shadows = {p.name for p in wanted.spec.predictors if p.shadow}
    routed, mirrored = traffic_of(rollout.routes), mirrors_of(rollout.routes)
    if routed == wanted.traffic() and mirrored == shadows:
        return None
    shown = ", ".join(f"{name} {share} %" for name, share in sorted(routed.items()))
    return f"waiting for the new route: requests still go to {shown or 'nothing'}"


def _progress(deployment: Manifest) -> str:
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    return (
        f"{status.get('updatedReplicas', 0)} of {wanted} new pods created, "
        f"{status.get('availableReplicas', 0)} ready in total"
    )


def remove_leftovers(api: KubernetesApi, resource: Manifest) -> None:
    """Delete the DestinationRules and Deployments of predictors that the resource does not have.

    Seldon's operator leaves the rules behind, and a Deployment that never had a pod. Whatever the
    route still leads to stays. A failure is logged: the next apply tries again.
    """
    try:
        _remove_leftovers(api, resource)
    except PipelineError as error:
        _log.warning("could not delete what an earlier version left: %s", error)


def _remove_leftovers(api: KubernetesApi, resource: Manifest) -> None:
    rollout, namespace = look(api, resource), resource["metadata"]["namespace"]
    kept = {predictor["name"] for predictor in resource["spec"]["predictors"]}
    kept |= {name for name, share in traffic_of(rollout.routes).items() if share}
    for rule in api.list(DESTINATION_RULE, namespace=namespace):
        subsets = {subset.get("name") for subset in rule["spec"].get("subsets") or ()}
        if _is_owned(rule, resource["metadata"]["uid"]) and not subsets & kept:
            api.delete(DESTINATION_RULE, rule["metadata"]["name"], namespace=namespace)
    versions = {p["name"]: (p.get("labels") or {}) for p in resource["spec"]["predictors"]}
    kept |= {labels.get("version", name) for name, labels in versions.items()}
    for deployment in rollout.deployments:
        if _label(deployment, "version") not in kept:
            api.delete(DEPLOYMENT, deployment["metadata"]["name"], namespace=namespace)


def port_of(pod: Manifest) -> int:
    """Return the port on which a pod answers over HTTP.

    The operator counts ports up from 9000 over the units of all predictors, and names them.
    """
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == "http":
                return int(port["containerPort"])
    return 9000


def _is_hidden(route: Manifest) -> bool:
    return list(route["spec"].get("gateways") or ()) == [HIDDEN_GATEWAY]


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
