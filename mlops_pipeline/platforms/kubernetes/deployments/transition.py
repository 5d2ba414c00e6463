"""From the deployment that a cluster serves to the wanted one, stage by stage, or back.

With a proof, a new predictor is asked alone, through the API server, before it gets traffic.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from mlops_pipeline.clients.errors import (
    ConflictError,
    FatalStateError,
    NotFoundError,
    PipelineError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, KubernetesApi, Manifest
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.deployments.asking import server
from mlops_pipeline.platforms.kubernetes.deployments.manifests import (
    Manifests,
    is_named_in_answers,
    traffic_of,
)
from mlops_pipeline.platforms.kubernetes.deployments.rollout import (
    Rollout,
    describe_unready,
    look,
    remove_leftovers,
    serving,
)
from mlops_pipeline.platforms.kubernetes.deployments.route import Route
from mlops_pipeline.platforms.kubernetes.deployments.stages import Served, Stage, plan, unproved
from mlops_pipeline.platforms.kubernetes.deployments.written import (
    APPLIED_ANNOTATION,
    TEMPLATE_ANNOTATION,
    find_names,
)
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.objects.edits import apply_whole
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.platform import Proof
from mlops_pipeline.platforms.seldon import OUR_PREFIX, Predictor, SeldonDeployment

_log = logging.getLogger(__name__)
_INTERVAL = 0.2
_ATTEMPTS = 3
"""Times that pods may end while they are proved."""
_MOVE_BACK = 10.0
"""Seconds in which the route leads back to the previous version."""
_PATIENCE = 30.0
"""Seconds in which a webhook that was just started must answer."""
_SLOW = 5.0
"""Seconds after which the operator has rolled out what was applied, or reports that it cannot."""
_ROUTE_DELAY = 1.0
"""Seconds in which every part of the gateway receives a route, also where no answer shows it:
istiod collects changes for 0.1 s."""


class Transition:
    """Applies a deployment step by step, and restores what was there if a step fails."""

    def __init__(
        self,
        api: KubernetesApi,
        parts: Parts,
        manifests: Manifests,
        route: Route,
        *,
        before: Manifest | None,
        wanted: SeldonDeployment,
    ) -> None:
        self._api = api
        self._parts = parts
        self._manifests = manifests
        self._route = route
        self._before = before
        self._wanted = wanted
        self._placed = manifests.place(wanted, before)
        self._kept = _kept(before, self._placed)
        self._told = manifests.find_told(before)
        """What a reader gets as long as the traffic does not follow the wanted manifest."""
        self._unproved: tuple[Predictor, ...] = ()
        """Predictors that get no requests yet, and must be proved before they do."""
        self._answers_alike = False
        """Whether the wanted predictors serve an artifact that was served before: then no answer
        shows by which route it came."""
        self.applied: Manifest = before or {}
        """The object as the last step left it."""
        self._is_proved = False
        """Whether the wanted version has the traffic and answered through the gateway."""
        self._sent: Manifest = {}
        """What was sent last: an answer may be lost."""

    def run(self, proof: Proof | None) -> bool:
        """Take every step. Return whether waiting for pods or routes was necessary.

        Raises:
            PipelineError: a step failed; everything is as before, or the wanted version is proved
                and has the traffic.
        """
        stale = _edited(self._api, self._manifests, self._before)
        steps = self._steps(proves=proof is not None)
        with self._undoing(steps) as done:
            waited = False
            for step in steps:
                self._require_untouched()
                self._apply(step)
                waited |= self._wait(step, stale={} if done else stale)
                is_last = step is steps[-1]
                if proof is not None and not done:
                    self._prove_alone(proof, step)
                is_quiet = step.waits_for_route and not step.moves
                if not is_last and (is_quiet or not self._unproved):
                    self._let_route_arrive(step)
                if proof is not None and not self._is_proved and (step.moves or is_last):
                    proof.exposed()
                    self._is_proved = True
                    if not is_last and self._unproved and self._answers_alike:
                        self._let_route_arrive(step)
                done.append(step)
            if waited and self._before is not None and not self._unproved:
                # The gateway may still send requests to pods that were replaced under their name.
                self._parts.clock.sleep(_ROUTE_DELAY)
            if proof is None and self._manifests.are_ours and _answers(self._wanted):
                self._route.wait_until_ready()
        remove_leftovers(self._api, self.applied)
        return waited

    def _steps(self, *, proves: bool) -> list[Stage]:
        """Return the manifests to apply one after the other, the wanted one last."""
        served = Served(self._placed)
        if self._before is not None:
            rollout = look(self._api, self._before)
            there = self._manifests.standing(self._before)
            served = Served(there, traffic_of(rollout.routes), serving(rollout, there))
            self._answers_alike = bool(_digests(there) & _digests(self._placed))
        if proves:
            known = find_names(self._before) if self._before and self._told else ()
            self._unproved = unproved(served, self._placed, known=known)
        return plan(served, self._wanted, self._placed, unproved=self._unproved)

    def _prove_alone(self, proof: Proof, step: Stage) -> None:
        """Ask every new pod through the API server: no request is routed to it yet.

        Raises:
            PipelineError: one does not answer, or not as it should, or pods end again and again.
        """
        for predictor in self._unproved:
            for _ in range(_ATTEMPTS):
                with suppress(NotFoundError):  # The pod was replaced in between.
                    rollout = look(self._api, self.applied)
                    ready = [p for p in rollout.new_pods(predictor) if pods.is_ready(p)]
                    for pod in ready:
                        proof.alone(predictor, server(self._api, pod))
                    if len(ready) >= self._wanted.replicas(predictor):
                        break
                self._wait(step, stale={})
            else:
                raise UnavailableError(
                    f"the pods of {self._wanted.name}, predictor {predictor.name}, do not stay "
                    f"ready, so they get no traffic; see `mlops-pipeline logs {self._wanted.name}`"
                )

    def _apply(self, step: Stage) -> None:
        """Apply, and retry while Seldon's webhook does not answer yet."""
        if step.moves:
            self._told = self._wanted
        wanted, is_last = self._wanted, step.deployment is self._wanted
        self._sent = manifest = self._manifests.render(
            step.deployment,
            kept=self._kept,
            there=self._before,
            is_stage=not is_last,
            told=None if is_last else self._told,
        )

        def describe() -> str | None:
            self.applied = _without_former(self._api, apply_whole(self._api, manifest), manifest)
            return None

        wait_until(
            f"the API of the cluster for {wanted.namespace}/{wanted.name}",
            patiently(describe),
            timeout=_PATIENCE,
            clock=self._parts.clock,
            interval=1,
            hint="see `mlops-pipeline status`",
        )

    def _wait(self, step: Stage, *, stale: Mapping[str, int], timeout: float | None = None) -> bool:
        """Wait until the step is rolled out and routed. Return whether that was necessary."""
        placed = self._manifests.place(step.deployment, self._before)
        start, wanted, resource = self._parts.clock.now(), self._wanted, self.applied
        awaited = None if step.waits_for_route else {p.name for p in self._placed.spec.predictors}

        def describe() -> str | None:
            now = self._require_untouched()
            slow = self._parts.clock.now() - start > _SLOW
            if not slow and _generations(look(self._api, resource)).items() & stale.items():
                return "waiting for Seldon's operator to revert a manual change"
            current = {**resource, "status": now.get("status")}
            return describe_unready(
                self._api, current, placed, slow=slow, awaited=awaited, kept=self._kept
            )

        probe, same = describe, self.is_same
        if same or stale:
            probe = pods.replacing_failed(self._api, probe, lambda: look(self._api, resource).pods)
        probe = patiently(probe)
        if same and probe() is None:
            return False
        try:
            wait_until(
                f"the deployment {wanted.namespace}/{wanted.name}",
                probe,
                timeout=timeout or self._parts.settings.ready_timeout,
                clock=self._parts.clock,
                interval=_INTERVAL,
                hint=f"see `mlops-pipeline logs {wanted.name}`",
            )
        except WaitTimeoutError as error:
            raise WaitTimeoutError(f"{error}{_last_words(self._api, resource)}") from error
        return True

    @property
    def is_same(self) -> bool:
        """Whether the last step changed neither the specification nor the given manifest."""
        before = self._before
        return (
            before is not None
            and before["spec"] == self.applied["spec"]
            and (_given(before) == _given(self.applied))
        )

    def _require_untouched(self) -> Manifest:
        """Return the object as it is now: `_find_untouched`."""
        return _find_untouched(self._api, self._wanted, self.applied)

    @contextmanager
    def _undoing(self, steps: Sequence[Stage]) -> Iterator[list[Stage]]:
        """Restore the previous manifest if a step fails. The caller notes the steps that are done.

        A change that somebody else made since stays. So does a version that is proved and has the
        traffic: only the previous one is left to remove then, which the next apply does.
        """
        done: list[Stage] = []
        try:
            yield done
        except BaseException:
            wanted = self._wanted
            try:
                if not self._is_proved:
                    self._undo(steps, done)
            except PipelineError:
                _log.exception(
                    "could not restore the previous deployment %s/%s",
                    wanted.namespace,
                    wanted.name,
                )
            raise

    def _undo(self, steps: Sequence[Stage], done: Sequence[Stage]) -> None:
        if not _is_any_of(self._api, self._wanted, (self.applied, self._sent, self._before)):
            return
        before, wanted = self._before, self._wanted
        if before is None:
            self._api.delete(SELDON_DEPLOYMENT, wanted.name, namespace=wanted.namespace)
            return
        self._told = self._manifests.find_told(before)
        failed = steps[min(len(done), len(steps) - 1)]
        # The step before the traffic moved still has the predictors that had it.
        if failed.moves and done and done[-1].waits_for_route and not done[-1].moves:
            self._move_back(done[-1])
            if not _is_any_of(self._api, self._wanted, (self.applied, self._sent, self._before)):
                return
        self.applied = self._api.apply(_as_it_was(before)).manifest
        remove_leftovers(self._api, self.applied)

    def _move_back(self, step: Stage) -> None:
        """Give the traffic back to the predictors that had it, which still serve.

        The operator writes a route only while every predictor is ready. If one is not, the restored
        manifest, which is without it, gives the traffic back.
        """
        rollout = look(self._api, self.applied)
        found = [pod for p in self._unproved for pod in rollout.new_pods(p)]
        if not found or not all(map(pods.is_ready, found)):
            return
        try:
            self._apply(step)
            self._wait(step, stale={}, timeout=_MOVE_BACK)
        except PipelineError as error:
            _log.warning("%s", error)
            self._parts.clock.sleep(_ROUTE_DELAY)
            return
        self._let_route_arrive(step)

    def _let_route_arrive(self, step: Stage) -> None:
        """Wait until the gateway has received the route of a step that was rolled out.

        The next step may give traffic to a predictor that the gateway does not know yet. Or it may
        remove where the previous route led to: if the gateway receives both changes at once, it
        removes the destination first. Both are answered with 503.
        """
        placed = self._manifests.place(step.deployment, self._before)
        if shown := _shown_in_answers(placed, self.applied):
            self._route.wait_until_only(shown)
        self._parts.clock.sleep(_ROUTE_DELAY)


