"""Which earlier artifact a rollback deploys, and what keeps it from that."""

import re
from collections.abc import Mapping, Sequence

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import NotFoundError, RefusedError, UnknownNameError
from mlops_pipeline.delivery.artifacts import ArtifactStore, StoredArtifact
from mlops_pipeline.delivery.criteria import own_criteria, required_checks
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.history import Refusals, place_for
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import Standing, standing

_NEVER_JUDGED = standing(())
_END_OF_TIME = "9"
"""After each time of ISO 8601."""


def find_artifact(artifacts: ArtifactStore, name: str, *, prefix: str) -> ModelRef:
    """Return the model's artifact whose digest starts with `prefix`.

    Raises:
        UnknownNameError: none or several do; names them.
    """
    if not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise UnknownNameError(
            f"{prefix!r} is not the start of a digest: expected 1 to 64 hexadecimal digits; run "
            f"`mlops-pipeline models {name}` to list the digests"
        )
    whole = [a.ref for a in artifacts.list(name) if a.complete]
    matching = [ref for ref in whole if ref.digest.startswith(prefix)]
    if len(matching) != 1:
        shown = ", ".join(ref.digest[:12] for ref in (matching or whole)) or "none"
        problem = "matches several artifacts" if matching else "matches no artifact"
        raise UnknownNameError(f"{prefix} {problem} of {name}; choose one of: {shown}")
    return matching[0]


def previous_good(spec: ModelSpec, judge: Judge) -> ModelRef:
    """Return the newest artifact before the deployed one that served by right or passed.

    Each is judged where it was not judged on the facts of now, until one is good.

    Raises:
        NotFoundError: nothing is deployed, or there is none; says how each earlier one stands.
    """
    deployed = deployed_ref(spec, judge.platform)
    if deployed is None:
        raise NotFoundError(f"could not roll back {spec.name}: it is not deployed")
    place = place_for(spec, judge.platform)
    stored = judge.artifacts.list(spec.name)
    known = judge.log.standings(spec.name, required=required_checks(spec), place=place)
    before = _latest_time(deployed, stored, known)
    older = [a.ref for a in stored if a.complete and a.created <= before and a.ref != deployed]
    seen = {}
    for ref in older:
        seen[ref] = stands = known.get(ref.digest, _NEVER_JUDGED)
        if not _may_serve_again(stands, place):
            continue
        if not find_refusals(spec, ref, judge):
            return ref
        seen[ref] = standing(judge.log.entries(ref), place=place)
    raise NotFoundError(_describe_none(deployed, seen))


def _may_serve_again(stands: Standing, place: str) -> bool:
    if stands.state == "unevaluated":
        return stands.is_accepted_although_refused and any(p.place == place for p in stands.served)
    return stands.state != "refused" and (stands.passed or bool(stands.served_by_right(place)))


def _latest_time(
    deployed: ModelRef, stored: Sequence[StoredArtifact], known: Mapping[str, Standing]
) -> str:
    """Return when the deployed artifact was made, or served last where its manifest is damaged."""
    served = known.get(deployed.digest, _NEVER_JUDGED).served
    made = next((a.created for a in stored if a.ref == deployed and a.complete), "")
    return made or (served[-1].since if served else _END_OF_TIME)


def _describe_none(deployed: ModelRef, standings: dict[ModelRef, Standing]) -> str:
    seen = "; ".join(f"{ref.digest[:12]} is {known.describe()}" for ref, known in standings.items())
    return (
        f"could not roll back {deployed.name}: no artifact older than the deployed "
        f"{deployed.digest[:12]} served or passed its checks ({seen or 'there is no older one'}); "
        f"choose a digest from `mlops-pipeline models {deployed.name}`"
    )


def require_good(
    spec: ModelSpec,
    ref: ModelRef,
    judge: Judge,
    *,
    accept_refused: bool,
    accept_unevaluated: bool = False,
) -> Refusals:
    """Return what refuses an artifact and is accepted; nothing for one that may serve.

    Raises:
        RefusedError: blocking checks refuse it, and that is not accepted; names each.
    """
    refusals = find_refusals(spec, ref, judge)
    if not refusals or accept_refused:
        return refusals
    judged = standing(judge.log.entries(ref)).judged
    if all(check in judged and judged[check].is_unevaluated for check in refusals):
        if accept_unevaluated:
            return refusals
        raise RefusedError(
            f"the artifact {ref.name} {ref.digest[:12]} is unevaluated: it was published without a "
            "hold-out set, so its quality is unknown. Nothing was deployed. Publish it again with "
            f"`--holdout FILE`, or run `mlops-pipeline deploy {ref.name} --digest "
            f"{ref.digest[:12]} --accept-unevaluated`"
        )
    raise refused(ref, refusals)


def find_refusals(spec: ModelSpec, ref: ModelRef, judge: Judge) -> Refusals:
    """Return what refuses an artifact where the model's deployment serves.

    What was never judged on the facts of now is judged here, without a comparison with another
    artifact: who rolls back wants another one.
    """
    own = own_criteria(spec)
    refusals = {u.criterion: u.sentence for u in judge.judge_anew(own, ref)}
    known = standing(judge.log.entries(ref), place=place_for(spec, judge.platform))
    names = {criterion.name for criterion in own}
    others = (j for j in known.refusals if j.check not in names and not j.is_unevaluated)
    return refusals | {j.check: j.sentence for j in others}


def refused(ref: ModelRef, refusals: Refusals) -> RefusedError:
    """Return the error for an artifact that blocking checks refuse: check → its sentence."""
    reasons = "; ".join(f"{check}: {sentence}" for check, sentence in refusals.items())
    return RefusedError(
        f"the artifact {ref.name} {ref.digest[:12]} is refused by {reasons}. Nothing was deployed. "
        "Choose another one, or accept this one with --accept-refused; it stays marked"
    )
