"""The blocking criteria: what must hold of a dataset before training, of a model before serving."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlops_pipeline.catalog import evaluating, tasks, worker
from mlops_pipeline.catalog.spec import DatasetSpec, ModelSpec
from mlops_pipeline.catalog.tasks import Metric
from mlops_pipeline.clients.errors import ConflictError, IntegrityError, NotFoundError
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.deploying import find_last_good
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.judging import Criterion, Facts, Judge, Verdict
from mlops_pipeline.delivery.references import DatasetRef, ModelRef
from mlops_pipeline.delivery.trials import compare_with
from mlops_pipeline.delivery.verdicts import COMPARED_WITH, PLACE, UNEVALUATED, standing
from mlops_pipeline.delivery.verification import check_skew
from mlops_pipeline.serving.schema import shown_some

NOT_WORSE = "not_worse_than_deployed"
MATCHES = "matches_its_manifest"


def dataset_criteria(model: ModelSpec) -> tuple[Criterion, ...]:
    """Return what must hold of a model's data; bad data trains nothing."""
    spec = model.dataset
    targets = model.task.target_check(spec)
    return (
        _of_profile(
            spec,
            "has_expected_schema",
            f"Both splits have {spec.features} features in their range, one known target per row.",
            lambda profile: schema_problems(spec, profile),
            find_warnings=_absent_categories,
        ),
        _of_profile(
            spec,
            "has_no_missing_values",
            "Every value is a finite number."
            if spec.schema is None
            else "No value is missing, unless the schema allows it.",
            lambda profile: [
                f"{split}: {part['missing']} values are missing or infinite"
                for split, part in profile.items()
                if part["missing"]
            ],
        ),
        _of_profile(
            spec,
            targets.name,
            targets.description,
            targets.find_problems,
        ),
    )


def _of_profile(
    spec: DatasetSpec,
    name: str,
    description: str,
    find_problems: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    find_warnings: Callable[[Mapping[str, Any]], str] = lambda profile: "",
) -> Criterion:
    facts = {
        "features": str(spec.features),
        "classes": ", ".join(spec.classes),
        "value_range": str(spec.value_range or ""),
        **({"target_range": str(spec.target_range)} if spec.target_range else {}),
        **({"schema": json.dumps(spec.schema.as_json())} if spec.schema else {}),
    }

    def decide(judge: Judge, ref: DatasetRef) -> Verdict:
        profile = judge.datasets.profile(ref)
        problems = find_problems(profile)
        rows = sum(part["shape"][0] for part in profile.values())
        warning = find_warnings(profile)
        return Verdict(
            not problems,
            "; ".join(problems) or f"holds for all {rows} rows",
            {"warning": warning} if warning else {},
        )

    return Criterion(name, description, lambda _judge, _ref: facts, decide)


def _absent_categories(profile: Mapping[str, Any]) -> str:
    """Return which categories of the schema the model cannot know; empty: none."""
    absent = profile["train"].get(worker.ABSENT, {})
    if not absent:
        return ""
    named = "; ".join(
        f"{name}: {shown_some([repr(value) for value in values])}"
        for name, values in absent.items()
    )
    return (
        f"no training row has these categories of the schema, so the model has not learned them: "
        f"{named}. Remove them from the schema, or add rows"
    )


def schema_problems(spec: DatasetSpec, profile: Mapping[str, Any]) -> list[str]:
    """Return what of a profile (see `catalog.worker.profile`) is not as the spec says."""
    problems = []
    for split, part in profile.items():
        shape = part["shape"]
        row = list(spec.schema.row_shape) if spec.schema else [spec.features]
        if shape[1:] != row or not shape[:1] or not shape[0]:
            wanted = ", ".join(["n", *map(str, row)])
            problems.append(f"{split}: expected shape [{wanted}], got {json.dumps(shape)}")
        if part["label_shape"] != shape[:1]:
            problems.append(
                f"{split}: expected targets of shape {shape[:1]}, got {part['label_shape']}"
            )
        if part.get("unknown_labels"):
            problems.append(f"{split}: {part['unknown_labels']} labels belong to unknown classes")
        least, greatest = spec.value_range or (float("-inf"), float("inf"))
        if part["minimum"] < least or part["maximum"] > greatest:
            problems.append(
                f"{split}: expected values from {least:g} to {greatest:g}, "
                f"got {part['minimum']:g} to {part['maximum']:g}"
            )
    return problems


