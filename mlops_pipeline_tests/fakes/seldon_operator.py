"""Seldon's operator and Kubernetes' controllers, in memory: a step with each moment that passes."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    POD,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.prediction import PATH, UNRECORDED
from mlops_pipeline.platforms.kubernetes.deployments.written import TEMPLATE_ANNOTATION
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION
from mlops_pipeline_tests.fakes import predictions
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.kubernetes import Asked, FakeKubernetes

READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
CRASHING = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "name": "classifier",
            "ready": False,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 4}},
        }
    ],
}
STARTING = {
    "phase": "Pending",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {"name": "classifier", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    ],
}
_NOT_FOUND = HttpAnswer(404, {}, b"")


class FakeOperator:
    """Makes Deployments, pods and a VirtualService of each SeldonDeployment that is applied.

    New pods are ready at the next step, or have the status `stuck`, or that of their digest in
    `stuck_digests`. `image` is what the operator takes instead of what the manifest asks for;
    `silent`: it does nothing at all. `refused` is why no pod can be made, `routes` whether it
    writes routes. `answered` is pod → requests of clients that it has answered.
    """

    def __init__(self, api: FakeKubernetes, clock: FakeClock) -> None:
        self.stuck: Mapping[str, Any] | None = None
        self.stuck_digests: dict[str, Mapping[str, Any]] = {}
        self.image = ""
        self.silent = False
        self.refused = ""
        self.overdue = False
        self.routes = True
        self.memory = 200_000_000
        self.answered: Counter[str] = Counter()
        self._api = api
        self._count = 0
        clock.steps.append(self.step)
        api.when_applied("SeldonDeployment", self.take_up)

    def step(self) -> None:
        """Let every pod become ready that can, and everything go whose owner is gone."""
        there = {m["metadata"]["uid"]: m for m in self._api.list(SELDON_DEPLOYMENT)}
        for deployment in self._api.list(DEPLOYMENT):
            owner = there.get(_owner(deployment))
            if owner is None:
                self._drop(deployment)
            else:
                self._roll(deployment)
        there_are = [d["spec"]["selector"]["matchLabels"] for d in self._api.list(DEPLOYMENT)]
        for pod in self._api.list(POD):
            labels = pod["metadata"]["labels"].items()
            if not any(selector.items() <= labels for selector in there_are):
                self._forget(POD, pod)
        for route in self._api.list(VIRTUAL_SERVICE):
            if _owner(route) not in there:
                self._forget(VIRTUAL_SERVICE, route)
        for resource in there.values():
            self._route(resource)

    def pods(self) -> list[Manifest]:
        return list(self._api.list(POD))

    def take_up(self, resource: Manifest) -> None:
        if self.silent:
            return
        for place, predictor in enumerate(resource["spec"]["predictors"]):
            self._make(resource, predictor, place)

    def _make(self, resource: Manifest, predictor: Mapping[str, Any], place: int) -> None:
        metadata = resource["metadata"]
        name = f"{metadata['name']}-{predictor['name']}-0-{predictor['graph']['name']}"
        version = (predictor.get("labels") or {}).get("version", predictor["name"])
        labels = {
            "seldon-deployment-id": metadata["name"],
            "seldon-app": f"{metadata['name']}-{predictor['name']}",
            "version": version,
        }
        annotations = predictor.get("annotations") or {}
        container = {
            "name": "tfserving"
            if _is_forwarded(resource, predictor)
            else predictor["graph"]["name"],
            "image": self.image or _image(predictor) or "upstream:1",
            "ports": _ports(predictor) or [{"name": "metrics", "containerPort": 6000 + place}],
        }
        before = self._api.find(DEPLOYMENT, name, namespace=metadata["namespace"])
        spec = {
            "replicas": predictor["replicas"],
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"annotations": annotations, "labels": labels},
                "spec": {"containers": [container]},
            },
        }
        generation = before["metadata"]["generation"] + (spec != before["spec"]) if before else 1
        self._api.put(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "generation": generation,
                    "ownerReferences": [{"uid": metadata["uid"]}],
                },
                "spec": spec,
                "status": (before or {}).get("status", {}),
            }
        )

    def _roll(self, deployment: Manifest) -> None:
        metadata, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        template = _template(deployment["spec"]["template"])
        new = [p for p in self._of(deployment) if _template(p) == template]
        while len(new) < wanted and not self.refused:
            new.append(self._start(deployment))
        ready, stuck = 0, self._stuck(deployment)
        for pod in new[:wanted]:
            self._api.put({**pod, "status": stuck or READY})
            ready += not stuck
        if ready == wanted and not self.refused:
            for pod in self._of(deployment):
                if pod["metadata"]["name"] not in {p["metadata"]["name"] for p in new[:wanted]}:
                    self._forget(POD, pod)
        old = len([p for p in self._of(deployment) if _template(p) != template])
        conditions = [{"type": "Progressing", "status": "True"}]
        if self.refused:
            failure = {"type": "ReplicaFailure", "status": "True", "message": self.refused}
            conditions.append(failure)
        if self.overdue:
            conditions[0] |= {"status": "False", "reason": "ProgressDeadlineExceeded"}
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": len(new[:wanted]) + old,
            "updatedReplicas": len(new[:wanted]),
            "availableReplicas": ready + old,
            "conditions": conditions,
        }
        self._api.put({**deployment, "status": status})

    def _stuck(self, deployment: Manifest) -> Mapping[str, Any] | None:
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        return self.stuck or self.stuck_digests.get(annotations.get(DIGEST_ANNOTATION, ""))

    def _start(self, deployment: Manifest) -> Manifest:
        self._count += 1
        namespace, name = deployment["metadata"]["namespace"], f"pod-{self._count}"
        template = deployment["spec"]["template"]
        digest = template["metadata"]["annotations"].get(DIGEST_ANNOTATION, "")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": name, "namespace": namespace},
            "spec": {
                "containers": [
                    {**c, "ports": [{"name": "http", "containerPort": 9000}]}
                    for c in template["spec"]["containers"]
                ]
            },
            "status": STARTING,
        }
        self._api.put(pod)
        self._api.servers[namespace, name] = partial(self._answer, digest, self._count)
        return pod

    def _answer(self, digest: str, number: int, asked: Asked) -> HttpAnswer:
        """Answer as the model server in the pod of this number does."""
        if asked.method == "POST":
            if asked.path != PATH:
                return _NOT_FOUND
            if UNRECORDED.items() - asked.headers.items():
                self.answered[f"pod-{number}"] += 1
            return predictions.answer(asked.body, digest=digest)
        page = predictions.metrics_page(
            answered=self.answered[f"pod-{number}"],
            started=1000.0 + number,
            digest=digest,
            more=f"process_resident_memory_bytes {self.memory}",
        )
        return HttpAnswer(200, {"x-model-digest": digest}, page.encode())

    def _route(self, resource: Manifest) -> None:
        """Write the route, as the operator does, once every wanted Deployment has ready pods.

        Only then it deletes the Deployments of other predictors, of those that ever had a pod.
        """
        metadata = resource["metadata"]
        mine = [d for d in self._api.list(DEPLOYMENT) if _owner(d) == metadata["uid"]]
        versions = {
            (p.get("labels") or {}).get("version", p["name"])
            for p in resource["spec"]["predictors"]
        }
        wanted = [d for d in mine if d["metadata"]["labels"]["version"] in versions]
        ready = all(
            d["status"]["updatedReplicas"] == d["spec"]["replicas"] > 0 and not self._stuck(d)
            for d in wanted
        )
        if not wanted or not ready or not self.routes or self.refused:
            return
        for deployment in mine:
            if deployment not in wanted and deployment["status"]["replicas"]:
                self._drop(deployment)
        live = [p for p in resource["spec"]["predictors"] if not p.get("shadow")]
        shadows = [p for p in resource["spec"]["predictors"] if p.get("shadow")]
        rule: dict[str, Any] = {"route": [_destination(p) for p in live]}
        annotations = metadata.get("annotations") or {}
        gateway = annotations.get("seldon.io/istio-gateway", "istio-system/seldon-gateway")
        if shadows:
            rule["mirror"] = {"subset": shadows[0]["name"]}
        self._api.put(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "ownerReferences": [{"uid": metadata["uid"]}],
                },
                "spec": {"gateways": [gateway], "http": [rule, {"route": []}]},
            }
        )
        for predictor in resource["spec"]["predictors"]:
            self._rule(metadata, predictor)

    def _rule(self, metadata: Mapping[str, Any], predictor: Mapping[str, Any]) -> None:
        name, namespace = f"{metadata['name']}-{predictor['name']}", metadata["namespace"]
        named = {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [{"uid": metadata["uid"]}],
        }
        host = f"{name}.{namespace}.svc.cluster.local"
        self._api.put(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": named,
                "spec": {"host": host, "subsets": [{"name": predictor["name"]}]},
            }
        )

    def _of(self, deployment: Manifest) -> list[Manifest]:
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        pods = self._api.list(POD, namespace=deployment["metadata"]["namespace"])
        return [p for p in pods if selector <= p["metadata"]["labels"].items()]

    def _drop(self, deployment: Manifest) -> None:
        for pod in self._of(deployment):
            self._forget(POD, pod)
        self._forget(DEPLOYMENT, deployment)

    def _forget(self, resource: Resource, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        self._api.drop(resource, metadata["name"], namespace=metadata["namespace"])


def _owner(manifest: Manifest) -> str:
    return str(manifest["metadata"]["ownerReferences"][0]["uid"])


def _template(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION))


def _is_forwarded(resource: Manifest, predictor: Mapping[str, Any]) -> bool:
    if predictor["graph"].get("implementation") != "TENSORFLOW_SERVER":
        return False
    return bool(resource["spec"].get("protocol") != "tensorflow")


def _image(predictor: Mapping[str, Any]) -> str:
    """Return the image of the container that loads the model: the last one."""
    for component in predictor.get("componentSpecs") or ():
        return str(component["spec"]["containers"][-1].get("image", ""))
    return ""


def _ports(predictor: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ports that the manifest gives to the unit's container."""
    for component in predictor.get("componentSpecs") or ():
        for container in component["spec"]["containers"]:
            if container["name"] == predictor["graph"]["name"]:
                return list(container.get("ports") or ())
    return []


def _destination(predictor: Mapping[str, Any]) -> dict[str, Any]:
    weight = {"weight": predictor["traffic"]} if predictor.get("traffic") else {}
    return {"destination": {"subset": predictor["name"]}, **weight}
