"""Creates checks, and stops downstream assets in later runs after a failed blocking check."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG

from mlops_pipeline.assets.keys import TRIGGER_TAG, step_tags
from mlops_pipeline.assets.metadata import finite
from mlops_pipeline.clients.errors import PipelineError, UnavailableError
from mlops_pipeline.delivery.judging import Criterion, Judge, Verdict
from mlops_pipeline.delivery.references import DatasetRef, ModelRef, Reference
from mlops_pipeline.resources.platform import PlatformResource

ACCEPT_WORSE = "accept_worse"
ACCEPT_UNEVALUATED = "accept_unevaluated"
"""Names of the config fields of a model's checks."""
_ACCEPTING = dg.Field(
    bool,
    default_value=False,
    description="Accept this artifact once although it is worse than the artifact that it is "
    "compared with. A re-executed run ignores this.",
)
_ACCEPTING_UNEVALUATED = dg.Field(
    bool,
    default_value=False,
    description="Accept this artifact although it was published without a hold-out set. A "
    "re-executed run ignores this.",
)
_JUDGED = "judged_digest"
"""Metadata of a verdict: the digest that it is about."""
_HISTORY = 50
"""Number of a check's runs that are searched for its last verdict."""


@dataclass(frozen=True)
class Proposition:
    """A check: a name that states what holds, and the function that decides it."""

    name: str
    description: str
    evaluate: Callable[[dg.AssetCheckExecutionContext, Any, Any], Verdict]
    """(context, platform resource, the asset's reference) → verdict."""
    blocking: bool = False
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    """WARN if the load of the machine can make it fail."""


def of_criteria(criteria: Sequence[Criterion]) -> list[Proposition]:
    """Return blocking checks that evaluate criteria and store the verdicts in the object store."""
    return [Proposition(c.name, c.description, _judged_by(c), blocking=True) for c in criteria]


def _judged_by(
    criterion: Criterion,
) -> Callable[[dg.AssetCheckExecutionContext, PlatformResource, Any], Verdict]:
    def evaluate(
        context: dg.AssetCheckExecutionContext, resource: PlatformResource, reference: Any
    ) -> Verdict:
        judge = Judge(resource.build(), by=run_name(context.run))
        config = context.op_execution_context.op_config or {}
        may_accept = not is_copy(context.run)
        return judge.evaluate(
            criterion,
            reference,
            accepts_worse=bool(config.get(ACCEPT_WORSE)) and may_accept,
            accepts_unevaluated=bool(config.get(ACCEPT_UNEVALUATED)) and may_accept,
        )

    return evaluate


def run_name(run: dg.DagsterRun) -> str:
    """Return the name of a Dagster run in the log of verdicts, and its trigger if it is known.

    A re-executed run has the tags of the original, but somebody else may have started it.
    """
    trigger = "" if is_copy(run) else run.tags.get(TRIGGER_TAG, "")
    return f"{trigger}, Dagster run {run.run_id}" if trigger else f"Dagster run {run.run_id}"


def is_copy(run: dg.DagsterRun) -> bool:
    """Say whether a run re-executes another one, whose config it copies.

    An acceptance in the original does not apply to it.
    """
    return PARENT_RUN_ID_TAG in run.tags


def make_checks(
    asset: dg.AssetKey,
    propositions: Sequence[Proposition],
    *,
    takes_reference: bool = True,
    can_accept: bool = False,
) -> dg.AssetChecksDefinition:
    """Return the checks of one asset, evaluated in one step.

    With `can_accept`, the config of a run can accept one failed comparison, or an artifact without
    a hold-out set.

    A PipelineError means that the check fails, with its message as the reason. An UnavailableError
    (the other side does not answer) fails the step instead.
    """
    specs = [
        dg.AssetCheckSpec(p.name, asset=asset, description=p.description, blocking=p.blocking)
        for p in propositions
    ]
    ins = {"reference": dg.AssetIn(asset)} if takes_reference else {}

    @dg.multi_asset_check(
        name=op_name(asset),
        specs=specs,
        ins=ins,
        can_subset=True,
        op_tags=step_tags(asset, is_check=True),
        required_resource_keys={"platform"},
        config_schema=(
            {ACCEPT_WORSE: _ACCEPTING, ACCEPT_UNEVALUATED: _ACCEPTING_UNEVALUATED}
            if can_accept
            else None
        ),
    )
    def checks(
        context: dg.AssetCheckExecutionContext, **references: Any
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        for proposition in propositions:
            if proposition.name in selected:
                yield _decide(context, asset, proposition, references.get("reference"))

    return checks


def op_name(asset: dg.AssetKey) -> str:
    """Return the name of the step that evaluates an asset's checks, for a run's config."""
    return "__".join([*asset.path, "checks"])


def _decide(
    context: dg.AssetCheckExecutionContext,
    asset: dg.AssetKey,
    proposition: Proposition,
    reference: Any,
) -> dg.AssetCheckResult:
    try:
        verdict = proposition.evaluate(context, context.resources.platform, reference)
    except UnavailableError:
        raise
    except PipelineError as error:
        verdict = Verdict(passed=False, description=str(error))
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=proposition.name,
        passed=verdict.passed,
        description=verdict.description,
        metadata={**finite(verdict.metadata), **marks(reference)},
        severity=proposition.severity,
    )


