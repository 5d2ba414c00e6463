"""What a run would do about a release, in sentences: found out without changing anything."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.delivering import is_released, stays
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.releases.refusing import describe_failure, find_refusal
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.telling import is_held, tell
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.platform import Platform

_FEW = 10.0
"""Seconds of a server's life that say nothing about the rate of its requests."""


@dataclass(frozen=True)
class Running:
    """What a run would do where a release is in progress."""

    action: Literal["release", "held"]
    """`held`: nothing, because a person must decide first."""
    reason: str


def plan_running(spec: ModelSpec, ref: ModelRef | None, platform: Platform) -> Running | None:
    """Say how the release in progress stands, and what `ref` does to it; None without one.

    `ref` is the artifact that a run brings, None for one that is to be trained.

    Raises:
        IntegrityError: the state of the release is damaged.
        UnavailableError: the object store does not say whether `ref` is refused.
    """
    releases = Releases(spec, platform, by="plan")
    running = releases.find()
    if running is None:
        return None
    progress, unknown = Progress(running), ""
    try:
        progress = releases.look()
    except UnavailableError as error:
        unknown = f"; its evidence is unknown: {error}"
    told = tell(progress, spec.name) + unknown
    action: Literal["release", "held"] = "held" if is_held(running, progress.action) else "release"
    if ref is not None and stays(running, ref):
        waits = ref.digest not in (running.candidate, running.stable)
        return Running(action, told + f"; the newer artifact {ref.digest[:12]} waits" * waits)
    if running.ended is not None:
        return _plan_next(spec, ref, platform, running=running, told=told)
    newer = "a new artifact" if ref is None else ref.digest[:12]
    if running.plan.competing == "wait":
        return Running(action, f"{told}; {newer} waits for the end of this release")
    return Running("release", f"{newer} supersedes a release that has not ended: {told}")


def _plan_next(
    spec: ModelSpec, ref: ModelRef | None, platform: Platform, *, running: Release, told: str
) -> Running:
    """Say what `ref` does to a deployment whose last release has ended, and is not finished."""
    if ref is not None and (refusal := describe_failed_release(spec, ref, platform)):
        return Running("held", f"{told}; {refusal}")
    newer = "a new artifact" if ref is None else ref.digest[:12]
    start = describe_start(spec, ref, platform) or f"{newer} is deployed instead"
    return Running("release", f"{told}; {start}")


def describe_start(
    spec: ModelSpec,
    ref: ModelRef | None,
    platform: Platform,
    *,
    now: Callable[[], float] = time.time,
) -> str:
    """Say how a run would release `ref`, None for one that is to be trained.

    Empty where the run replaces what serves at once, or nothing serves yet.
    """
    stable = deployed_ref(spec, platform)
    if stable is None or spec.release.strategy == "replace":
        return ""
    if ref is not None and not is_released(spec, ref, platform):
        return ""
    newer = "a new artifact" if ref is None else ref.digest[:12]
    told = f"{newer} is released beside {stable.digest[:12]}: {describe_plan(spec.release)}"
    warning = describe_missing_traffic(spec, platform, now=now())
    return f"{told}. Warning: {warning}" if warning else told


def describe_failed_release(spec: ModelSpec, ref: ModelRef, platform: Platform) -> str:
    """Say that an artifact is not released again after a failed release; empty if it may be.

    Raises:
        UnavailableError: the object store does not answer.
    """
    log = VerdictLog(platform.object_store())
    reason = find_refusal(log, ref, place=place_for(spec, platform))
    return describe_failure(ref, reason) if reason else ""


def describe_plan(plan: ReleaseSpec) -> str:
    """Return the strategy with its steps, in a few words."""
    steps = plan.effective_steps()
    shares = ", ".join(str(step.share) for step in steps)
    fewest, most = (pick(step.answers for step in steps) for pick in (min, max))
    answers = str(fewest) if fewest == most else f"{fewest} to {most}"
    told = {
        "canary": f"canary with {shares} % of the requests, at least {answers} answers in a step",
        "shadow": f"shadow with copies of {shares} % of the requests, at least {answers} answers",
        "blue_green": f"blue_green with {shares} % of the requests; the former version stays ready "
        f"for {plan.keep_seconds:g} s",
        "ab": f"ab with {shares} % of the requests until a person decides",
    }[plan.strategy]
    return f"{told}; a person must promote it" if plan.approval else told


def describe_missing_traffic(spec: ModelSpec, platform: Platform, *, now: float) -> str:
    """Say that a canary will miss answers, by the requests since the start of the servers.

    Empty if there are enough, if hold-out rows are replayed, or if nothing is counted. `now` is in
    seconds since 1970.
    """
    plan = spec.release
    if plan.strategy != "canary" or plan.when_silent == "replay":
        return ""
    try:
        rate = _requests_per_second(spec, platform, now)
    except UnavailableError:
        return ""
    if rate is None or (step := _first_silent(plan.effective_steps(), rate)) is None:
        return ""
    follows = {
        "wait": "then a person must decide",
        "roll_back": "then it is rolled back",
    }[plan.when_silent]
    expected = int(rate * step.seconds * step.share / 100)
    return (
        f"the deployment gets {rate:.2g} requests/s, so the step of {step.share} % will see about "
        f"{expected} of {step.answers} answers in {step.seconds:g} s; {follows}. Send requests, or "
        'set when_silent="replay" to replay hold-out rows'
    )


def _requests_per_second(spec: ModelSpec, platform: Platform, now: float) -> float | None:
    """Return the rate over all servers; None if none counts, or all have just started."""
    server = spec.server
    counts = platform.deployments.counts(server.deployment, namespace=server.namespace)
    lives = [
        (one.answered + one.failed, now - one.started)
        for predictor in counts
        for one in predictor.servers
        if now - one.started >= _FEW
    ]
    return sum(number / seconds for number, seconds in lives) if lives else None


def _first_silent(steps: Sequence[Step], rate: float) -> Step | None:
    return next((s for s in steps if rate * s.seconds * s.share / 100 < s.answers), None)