def _find_untouched(api: KubernetesApi, wanted: SeldonDeployment, applied: Manifest) -> Manifest:
    """Return the object as it is now, empty if it was not created yet.

    Raises:
        FatalStateError: somebody deleted it.
        ConflictError: it asks for something else than `applied`, or somebody created it.
    """
    now = api.find(SELDON_DEPLOYMENT, wanted.name, namespace=wanted.namespace)
    if now is None and not applied:
        return {}
    if now is None:
        raise FatalStateError(
            f"{wanted.namespace}/{wanted.name} was deleted while it was being rolled out; "
            "apply it again"
        )
    if not applied or _request(now) != _request(applied):
        raise ConflictError(
            f"somebody changed {wanted.namespace}/{wanted.name} while it was being rolled out, "
            "and that change stays. Run the command again to decide on its new state"
        )
    return now


def _kept(before: Manifest | None, placed: SeldonDeployment) -> Mapping[str, Manifest]:
    """Return the existing predictors, by name, that the transition must not change.

    Those are the ones that the wanted deployment does not have, and those whose pods it keeps.
    """
    there = (before["spec"].get("predictors") or ()) if before is not None else ()
    asked = {p.name: p for p in placed.spec.predictors}
    kept = {p["name"]: p for p in there if p["name"] not in asked}
    for found in there:
        predictor = asked.get(found["name"])
        if predictor is not None and predictor.annotations.get(TEMPLATE_ANNOTATION):
            kept[predictor.name] = {**found, "replicas": placed.replicas(predictor)}
    return kept