def describe_holdout_problems(spec: ModelSpec, profile: Mapping[str, Any]) -> list[str]:
    """Return what of a hold-out set is not as the spec says; `profile` is that of its rows."""
    split = {"hold-out": profile}
    problems = schema_problems(spec.dataset, split)
    if profile["missing"]:
        problems.append(f"hold-out: {profile['missing']} values are missing or infinite")
    return problems + spec.task.target_check(spec.dataset).find_problems(split)


def model_criteria(spec: ModelSpec) -> tuple[Criterion, ...]:
    """Return what must hold of an artifact; no bad model reaches users."""
    return (*own_criteria(spec), _not_worse(spec))


def own_criteria(spec: ModelSpec) -> tuple[Criterion, ...]:
    """Return what must hold of an artifact whatever was deployed before it."""
    return (*(_reaches(spec, metric) for metric in spec.metrics), _matches(), _no_skew(spec))


def required_checks(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of the criteria that an artifact has passed before it counts as good."""
    return tuple(criterion.name for criterion in model_criteria(spec))


def _reaches(spec: ModelSpec, metric: Metric) -> Criterion:
    limit = spec.thresholds.limits[metric.name]

    measured = {f"{'min' if metric.higher_is_better else 'max'}_{metric.name}": repr(limit)}

    def facts(judge: Judge, ref: ModelRef) -> Facts:
        return measured | ({UNEVALUATED: "true"} if is_unevaluated(judge, ref) else {})

    def decide(judge: Judge, ref: ModelRef) -> Verdict:
        manifest = judge.artifacts.manifest(ref)
        if evaluating.PROBE in manifest.evaluation:
            return Verdict(
                passed=False,
                description=f"{UNEVALUATED}: it was published without a hold-out set, so its "
                f"{metric.label} is unknown. Publish it again with `--holdout FILE`, or accept it "
                "with --accept-unevaluated",
            )
        value = manifest.metrics.get(metric.name)
        if value is None:
            if (task := tasks.recorded(manifest.task)) != spec.task.name:
                return Verdict(
                    passed=False,
                    description=f"it is a model for {task}, which has no {metric.label}; train it "
                    f"again for {spec.task.name}",
                )
            holdout = judge.artifacts.holdout(ref)  # The metric may be newer than the artifact.
            value = metric.value(holdout.y, holdout.scores)
        if not math.isfinite(value):
            return Verdict(
                passed=False,
                description=f"the {metric.label} is undefined for this artifact's predictions",
            )
        return Verdict(
            metric.meets(value, limit),
            f"the {metric.label} on the hold-out set is {metric.shown(value)}, the threshold is "
            f"{limit:g}",
            {metric.name: value, "threshold": limit},
        )

    return Criterion(
        threshold_check(metric),
        f"{describe_limit(metric, limit)} on the hold-out set.",
        facts,
        decide,
    )


def is_unevaluated(judge: Judge, ref: ModelRef) -> bool:
    """Return whether the artifact was published without a hold-out set."""
    try:
        return evaluating.PROBE in judge.artifacts.manifest(ref).evaluation
    except (NotFoundError, IntegrityError):  # Another criterion refuses it.
        return False


def threshold_check(metric: Metric) -> str:
    """Return the name of the check of a metric: `rmse_at_most_threshold`."""
    return f"{metric.name}_{metric.limit_name}_threshold"


def describe_limit(metric: Metric, limit: float) -> str:
    """Return what the threshold demands: `The RMSE is at most 60`."""
    return f"The {metric.label} is {metric.limit_name.replace('_', ' ')} {limit:g}"


def _not_worse(spec: ModelSpec) -> Criterion:
    allowed, metric = spec.max_loss, spec.metric

    def facts(judge: Judge, ref: ModelRef) -> Facts:
        reference = None if is_unevaluated(judge, ref) else _find_reference(spec, judge, ref)
        return {
            COMPARED_WITH: reference.digest if reference else "",
            PLACE: place_for(spec, judge.platform),
            f"max_{metric.name}_{metric.loss_name}": repr(allowed),
        }

    def decide(judge: Judge, ref: ModelRef) -> Verdict:
        if is_unevaluated(judge, ref):
            return Verdict(passed=True, description="unevaluated, so it was not compared")
        reference = _find_reference(spec, judge, ref)
        if reference is None:
            return Verdict(
                passed=True, description="there is no earlier good version to compare it with"
            )
        try:
            trial = compare_with(
                spec,
                ref,
                reference,
                artifacts=judge.artifacts,
                environment=judge.platform.serving_environment,
            )
        except (NotFoundError, IntegrityError, ConflictError) as error:
            return Verdict(
                passed=False,
                description=f"could not compare it with {reference.digest[:12]}, the last good "
                f"version: {error}. Run `mlops-pipeline up {spec.name} --accept-worse` to deploy "
                "it without a comparison",
            )
        return Verdict(
            not trial.comparison.is_loss(allowed=allowed),
            trial.describe(metric, allowed=allowed),
            trial.metadata(),
        )

    return Criterion(
        NOT_WORSE,
        f"On the same hold-out rows, its {metric.label} is not significantly worse than that of "
        f"the last good deployed version; a {metric.loss_name} of {allowed:g} is allowed.",
        facts,
        decide,
    )


def _find_reference(spec: ModelSpec, judge: Judge, ref: ModelRef) -> ModelRef | None:
    """Return what an artifact must not be worse than; None where it is the last good one itself.

    Where there is no last good one any more, what was found worse than it stays so.
    """
    good = find_last_good(spec, judge.platform, artifacts=judge.artifacts, log=judge.log)
    if good is not None:
        return None if good == ref else good
    place = place_for(spec, judge.platform)
    last = standing(judge.log.entries(ref), place=place).judged.get(NOT_WORSE)
    if last is None or last.passed or not last.is_comparison:
        return None
    return ref_to(spec.name, last.facts[COMPARED_WITH])


def _matches() -> Criterion:
    def facts(judge: Judge, ref: ModelRef) -> Facts:
        tags = judge.artifacts.etags(ref)
        lines = "".join(f"{tag}  {path}\n" for path, tag in sorted(tags.items()))
        return {"objects": hashlib.sha256(lines.encode()).hexdigest()}

    def decide(judge: Judge, ref: ModelRef) -> Verdict:
        manifest = judge.artifacts.verify(ref)
        count = len(manifest.files) + len(manifest.evaluation)
        return Verdict(
            passed=True,
            description=f"all {count} files match their digests in the manifest",
            metadata={"files": count, "digest": manifest.digest},
        )

    return Criterion(
        MATCHES,
        "Every file of the artifact in the object store matches its digest in the manifest.",
        facts,
        decide,
    )


def _no_skew(spec: ModelSpec) -> Criterion:
    server, tolerance = spec.server, spec.thresholds.tolerance

    def facts(judge: Judge, _ref: ModelRef) -> Facts:
        return {
            "environment": judge.platform.serving_environment.fingerprint(),
            "implementation": server.implementation,
            "parameters": json.dumps(server.parameters),
            "tolerance": repr(tolerance),
        }

    def decide(judge: Judge, ref: ModelRef) -> Verdict:
        report = check_skew(
            spec,
            ref,
            artifacts=judge.artifacts,
            environment=judge.platform.serving_environment,
        )
        return Verdict(
            report.max_difference <= tolerance,
            f"the scores of {report.rows} rows differ by at most {report.max_difference:.3g}; "
            f"the tolerance is {tolerance:g}",
            {
                "rows": report.rows,
                "max_difference": report.max_difference,
                "environment": report.environment,
            },
        )

    return Criterion(
        "predicts_the_same_where_it_is_served",
        "The serving environment loads the artifact and returns the same predictions as training.",
        facts,
        decide,
    )
