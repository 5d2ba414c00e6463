"""How a release stands and what continues it, in the words of commands: a model's name is known."""

import time

from mlops_pipeline.delivery.releases.driver import Progress, describe_release
from mlops_pipeline.delivery.releases.evidence import seconds
from mlops_pipeline.delivery.releases.machine import Action, Finish, Wait
from mlops_pipeline.delivery.releases.state import Release

_LACKING = "evidence is missing: "
"""How the reason of a question begins that further answers would settle."""


def now() -> float:
    """Return the seconds since 1970."""
    return time.time()


def tell(progress: Progress, model: str) -> str:
    """Say how a release stands: who has which share, and what comes next.

    Other than `Progress.describe`, it says for a kept version what stops it, and for a paused
    release once that a person must resume it.
    """
    release, action = progress.release, progress.action
    if release is None or progress.decision is not None:
        return progress.describe()
    if is_kept(release, action):
        return _tell_kept(release, model)
    if is_held(release, action):
        return f"{describe_release(release)}; a person must resume it"
    return progress.describe()


def is_kept(release: Release, action: Action | None) -> bool:
    """Return whether nothing but the end of its time is expected of the former version."""
    is_regular = action is None or isinstance(action, Finish) or _is_waiting(action)
    return release.phase == "kept" and is_regular


def is_held(release: Release, action: Action | None) -> bool:
    """Return whether somebody paused the release, and nothing ends it nevertheless."""
    return release.is_paused and (action is None or _is_waiting(action))


def lacks_evidence(release: Release) -> bool:
    """Return whether a person is asked because evidence is missing: the step can begin again."""
    return release.phase == "asking" and release.reason.startswith(_LACKING)


def how_to_continue(model: str, release: Release | None = None) -> str:
    """Return the commands that continue or decide a release."""
    promote = f"`mlops-pipeline release promote {model}`"
    decide = f"{promote} or `mlops-pipeline release abort {model}`"
    resume = f"run `mlops-pipeline release resume {model}`"
    if release is not None and release.is_paused:
        return f"{resume}; to decide, run {decide}"
    if release is not None and lacks_evidence(release):
        return f"{resume}, which begins the step again; to decide, run {decide}"
    return f"run `mlops-pipeline up {model}`; to decide, run {decide}"


def _is_waiting(action: Action | None) -> bool:
    return isinstance(action, Wait) and not action.needs_person


def _tell_kept(release: Release, model: str) -> str:
    began, keep = seconds(release.step_since or release.since), release.plan.keep_seconds
    left = 0.0 if began is None else keep - max(now() - began, 0.0)
    shown, former = f"{release.candidate[:12]} has all traffic", release.stable[:12]
    stops = f"`mlops-pipeline up {model}` or the sensor stops it"
    if left <= 0:
        return f"{shown}; {former} was kept ready for {keep:g} s, and {stops}"
    return f"{shown}; {former} is kept ready for {left:.0f} s more, then {stops}"
