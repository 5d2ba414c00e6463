"""Which earlier artifact a rollback deploys, and what keeps it from that."""

import re
from collections.abc import Collection

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import NotFoundError, RefusedError, UnknownNameError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.criteria import own_criteria, required_checks
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import Acceptance, Standing, standing

_NEVER_JUDGED = standing(())


def find_artifact(artifacts: ArtifactStore, name: str, *, prefix: str) -> ModelRef:
    """Return the model's artifact whose digest starts with `prefix`.

    Raises:
        UnknownNameError: none or several do; names them.
    """
    if not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise UnknownNameError(
            f"{prefix!r} is not how a digest begins: give some of its hexadecimal digits; "
            f"`mlops-pipeline models {name}` lists them"
        )
    whole = [a.ref for a in artifacts.list(name) if a.complete]
    matching = [ref for ref in whole if ref.digest.startswith(prefix)]
    if len(matching) != 1:
        shown = ", ".join(ref.digest[:12] for ref in (matching or whole)) or "none"
        problem = "is ambiguous" if matching else "is the digest of no artifact"
        raise UnknownNameError(f"{prefix} {problem} of {name}; there are: {shown}")
    return matching[0]


def previous_good(spec: ModelSpec, judge: Judge) -> ModelRef:
    """Return the newest artifact before the deployed one that served by right or passed.

    Raises:
        NotFoundError: nothing is deployed, or there is none; says how each earlier one stands.
    """
    deployed = deployed_ref(spec, judge.platform)
    if deployed is None:
        raise NotFoundError(f"{spec.name} is not deployed, there is nothing to roll back")
    whole = [a for a in judge.artifacts.list(spec.name) if a.complete]
    created = next((a.created for a in whole if a.ref == deployed), "")
    older = [a.ref for a in whole if a.created <= created and a.ref != deployed]
    known = judge.log.standings(spec.name, required=required_checks(spec))
    standings = {ref: known.get(ref.digest, _NEVER_JUDGED) for ref in older}
    good = [ref for ref in older if _is_good(standings[ref])]
    if not good:
        raise NotFoundError(_describe_none(deployed, standings))
    return good[0]


def _is_good(known: Standing) -> bool:
    return known.state != "refused" and (bool(known.served_by_right) or known.state == "passed")


def _describe_none(deployed: ModelRef, standings: dict[ModelRef, Standing]) -> str:
    seen = "; ".join(f"{ref.digest[:12]} is {known.describe()}" for ref, known in standings.items())
    return (
        f"no artifact of {deployed.name} older than the deployed {deployed.digest[:12]} "
        f"served or passed its checks ({seen or 'there is no older one'}); name one by its digest: "
        f"`mlops-pipeline models {deployed.name}` lists them"
    )


def require_good(spec: ModelSpec, ref: ModelRef, judge: Judge, *, accept_refused: bool) -> bool:
    """Return False for an artifact that may serve, True for one that is accepted although refused.

    What was never judged on the facts of now is judged here, without a comparison with another
    artifact: who rolls back wants another one. An acceptance is written into the log.

    Raises:
        RefusedError: blocking checks refuse it, and that is not accepted; names each.
    """
    refusals = {u.criterion: u.sentence for u in judge.judge_anew(own_criteria(spec), ref)}
    own = {criterion.name for criterion in own_criteria(spec)}
    refusals |= _comparisons(standing(judge.log.entries(ref)), own)
    if not refusals:
        return False
    if not accept_refused:
        raise refused(ref, refusals)
    judge.log.append(ref, Acceptance("refused", refusals, judge.by))
    return True


def _comparisons(known: Standing, own: Collection[str]) -> dict[str, str]:
    return {j.check: j.sentence for j in known.refusals if j.check not in own}


def refused(ref: ModelRef, refusals: dict[str, str]) -> RefusedError:
    """Return the error for an artifact that blocking checks refuse: check → its sentence."""
    reasons = "; ".join(f"{check}: {sentence}" for check, sentence in refusals.items())
    return RefusedError(
        f"the artifact {ref.name} {ref.digest[:12]} is refused by {reasons}. Nothing was deployed. "
        "Choose another one, or accept this one with --accept-refused, which marks it from then on"
    )
