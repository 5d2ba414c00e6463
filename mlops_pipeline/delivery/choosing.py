"""Which artifact a run deploys: that of its inputs, a pinned one, or one that a person named."""

from dataclasses import dataclass, field

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError, RefusedError
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.criteria import own_criteria
from mlops_pipeline.delivery.desired import DesiredState
from mlops_pipeline.delivery.history import Refusals
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import find_artifact, find_refusals, require_good
from mlops_pipeline.delivery.verdicts import standing


@dataclass(frozen=True)
class Choice:
    """An artifact, and why it is the one to deploy."""

    ref: ModelRef
    is_pinned: bool
    accepted: Refusals = field(default_factory=dict)
    """The checks that refuse it, which a person accepted."""
    ends_pin: bool = False
    """Whether a person asked for it in place of the pinned one."""


def choose_named(
    spec: ModelSpec,
    judge: Judge,
    *,
    prefix: str,
    accept_refused: bool,
    accept_unevaluated: bool = False,
) -> Choice:
    """Return the artifact whose digest starts with `prefix`, to be pinned.

    Raises:
        UnknownNameError: none or several artifacts match.
        RefusedError: blocking checks refuse it, and nobody accepts that.
    """
    ref = find_artifact(judge.artifacts, spec.name, prefix=prefix)
    accepted = require_good(
        spec, ref, judge, accept_refused=accept_refused, accept_unevaluated=accept_unevaluated
    )
    return Choice(ref, is_pinned=True, accepted=accepted)


def find_pinned(spec: ModelSpec, judge: Judge) -> Choice | None:
    """Return the pinned artifact as long as it may serve; None where none is pinned.

    Checks that refuse it do not count where a person accepted them when it was pinned.

    Raises:
        ConfigurationError: the object store no longer holds it.
        RefusedError: blocking checks refuse it now.
    """
    known = DesiredState(spec, judge.platform).find()
    if known is None or not known.is_pinned:
        return None
    pinned = ref_to(spec.name, known.digest)
    unpin = f"run `mlops-pipeline unpin {spec.name}` to allow the artifact of the current inputs"
    if not judge.artifacts.exists(pinned):
        raise ConfigurationError(
            f"the pinned artifact {pinned.uri} is missing or damaged in the object store. "
            f"Pin another one with `mlops-pipeline rollback {spec.name} DIGEST`, or {unpin}"
        )
    refusals = find_refusals(spec, pinned, judge)
    accepted = standing(judge.log.entries(pinned)).accepted_refusals
    if new := {check: why for check, why in refusals.items() if check not in accepted}:
        reasons = "; ".join(f"{check}: {why}" for check, why in new.items())
        raise RefusedError(
            f"the pinned artifact {spec.name} {pinned.digest[:12]} is refused by {reasons}. "
            f"Nothing was deployed; {unpin}"
        )
    return Choice(pinned, is_pinned=True, accepted=refusals)


def describe_refusal(spec: ModelSpec, digest: str, judge: Judge) -> str:
    """Say why the pinned artifact would not be deployed, as far as is known; else empty.

    Evaluates nothing.
    """
    pinned = ref_to(spec.name, digest)
    try:
        if not judge.artifacts.exists(pinned):
            return "it is missing or damaged in the object store"
    except RefusedError as error:
        return str(error)
    accepted = standing(judge.log.entries(pinned)).accepted_refusals
    unmet = judge.find_unmet(own_criteria(spec), pinned)
    new = [u for u in unmet if u.refused and u.criterion not in accepted]
    return "; ".join(f"refused by {u.criterion}: {u.sentence}" for u in new)
