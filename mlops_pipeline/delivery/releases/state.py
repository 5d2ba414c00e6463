"""A release in progress: what is released, how far it is, and the annotation that says so.

The state is written on the deployment itself, so that any process can finish or undo a release.
The annotation exists exactly as long as the release is in progress; its end is in the records.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step, faults
from mlops_pipeline.clients.errors import DAMAGES, IntegrityError
from mlops_pipeline.platforms.seldon import SeldonDeployment

RELEASE_ANNOTATION = "mlops-pipeline/release"
"""On the metadata of a deployment: the state of the release, JSON of at most 8 KB."""
MOST_REASON = 1_000
"""Characters of a reason that are kept."""
CANDIDATE = "candidate"
"""Appended to the name of a predictor: that of the candidate's predictor during a release."""
UNDONE = "-undone"
"""Appended to the id of a release that was promoted and then taken back: it has two records."""
FORMER = "former"
"""Appended likewise: the version that was replaced and stays ready for a while."""
Phase = Literal["observing", "asking", "kept", "ended"]
PHASES: tuple[Phase, ...] = ("observing", "asking", "kept", "ended")
"""`observing`: a step's answers are counted. `asking`: a person must decide. `kept`: the candidate
is promoted, and the former version stays ready. `ended`: the traffic is as it was decided, and the
record is not written yet."""
Outcome = Literal["promoted", "rolled_back", "superseded", "aborted"]


@dataclass(frozen=True)
class Decision:
    """How a release ended."""

    outcome: Outcome
    reason: str
    by: str
    """The command or the Dagster run that decided, or that took the step that followed."""
    time: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Release:
    """A release in progress."""

    id: str
    """`<UTC time>-<first digits of the candidate's digest>`, unique for a model."""
    candidate: str
    """Digest of the artifact that is released."""
    stable: str
    """Digest of the artifact that serves until then; after the promotion, the former one."""
    by: str
    """The command or the Dagster run that asked for it."""
    since: str
    """UTC, ISO 8601."""
    plan: ReleaseSpec
    """The spec at the start: a change of the model's file does not change a release."""
    phase: Phase = "observing"
    step: int = 0
    """Position in `plan.effective_steps()`."""
    step_since: str = ""
    """UTC, ISO 8601: when this step, or this phase, began."""
    is_paused: bool = False
    reason: str = ""
    """Why it waits for a person, in one sentence."""
    revision: int = 1
    """Rises with each change of the state."""
    is_replayed: bool = False
    """Whether hold-out rows were replayed in this step, because answers were missing."""
    ended: Decision | None = None
    """How it ended, in the phases `kept` and `ended`."""

    @property
    def share(self) -> int:
        """Percent of the requests that the candidate gets, or copies of."""
        if self.ended is not None:
            return 100 if self.ended.outcome == "promoted" else 0
        return self.plan.effective_steps()[self.step].share

    @property
    def is_shadow(self) -> bool:
        """Whether the candidate gets copies of requests, and nobody its answers."""
        return self.plan.strategy == "shadow" and self.ended is None

    def changed(self, **fields: Any) -> "Release":
        """Return the next state, with a higher revision."""
        if len(reason := fields.get("reason", "")) > MOST_REASON:
            fields["reason"] = f"{reason[: MOST_REASON - 1]}…"
        return replace(self, revision=self.revision + 1, **fields)

    def annotations(self) -> dict[str, str]:
        """Return the annotation of the deployment's metadata."""
        return {RELEASE_ANNOTATION: json.dumps(asdict(self), separators=(",", ":"))}


def new_release(
    plan: ReleaseSpec, candidate: str, *, stable: str, by: str, now: datetime
) -> Release:
    """Return a release that begins now, with the steps of its plan written out."""
    time = now.isoformat(timespec="seconds")
    return Release(
        id=f"{now:%Y%m%dT%H%M%SZ}-{candidate[:12]}",
        candidate=candidate,
        stable=stable,
        by=by,
        since=time,
        plan=replace(plan, steps=plan.effective_steps()),
        step_since=time,
    )


def find_release(deployment: SeldonDeployment | None) -> Release | None:
    """Return the release in progress on a deployment; None without one.

    Raises:
        IntegrityError: the annotation is damaged; says what to do.
    """
    if deployment is None:
        return None
    text = deployment.metadata.annotations.get(RELEASE_ANNOTATION)
    return parse_release(text, where=f"{deployment.namespace}/{deployment.name}") if text else None


def parse_release(text: str, *, where: str) -> Release:
    """Return the release that an annotation describes.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        fields = json.loads(text)
        plan = fields.pop("plan")
        steps = tuple(Step(**step) for step in plan.pop("steps"))
        ended = fields.pop("ended")
        release = Release(
            plan=ReleaseSpec(steps=steps, **plan),
            ended=Decision(**ended) if ended else None,
            **fields,
        )
        problems = list(faults(release.plan))
        if not problems and release.phase not in PHASES:
            problems = [f"phase is {release.phase!r}"]
        if not problems and not 0 <= release.step < len(release.plan.effective_steps()):
            problems = [f"step is {release.step!r}"]
        if not problems and (release.ended is None) != (release.phase in ("observing", "asking")):
            problems = [f"ended is {ended!r} in the phase {release.phase}"]
    except DAMAGES as error:
        problems = [repr(error)]
    if problems:
        raise IntegrityError(
            f"could not read the state of the release of {where} in its annotation "
            f"{RELEASE_ANNOTATION}: {'; '.join(problems)}. Run `mlops-pipeline release abort "
            "MODEL` to give all traffic to the stable version"
        )
    return release


def without_release(deployment: SeldonDeployment) -> SeldonDeployment:
    """Return the deployment without the state of a release."""
    return deployment.annotated({RELEASE_ANNOTATION: ""})