def marks(reference: Reference | None) -> dict[str, Any]:
    """Return the metadata of a verdict that names its subject."""
    return {} if reference is None else {_JUDGED: reference.digest}


def require_judged_good(
    judge: Judge, asset: dg.AssetKey, criteria: Sequence[Criterion], ref: DatasetRef | ModelRef
) -> None:
    """Refuse to use `asset` unless `ref` meets the criteria, according to the log of verdicts.

    Raises:
        dagster.Failure: names each criterion that failed or was not evaluated, and what to do.
        UnavailableError: the object store did not answer.
    """
    _refuse(asset, [unmet.describe() for unmet in judge.find_unmet(criteria, ref)])


def require_passed(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    propositions: Sequence[Proposition],
    *,
    reference: Reference | None = None,
) -> None:
    """Refuse to use `asset` unless its blocking checks passed on the digest of `reference`.

    Without a reference (layers), the checks of the latest materialization count, according to
    Dagster's events. Dagster itself stops downstream steps only within one run.

    Raises:
        dagster.Failure: names each check that failed or was not evaluated, and what to do.
    """
    names = [p.name for p in propositions if p.blocking]
    unmet = [
        f"{name} {reason}"
        for name in names
        if (reason := _unmet(instance, asset, name, reference=reference))
    ]
    _refuse(asset, unmet)


def _refuse(asset: dg.AssetKey, unmet: Sequence[str]) -> None:
    if unmet:
        shown = asset.to_user_string()
        raise dg.Failure(
            f"stopped after {shown}: {'; '.join(unmet)}. docs/operating.md explains each check; "
            f"fix the cause and materialize {shown} again",
            allow_retries=False,
        )


def _unmet(
    instance: dg.DagsterInstance, asset: dg.AssetKey, name: str, *, reference: Reference | None
) -> str:
    """Return why the check did not pass; empty if it passed."""
    check = dg.AssetCheckKey(asset, name)
    if reference is None:
        judged = _is_of_latest(instance, asset)
        what = "the latest materialization"
    else:
        judged, what = _is_of(reference.digest), reference.digest[:12]
    verdict = next((v for v in _verdicts(instance, check) if judged(v)), None)
    if verdict is None:
        return f"was not evaluated on {what}"
    return "" if verdict.passed else f"failed ({verdict.description})"


def _verdicts(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the check's verdicts, newest first. Runs that ended before the check have none."""
    storage, cursor = instance.event_log_storage, None
    for limit in (1, _HISTORY):  # The newest one nearly always decides.
        history = storage.get_asset_check_execution_history(check, limit=limit, cursor=cursor)
        for record in history:
            event = record.event.dagster_event if record.event else None
            if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                yield event.asset_check_evaluation_data
            cursor = record.id


def _is_of(digest: str) -> Callable[[dg.AssetCheckEvaluation], bool]:
    def judged(verdict: dg.AssetCheckEvaluation) -> bool:
        mark = verdict.metadata.get(_JUDGED)
        return mark is not None and mark.value == digest

    return judged


def _is_of_latest(
    instance: dg.DagsterInstance, asset: dg.AssetKey
) -> Callable[[dg.AssetCheckEvaluation], bool]:
    records = instance.fetch_materializations(asset, limit=1).records
    latest = records[0].storage_id if records else None

    def judged(verdict: dg.AssetCheckEvaluation) -> bool:
        target = verdict.target_materialization_data
        return target is not None and target.storage_id == latest

    return judged