def _without_former(api: KubernetesApi, applied: Manifest, asked: Manifest) -> Manifest:
    """Remove our annotations that only the manifest before had, and return the object.

    An apply leaves those that were set by another call (`annotate`).
    """
    metadata = applied["metadata"]
    asked_for = asked["metadata"]["annotations"]
    former = {
        name: None
        for name in metadata.get("annotations") or {}
        if name.startswith(OUR_PREFIX) and name not in asked_for
    }
    if not former:
        return applied
    change = {"metadata": {"annotations": former}}
    name, namespace = metadata["name"], metadata["namespace"]
    return api.patch(SELDON_DEPLOYMENT, name, change, namespace=namespace)


def _is_any_of(
    api: KubernetesApi, wanted: SeldonDeployment, ours: Iterable[Manifest | None]
) -> bool:
    """Say whether the object exists as this process, or the one before it, left it."""
    name, namespace = wanted.name, wanted.namespace
    now = api.find(SELDON_DEPLOYMENT, name, namespace=namespace)
    if now is None:
        return False
    if _request(now) in [_request(manifest) for manifest in ours if manifest]:
        return True
    _log.warning("somebody changed %s/%s in the meantime; that change stays", namespace, name)
    return False


def _last_words(api: KubernetesApi, resource: Manifest) -> str:
    """Return the last lines of the logs of pods that are not ready."""
    log = pods.log_reader(api, namespace=resource["metadata"]["namespace"])
    return pods.last_words(look(api, resource).pods, log=log)


