"""`<model>/predictions`: predictions for the hold-out set, through the gateway."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.checks import Proposition, make_checks, require_passed
from mlops_pipeline.assets.deployment_checks import deployment_propositions
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, model_group, model_key, step_tags
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.catalog.tasks import Estimate, Metric
from mlops_pipeline.delivery.criteria import describe_limit, threshold_check
from mlops_pipeline.delivery.judging import Verdict
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.beside import digests_beside
from mlops_pipeline.delivery.verification import ServedReport, ask_holdout
from mlops_pipeline.resources.platform import PlatformResource
from mlops_pipeline.resources.references import describe_elsewhere

_OTHERS = "answers_of_other_version"
_NUMBERS = (
    *("holdout_rows", "rows", "requests", "failed_requests", "wrong_digests", "max_difference"),
    *("p50_ms", "p95_ms", "p99_ms", _OTHERS),
)
"""Fields of a `ServedReport`, most important first."""
_ERROR = dg.AssetCheckSeverity.ERROR
_SEVERITY = {"p99_latency_below_threshold": dg.AssetCheckSeverity.WARN}
"""A busy machine is slow. Only wrong answers are an error."""


def predictions_asset(platform: str, model: RegisteredModel) -> dg.AssetsDefinition:
    """Return the asset with the deployment's predictions for the hold-out set."""
    spec, deployment_key = model.spec, model_key(platform, model.name, "deployment")
    key = model_key(platform, model.name, "predictions")

    @dg.asset(
        key=key,
        ins={"deployment": dg.AssetIn(deployment_key)},
        description=f"Predictions for the hold-out set from {spec.server.deployment}, through the "
        "gateway.",
        group_name=model_group(platform, spec.name),
        kinds={"seldon", "json"},
        owners=OWNERS,
        op_tags=step_tags(key),
        required_resource_keys={"platform"},
    )
    def asset(
        context: dg.AssetExecutionContext, deployment: DeploymentRef
    ) -> dg.MaterializeResult[Any]:
        require_passed(
            context.instance, deployment_key, deployment_propositions(), reference=deployment
        )
        resource: PlatformResource = context.resources.platform
        with explained():
            platform = resource.build()
            report = ask_holdout(
                spec,
                deployment,
                resource.artifacts().proof_rows(deployment.model),
                trust=platform.gateway_trust(),
                beside=digests_beside(deployment, platform),
            )
        return dg.MaterializeResult(metadata=_metadata(report))

    return asset


def _metadata(report: ServedReport) -> dict[str, Any]:
    """Return the report as metadata, by field names. The checks read it from there."""
    fields = asdict(report)
    numbers = {key: fields[key] for key in _NUMBERS if fields[key] is not None}
    if not report.answers_of_other_version:
        del numbers[_OTHERS]
    failures = [{"failure": sentence} for sentence in report.failures]
    return {
        **{
            place: getattr(found, field)
            for metric, found in report.quality.items()
            for place, field in _places(metric).items()
        },
        **numbers,
        **({"failures": metadata.records(failures)} if failures else {}),
        "example_request": metadata.example(report.example_request),
        "example_answer": metadata.example(report.example_answer),
    }


def _places(metric: str) -> Mapping[str, str]:
    """Return name in the metadata → field of the metric's `Estimate`."""
    place = f"served_{metric}"
    return {place: "value", f"{place}_from": "low", f"{place}_to": "high"}


