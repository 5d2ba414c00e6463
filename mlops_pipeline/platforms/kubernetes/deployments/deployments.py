"""SeldonDeployments in a cluster: apply them, wait until requests are routed, delete them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConflictError,
    UnknownNameError,
)
from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    POD,
    SELDON_DEPLOYMENT,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.waiting import Clock, patiently, wait_until
from mlops_pipeline.platforms.kubernetes.deployments import asking
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.kubernetes.deployments.preparing import Artifacts, Preparation
from mlops_pipeline.platforms.kubernetes.deployments.rollout import Rollout, look
from mlops_pipeline.platforms.kubernetes.deployments.route import Route
from mlops_pipeline.platforms.kubernetes.deployments.statuses import memory_bytes, statuses
from mlops_pipeline.platforms.kubernetes.deployments.transition import Transition
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.endings import (
    find_lasting,
    is_ending,
    wait_for_end,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_mine, is_ours
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import (
    Expected,
    PredictorCounts,
    PredictorStatus,
    Proof,
)
from mlops_pipeline.platforms.seldon import SeldonDeployment

_log = logging.getLogger(__name__)
_INTERVAL = 0.2
_END = 90.0
"""Seconds within which pods must end."""


class Gateway(Protocol):
    """What deployments need from the gateway's layer."""

    def url(self) -> str:
        """Return `http://host:port`.

        Raises:
            NotFoundError: the layer is absent.
        """

    def trust(self) -> str:
        """Return the certificates (PEM) that a client of an https `url` needs."""


