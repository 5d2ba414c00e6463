"""Verdicts on releases: an artifact whose release failed is not released again by itself."""

from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.state import Decision, Release
from mlops_pipeline.delivery.verdicts import PLACE, Judgement, VerdictLog, standing

SUCCEEDS = "release_succeeds"
"""Stands as the name of a check: the release of the artifact at a place was not rolled back."""


def record_verdict(
    log: VerdictLog, ref: ModelRef, release: Release, decision: Decision, *, place: str
) -> None:
    """Write down whether the release succeeded, unless the log says so already.

    A release that was superseded says nothing about its artifact.

    Raises:
        UnavailableError: the object store did not take it.
    """
    if decision.outcome == "superseded":
        return
    passed = decision.outcome == "promoted"
    facts = {PLACE: place, "release": release.id}
    known = [e for e in log.entries(ref) if isinstance(e, Judgement) and e.check == SUCCEEDS]
    if any(e.facts == facts and e.passed == passed for e in known):
        return
    if passed and all(e.passed for e in known):
        return  # Nothing refused it.
    log.append(ref, Judgement(SUCCEEDS, passed, decision.reason, facts, decision.by))


def find_refusal(log: VerdictLog, ref: ModelRef, *, place: str) -> str:
    """Return why the release of an artifact at the place failed; empty if it did not.

    A person may have accepted that since.
    """
    known = standing(log.entries(ref), place=place)
    judged = known.judged.get(SUCCEEDS)
    if judged is None or judged.passed or SUCCEEDS in known.accepted_refusals:
        return ""
    return judged.sentence


def describe_failure(ref: ModelRef, reason: str) -> str:
    """Say that an artifact is not released again, and what to do. `reason` is why it failed."""
    return (
        f"the artifact {ref.name} {ref.digest[:12]} is not released again: its last release here "
        f"ended with: {reason}. The version that serves stays. Train another artifact, or run "
        f"`mlops-pipeline deploy {ref.name} --digest {ref.digest[:12]} --accept-refused`"
    )