def predictions_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the served predictions. They do not block: nothing is downstream."""
    key, spec = model_key(platform, model.name, "predictions"), model.spec
    judged: dict[str, tuple[str, Callable[[ServedReport], Verdict]]] = {
        "equal_the_offline_predictions": (
            "Every served score equals the score from training, within the tolerance.",
            lambda report: _equal(spec, report),
        ),
        **{
            f"served_{threshold_check(metric)}": (
                f"{describe_limit(metric, spec.thresholds.limits[metric.name])} for the served "
                "predictions of the hold-out set.",
                partial(_reaches, spec, metric),
            )
            for metric in spec.metrics
        },
        "all_requests_succeeded": (
            "The deployed artifact answered every request.",
            _all_succeeded,
        ),
        "p99_latency_below_threshold": (
            f"99 % of the single-row requests take less than {spec.thresholds.max_p99_ms:g} ms.",
            lambda report: _quick(spec, report),
        ),
    }
    return make_checks(
        key,
        [
            Proposition(
                name, text, _judged_by(key, spec, judge), severity=_SEVERITY.get(name, _ERROR)
            )
            for name, (text, judge) in judged.items()
        ],
        takes_reference=False,
    )


def _judged_by(key: dg.AssetKey, spec: ModelSpec, judge: Callable[[ServedReport], Verdict]) -> Any:
    def evaluate(
        context: dg.AssetCheckExecutionContext, _resource: Any, _reference: Any
    ) -> Verdict:
        return judge(_latest_report(context.instance, key, spec))

    return evaluate


def _latest_report(instance: dg.DagsterInstance, key: dg.AssetKey, spec: ModelSpec) -> ServedReport:
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    if materialization is None:
        raise dg.Failure(
            f"{key.to_user_string()} was never materialized{describe_elsewhere(instance)}",
            allow_retries=False,
        )
    seen = materialization.metadata
    if "holdout_rows" not in seen:
        raise dg.Failure(
            f"{key.to_user_string()} was last materialized by an earlier version in another "
            "format; materialize it again",
            allow_retries=False,
        )
    numbers: dict[str, Any] = {key: seen[key].value if key in seen else None for key in _NUMBERS}
    numbers[_OTHERS] = numbers[_OTHERS] or 0
    failures = seen.get("failures")
    sentences = (
        tuple(str(record.data["failure"]) for record in failures.records)
        if isinstance(failures, dg.TableMetadataValue)
        else ()
    )
    return ServedReport(
        **numbers,
        quality=_read_quality(seen, spec),
        example_request="",
        example_answer="",
        failures=sentences,
    )


def _read_quality(seen: Mapping[str, dg.MetadataValue], spec: ModelSpec) -> dict[str, Estimate]:
    found = {}
    for metric in spec.metrics:
        places = _places(metric.name)
        if places.keys() <= seen.keys():
            fields: dict[str, Any] = {field: seen[place].value for place, field in places.items()}
            found[metric.name] = Estimate(**fields)
    return found


def _equal(spec: ModelSpec, report: ServedReport) -> Verdict:
    difference, allowed = report.max_difference, spec.thresholds.tolerance
    if not report.rows and report.answers_of_other_version:
        return Verdict(passed=False, description="only the other version of the release answered")
    if difference is None:
        return Verdict(
            passed=False, description="the served scores have the wrong shape or are not numbers"
        )
    left_out = report.holdout_rows - report.rows if report.answers_of_other_version else 0
    return Verdict(
        bool(report.rows) and difference <= allowed,
        f"the scores of {report.rows} rows differ by at most {difference:.3g}; allowed: "
        f"{allowed:g}"
        + (f"; only the other version of the release answered {left_out} rows" * bool(left_out)),
        {"rows": report.rows, "max_difference": difference},
    )


def _reaches(spec: ModelSpec, metric: Metric, report: ServedReport) -> Verdict:
    limit, found = spec.thresholds.limits[metric.name], report.quality.get(metric.name)
    if found is None:
        return Verdict(
            passed=False,
            description=f"the served {metric.label} is unknown: {describe_unmeasured(report)}",
        )
    value, low, high = map(metric.shown, (found.value, found.low, found.high))
    return Verdict(
        metric.meets(found.value, limit),
        f"served {metric.label} {value} (90 % interval {low} to {high}); required: "
        f"{metric.limit_name.replace('_', ' ')} {limit:g}",
        asdict(found),
    )


def describe_unmeasured(report: ServedReport) -> str:
    """Return why there is no value of a metric."""
    if report.rows < report.holdout_rows:
        return f"{report.rows} of {report.holdout_rows} rows were answered"
    if report.max_difference is None:
        return "the answers have another shape than the offline predictions or are not numbers"
    if report.failures:
        return report.failures[-1]
    return "it is undefined for the answers, or was not measured; materialize the predictions again"


def _all_succeeded(report: ServedReport) -> Verdict:
    others = report.answers_of_other_version
    return Verdict(
        not report.failed_requests and not report.wrong_digests,
        (
            f"{report.requests} requests: {report.failed_requests} failed, {report.wrong_digests} "
            "answered by another artifact"
        )
        + (f", {others} by the other version of the release" if others else "")
        + (f"; first failure: {report.failures[0]}" if report.failed_requests else ""),
        {"requests": report.requests, "failures": report.failed_requests},
    )


def _quick(spec: ModelSpec, report: ServedReport) -> Verdict:
    if report.p50_ms is None or report.p95_ms is None or report.p99_ms is None:
        return Verdict(passed=False, description="no single-row request was answered")
    return Verdict(
        report.p99_ms < spec.thresholds.max_p99_ms,
        f"p50 {report.p50_ms:.2f} ms, p95 {report.p95_ms:.2f} ms, p99 {report.p99_ms:.2f} ms",
        {"p50_ms": report.p50_ms, "p99_ms": report.p99_ms},
    )