class KubernetesDeployments:
    """Deployments whose servers are pods and whose routes belong to Istio.

    During an apply, the serving pods keep running until new ones are ready and, with a proof, have
    been proved. If that fails, the previous manifest is restored, so that the cluster's manifest
    describes what it serves.
    """

    def __init__(
        self,
        parts: Parts,
        manifests: Manifests,
        *,
        artifacts: Artifacts,
        gateway: Gateway,
        get: Callable[..., http.HttpAnswer] = http.get,
    ) -> None:
        self._parts = parts
        self._manifests = manifests
        self._preparation = Preparation(parts, manifests, artifacts)
        self._gateway = gateway
        self._get = get

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        """Start the deployment's pods, then switch the routes without losing a request.

        Raises:
            ConfigurationError: the images in use do not serve it. Nothing was changed.
            InvalidManifestError: its split is sticky, or Seldon's webhook refuses it; has the
                webhook's message. Nothing was changed.
            NotFoundError: the gateway, a secret, a bucket or an artifact does not exist. Nothing
                was changed.
            ConflictError: somebody else created a deployment of that name, or changed it in the
                meantime. Their change stays.
            FatalStateError: a pod cannot become ready; the previous version keeps all traffic.
            UnavailableError: it did not become ready in time; the previous version keeps all
                traffic.
        """
        self._manifests.require_servers(deployment)
        api, url = self._parts.api(), self._url(deployment)
        with self._lock(deployment.name, deployment.namespace, "apply"):
            before = self._find_settled(api, deployment)
            _require_ours(before, "apply")
            if expected is not None:
                found = self._manifests.read(before) if before is not None else None
                expected.require(found, name=f"{deployment.namespace}/{deployment.name}")
            self._preparation.prepare(api, deployment, before)
            start = self._parts.clock.now()
            route = Route(url, trust=self._gateway.trust, get=self._get, clock=self._parts.clock)
            way = Transition(
                api, self._parts, self._manifests, route, before=before, wanted=deployment
            )
            waited = way.run(proof)
            seconds = self._parts.clock.now() - start
        return Change(
            _action(before, is_same=way.is_same, waited=waited),
            {"address": url, **self._facts(api, way.applied), "seconds": round(seconds, 2)},
        )

    def annotate(self, name: str, annotations: Mapping[str, str], *, namespace: str) -> None:
        """Set annotations of a deployment's metadata. Its pods and routes do not change.

        Raises:
            ConflictError: somebody else created it.
        """
        api = self._parts.api()
        with self._lock(name, namespace, "annotate"):
            if (found := self._find(api, name, namespace)) is None:
                return
            _require_ours(found, "annotate")
            change = self._manifests.annotating(found, annotations)
            api.patch(SELDON_DEPLOYMENT, name, change, namespace=namespace)

    def find(self, name: str, *, namespace: str) -> SeldonDeployment | None:
        """Return the deployment as last applied, or None.

        If somebody changed it by hand, its current state is returned.
        """
        api = self._parts.find_api()
        found = self._find(api, name, namespace) if api is not None else None
        return self._manifests.read(found) if found is not None else None

    def list(self) -> Sequence[SeldonDeployment]:
        """Return every deployment as last applied, sorted by namespace and name.

        This includes deployments of others, without the fields that this project does not know.
        """
        api = self._parts.find_api()
        found = api.list(SELDON_DEPLOYMENT) if api is not None else ()
        return sorted(
            (self._manifests.read(manifest) for manifest in found if not is_ending(manifest)),
            key=lambda deployment: (deployment.namespace, deployment.name),
        )

    def damages(self) -> Sequence[str]:
        """Return nothing: the API server keeps its objects consistent."""
        return ()

    def delete(self, name: str, *, namespace: str) -> None:
        """Stop routing to it, let its pods finish, and return when they have ended.

        Raises:
            UnknownNameError: there is no such deployment.
            ConflictError: somebody else created it.
            UnavailableError: its pods did not end in time.
        """
        api = self._parts.api()
        with self._lock(name, namespace, "delete"):
            found = self._find(api, name, namespace)
            if found is None:
                there = ", ".join(f"{d.namespace}/{d.name}" for d in self.list()) or "none"
                raise UnknownNameError(
                    f"there is no deployment {namespace}/{name}; there are: {there}"
                )
            _require_ours(found, "delete")
            left = [pod["metadata"]["name"] for pod in look(api, found).pods]
            api.delete(SELDON_DEPLOYMENT, name, namespace=namespace)
            _wait_for_end(api, found, left, clock=self._parts.clock)

    def delete_ours(self) -> None:
        """Delete every deployment that was created from this state folder.

        Raises:
            UnavailableError: the cluster does not answer, or pods did not end in time.
        """
        api = self._parts.api()
        for found in api.list(SELDON_DEPLOYMENT):
            if is_mine(api, found) and not is_ending(found):
                metadata = found["metadata"]
                self.delete(metadata["name"], namespace=metadata["namespace"])

    def status(self, name: str, *, namespace: str) -> tuple[PredictorStatus, ...]:
        """Return the current status of each predictor. Empty if there is no such deployment."""
        if (there := self._look(name, namespace)) is None:
            return ()
        return statuses(*there, edits=self._manifests.edits(there[1].resource))

    def counts(self, name: str, *, namespace: str) -> tuple[PredictorCounts, ...]:
        """Ask each pod what it has counted. Empty if there is no such deployment.

        Raises:
            UnavailableError: the metrics of a pod are damaged or too large, we may not ask pods, or
                the cluster does not answer.
        """
        there = self._look(name, namespace)
        return asking.counts(*there) if there is not None else ()

    def servers(self, name: str, *, namespace: str) -> Mapping[str, tuple[Predictions, ...]]:
        """Return predictor → its ready pods. Empty if there is no such deployment."""
        there = self._look(name, namespace)
        return asking.ready(*there) if there is not None else {}

    def describe_absence(self, name: str, *, namespace: str) -> str:
        """Say in a few words why there is no such deployment: its namespace may be missing."""
        api = self._parts.find_api()
        if api is None:
            return "not deployed"
        if (found := api.find(NAMESPACE, namespace)) is None:
            return f"not deployed: the namespace {namespace} is missing"
        ending = is_ending(found)
        return f"the namespace {namespace} is being deleted" if ending else "not deployed"

    def describe_conflict(self, name: str, *, namespace: str) -> str:
        """Say that somebody else created the deployment, and what to do. Empty if it is ours."""
        api = self._parts.find_api()
        found = self._find(api, name, namespace) if api is not None else None
        return _conflict(found) if found is not None else ""

    def describe_difference(self, wanted: SeldonDeployment) -> str:
        """Say what the platform's settings would change in the deployment; empty if nothing."""
        api = self._parts.find_api()
        found = self._find(api, wanted.name, wanted.namespace) if api is not None else None
        return self._manifests.difference(found, wanted) if found is not None else ""

    def logs(self, name: str, *, namespace: str, lines: int) -> str:
        """Return the last lines of each container of a deployment's pods, under its name."""
        api = self._parts.api()
        found = api.get(SELDON_DEPLOYMENT, name, namespace=namespace)
        return pods.logs(api, look(api, found).pods, lines=lines)

    def _look(
        self, name: str, namespace: str
    ) -> tuple[KubernetesApi, Rollout, SeldonDeployment] | None:
        """Return the cluster, and the deployment in it; None if either is missing."""
        api = self._parts.find_api()
        found = self._find(api, name, namespace) if api is not None else None
        if api is None or found is None:
            return None
        return api, look(api, found), self._manifests.standing(found)

    def _find(self, api: KubernetesApi, name: str, namespace: str) -> Manifest | None:
        """Return the SeldonDeployment, or None, also if it is being deleted."""
        found = find_lasting(api, SELDON_DEPLOYMENT, name, namespace=namespace)
        return None if found is None or _is_namespace_ending(api, namespace) else found

    def _find_settled(self, api: KubernetesApi, deployment: SeldonDeployment) -> Manifest | None:
        """Return the SeldonDeployment, or None. If it is being deleted, wait for that first.

        A change that is applied to it during its deletion would be deleted with it.
        """
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        wait_for_end(api, NAMESPACE, deployment.namespace, timeout=timeout, clock=clock)
        found = api.find(SELDON_DEPLOYMENT, deployment.name, namespace=deployment.namespace)
        if found is None or not is_ending(found):
            return found
        _wait_for_end(api, found, (), clock=self._parts.clock)
        return self._find(api, deployment.name, deployment.namespace)

    def _url(self, deployment: SeldonDeployment) -> str:
        return f"{self._gateway.url()}/seldon/{deployment.namespace}/{deployment.name}/"

    def _facts(self, api: KubernetesApi, resource: Manifest) -> dict[str, int | float]:
        found = [pod for pod in look(api, resource).pods if pods.is_ready(pod)]
        facts: dict[str, int | float] = {"servers": len(found)}
        if memory := memory_bytes(api, found):
            facts["memory_megabytes"] = round(memory / 1e6)
        return facts

    @contextmanager
    def _lock(self, name: str, namespace: str, verb: str) -> Iterator[None]:
        purpose = f"{verb} {namespace}/{name}"
        with self._parts.locks.held(f"{namespace}.{name}", purpose=purpose):
            yield


