"""What a run does with the artifact that it chose: replace, begin a release, or go on with one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import NotFoundError, PipelineError, RefusedError
from mlops_pipeline.delivery.adopting import adopt
from mlops_pipeline.delivery.artifacts import check_for_servers, ref_to
from mlops_pipeline.delivery.choosing import Choice
from mlops_pipeline.delivery.deploying import deploy, deployed_ref, seldon_deployment, url_of
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.releases.refusing import describe_failure, find_refusal
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment

Step = Literal["advance", "promote", "abort", "pause", "resume"]
"""What a person, or the sensor of releases, can do with a release in progress."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivered:
    """What serves after a run."""

    deployment: DeploymentRef
    """What has most of the traffic: the stable version while a release is in progress."""
    change: Change
    progress: Progress
    """Its `release` is None where none is in progress."""


def deliver(spec: ModelSpec, choice: Choice, judge: Judge) -> Delivered:
    """Make the chosen artifact serve, by the strategy of its spec.

    An artifact that a person named replaces what serves at once, and so does one of a strategy
    `replace`, and the first one. Otherwise a release begins, or the one in progress takes a step.
    A release also begins where a person ends a pin.

    Raises:
        RefusedError: an earlier release of the artifact here was rolled back.
        PipelineError: it does not start, or does not answer as it should; what served goes on.
    """
    platform = judge.platform
    releases = Releases(spec, platform, by=judge.by)
    running = releases.find()
    is_named = choice.is_pinned or bool(choice.accepted)
    if running is not None and running.phase == "ended":
        _settle(releases, may_fail=is_named)
        running = None
    if running is not None and not (is_named or choice.ends_pin) and stays(running, choice.ref):
        return _delivered(spec, platform, releases.advance())
    begins = not is_named and is_released(spec, choice.ref, platform)
    if not is_named and deployed_ref(spec, platform) != choice.ref:
        _require_no_failure(spec, choice.ref, judge)
    if not begins:
        deployment, change = deploy(
            spec,
            choice.ref,
            platform=platform,
            artifacts=judge.artifacts,
            by=judge.by,
            accepted=choice.accepted,
            is_pinned=choice.is_pinned,
            ends_pin=choice.ends_pin,
        )
        if running is not None:
            releases.supersede(running, f"{choice.ref.digest[:12]} was deployed instead")
        return Delivered(deployment, change, Progress(None))
    adopt(platform)
    check_for_servers(judge.artifacts, choice.ref, they_verify=platform.verifies_when_loading)
    return _delivered(spec, platform, releases.begin(choice.ref, ends_pin=choice.ends_pin))


def _settle(releases: Releases, *, may_fail: bool) -> None:
    """Write the record of a release that has ended. A person's order does not depend on it."""
    try:
        releases.advance()
    except PipelineError as error:
        if not may_fail:
            raise
        _log.warning("the record of the release is not written yet: %s", error)


def act(spec: ModelSpec, platform: Platform, step: Step, *, by: str) -> Delivered:
    """Let the release in progress take a step, because a person or its sensor says so.

    `advance` does nothing if no release is in progress. `abort` works without the object store too.

    Raises:
        ConfigurationError: no release is in progress.
        NotFoundError: nothing is deployed.
        PipelineError: the step could not be taken; the traffic is as before.
    """
    releases = Releases(spec, platform, by=by)
    steps: dict[Step, Callable[[], Progress]] = {
        "advance": releases.advance,
        "promote": releases.promote,
        "abort": releases.abort,
        "pause": releases.pause,
        "resume": releases.resume,
    }
    delivered = _delivered(spec, platform, steps[step]())
    return delivered if step == "advance" else replace(delivered, change=Change("updated"))


def stays(running: Release, ref: ModelRef) -> bool:
    """Say whether the release goes on although a run brings this artifact."""
    if ref.digest == running.candidate:
        return True
    if ref.digest == running.stable:
        return running.ended is None
    return running.plan.competing == "wait" and running.ended is None


def is_released(spec: ModelSpec, ref: ModelRef, platform: Platform) -> bool:
    """Say whether the artifact gets the traffic step by step: something else serves already."""
    if spec.release.strategy == "replace":
        return False
    server = spec.server
    found = platform.deployments.find(server.deployment, namespace=server.namespace)
    if found is None or deployed_ref(spec, platform) is None:
        return False
    wanted = seldon_deployment(spec, ref, secret=platform.object_store_secret()).spec.predictors[0]
    return not any(_runs_same(there, wanted) for there in _main(found))


def _main(found: SeldonDeployment) -> list[Predictor]:
    shares = found.traffic()
    return [p for p in found.spec.predictors if shares.get(p.name, 0) >= 50]


def _runs_same(one: Predictor, other: Predictor) -> bool:
    """Say whether two predictors run the same: replicas, traffic and names do not count."""
    same = {"name": "", "replicas": 1, "traffic": 0, "shadow": False}
    return one.model_copy(update=same) == other.model_copy(update=same)


def _require_no_failure(spec: ModelSpec, ref: ModelRef, judge: Judge) -> None:
    if reason := find_refusal(judge.log, ref, place=place_for(spec, judge.platform)):
        raise RefusedError(describe_failure(ref, reason))


def _delivered(spec: ModelSpec, platform: Platform, progress: Progress) -> Delivered:
    server, serving = spec.server, deployed_ref(spec, platform)
    if serving is None and progress.release is not None:  # Somebody deleted it meanwhile.
        serving = ref_to(spec.name, progress.release.stable)
    if serving is None:
        raise NotFoundError(f"{spec.name} is not deployed; run `mlops-pipeline up {spec.name}`")
    deployment = DeploymentRef(server.deployment, server.namespace, url_of(spec, platform), serving)
    change = Change("updated" if progress.is_step else "unchanged")
    return Delivered(deployment, change, progress)