def _answers(deployment: SeldonDeployment) -> bool:
    """Say whether any server answers requests once the deployment is there."""
    return any(deployment.replicas(p) for p in deployment.spec.predictors if not p.shadow)


def _shown_in_answers(placed: SeldonDeployment, applied: Manifest) -> set[str]:
    """Return the predictors that get requests; empty if answers do not name every one of them."""
    shares = placed.traffic()
    exposed = [p for p in placed.spec.predictors if shares.get(p.name)]
    there = {p["name"]: p.get("annotations") or {} for p in applied["spec"]["predictors"]}
    named = {p.name for p in exposed if placed.replicas(p) and is_named_in_answers(there[p.name])}
    return named if len(named) == len(exposed) else set()


def _digests(deployment: SeldonDeployment) -> set[str]:
    return {predictor.digest for predictor in deployment.spec.predictors}


def _given(manifest: Manifest) -> object:
    return (manifest["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)


def _request(manifest: Manifest) -> object:
    """Return what an object asks for: its specification, and what this project wrote on it."""
    annotations = (manifest["metadata"].get("annotations") or {}).items()
    return manifest["spec"], {k: text for k, text in annotations if k.startswith(OUR_PREFIX)}


def _edited(api: KubernetesApi, manifests: Manifests, found: Manifest | None) -> Mapping[str, int]:
    """Return uid → generation of the Deployments if somebody changed their pods by hand.

    Their annotations do not show whether the operator has reverted the change: they equal the
    annotations of what was applied.
    """
    is_edited = found is not None and manifests.has_other_pods(found)
    return _generations(look(api, found)) if found is not None and is_edited else {}


def _generations(rollout: Rollout) -> dict[str, int]:
    """Return uid → generation of the Deployments. Each change of the pods increases it."""
    found = (deployment["metadata"] for deployment in rollout.deployments)
    return {metadata["uid"]: metadata.get("generation", 1) for metadata in found}


def _as_it_was(before: Manifest) -> Manifest:
    """Return the manifest that restores the object."""
    metadata = before["metadata"]
    kept = ("name", "namespace", "labels", "annotations")
    return {
        "apiVersion": before["apiVersion"],
        "kind": before["kind"],
        "metadata": {key: metadata[key] for key in kept if metadata.get(key)},
        "spec": before["spec"],
    }