def _wait_for_end(
    api: KubernetesApi, found: Manifest, left: Sequence[str], *, clock: Clock
) -> None:
    """Return when a SeldonDeployment and the pods `left` have ended."""
    name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]

    def describe_left() -> str | None:
        there = [pod for pod in left if api.find(POD, pod, namespace=namespace) is not None]
        if there:
            return f"still ending: {', '.join(there)}"
        again = api.find(SELDON_DEPLOYMENT, name, namespace=namespace)
        same = again is not None and again["metadata"].get("uid") == found["metadata"]["uid"]
        return "the SeldonDeployment still exists" if same else None

    wait_until(
        f"the end of {namespace}/{name}",
        patiently(describe_left),
        timeout=_END,
        clock=clock,
        interval=_INTERVAL,
        hint=f"see `kubectl get pods --namespace {namespace}`",
    )


def _is_namespace_ending(api: KubernetesApi, name: str) -> bool:
    found = api.find(NAMESPACE, name)
    return found is not None and is_ending(found)


def _require_ours(found: Manifest | None, verb: str) -> None:
    """Refuse to change a deployment that somebody else created.

    Raises:
        ConflictError: it lacks this project's label.
    """
    if found is not None and (reason := _conflict(found)):
        metadata = found["metadata"]
        raise ConflictError(
            f"could not {verb} {metadata['namespace']}/{metadata['name']}: {reason}"
        )


def _conflict(found: Manifest) -> str:
    if is_ours(found):
        return ""
    place = f"{found['metadata']['name']} --namespace {found['metadata']['namespace']}"
    return (
        "somebody else created it. Delete it yourself "
        f"(`kubectl delete seldondeployment {place}`), or hand it over "
        f"(`kubectl label seldondeployment {place} app.kubernetes.io/managed-by=mlops-pipeline`)"
    )


def _action(
    before: Manifest | None, *, is_same: bool, waited: bool
) -> Literal["created", "updated", "repaired", "unchanged"]:
    if before is None:
        return "created"
    if not is_same:
        return "updated"
    return "repaired" if waited else "unchanged"
