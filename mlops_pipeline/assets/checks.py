"""How checks are made, and how a failed blocking one stops what is downstream in later runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from mlops_pipeline.assets.metadata import finite
from mlops_pipeline.clients.errors import PipelineError, UnavailableError

_HISTORY = 50
"""Runs of a check that are looked through for its last verdict."""


@dataclass(frozen=True)
class Verdict:
    """Whether a proposition holds, why, and what was seen."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposition:
    """A check: a name that is a sentence, and what decides it."""

    name: str
    description: str
    evaluate: Callable[[dg.AssetCheckExecutionContext, Any, Any], Verdict]
    """(context, platform resource, the asset's reference) → verdict."""
    blocking: bool = False


def make_checks(
    asset: dg.AssetKey, propositions: Sequence[Proposition], *, takes_reference: bool = True
) -> dg.AssetChecksDefinition:
    """Return the checks of one asset, decided in one step.

    A PipelineError while deciding means that the proposition does not hold, and its message says
    why; that the other side cannot be asked at all (UnavailableError) fails the step instead.
    """
    specs = [
        dg.AssetCheckSpec(p.name, asset=asset, description=p.description, blocking=p.blocking)
        for p in propositions
    ]
    ins = {"reference": dg.AssetIn(asset)} if takes_reference else {}

    @dg.multi_asset_check(
        name="__".join([*asset.path, "checks"]),
        specs=specs,
        ins=ins,
        can_subset=True,
        required_resource_keys={"platform"},
    )
    def checks(
        context: dg.AssetCheckExecutionContext, **references: Any
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        for proposition in propositions:
            if proposition.name in selected:
                yield _decide(context, asset, proposition, references.get("reference"))

    return checks


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
        metadata=finite(verdict.metadata),
        severity=dg.AssetCheckSeverity.ERROR,
    )


def require_passed(
    instance: dg.DagsterInstance, asset: dg.AssetKey, propositions: Sequence[Proposition]
) -> None:
    """Refuse to go on from `asset` unless its blocking checks passed on its latest materialization.

    Dagster itself holds downstream steps back only within one run.

    Raises:
        dagster.Failure: names each check that failed or was not evaluated, and what to do.
    """
    names = [p.name for p in propositions if p.blocking]
    unmet = [f"{name} {reason}" for name in names if (reason := _unmet(instance, asset, name))]
    if unmet:
        shown = asset.to_user_string()
        raise dg.Failure(
            f"refused to go on from {shown}: {'; '.join(unmet)}. See docs/operating.md for "
            f"what each check means; mend it and materialize {shown} again",
            allow_retries=False,
        )


def _latest_evaluation(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey
) -> dg.AssetCheckEvaluation | None:
    """Return the check's last verdict, over runs that planned the check and never came to it."""
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=_HISTORY)
    for record in history:
        event = record.event.dagster_event if record.event else None
        if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            return event.asset_check_evaluation_data
    return None


def _unmet(instance: dg.DagsterInstance, asset: dg.AssetKey, name: str) -> str:
    """Say why the check does not let pass; empty when it does."""
    evaluation = _latest_evaluation(instance, dg.AssetCheckKey(asset, name))
    if evaluation is None:
        return "was not evaluated"
    if not evaluation.passed:
        return f"failed ({evaluation.description})"
    latest = instance.get_latest_materialization_event(asset)
    target = evaluation.target_materialization_data
    if latest is None or target is None or target.run_id != latest.run_id:
        return "was not evaluated on the latest materialization"
    return ""
