"""`models`: every artifact, how it stands and when it served."""

from collections.abc import Mapping

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.tasks import Metric
from mlops_pipeline.cli.context import Context
from mlops_pipeline.delivery.artifacts import StoredArtifact
from mlops_pipeline.delivery.criteria import required_checks
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.pruning import deployed_uris
from mlops_pipeline.delivery.verdicts import Standing, VerdictLog, standing


def list_artifacts(context: Context, model: RegisteredModel) -> list[tuple[str, ...]]:
    """Return a row for each artifact, the newest first.

    Model, digest, creation time, main metric, verdict, times of serving, whether it is deployed.
    """
    used = deployed_uris(context.platform.deployments)
    known = VerdictLog(context.platform.object_store()).standings(
        model.name,
        required=required_checks(model.spec),
        place=place_for(model.spec, context.platform),
    )
    return [
        (
            model.name,
            artifact.ref.digest[:12],
            artifact.created,
            describe_quality(model.spec.metric, artifact.metrics),
            (stands := known.get(artifact.ref.digest, standing(()))).describe(),
            _served(stands),
            _mark(artifact, used),
        )
        for artifact in context.artifacts.list(model.name)
    ]


def describe_quality(metric: Metric, metrics: Mapping[str, float]) -> str:
    """Return the model's main metric: `accuracy 0.9667`; empty if the artifact does not have it."""
    value = metrics.get(metric.name)
    return "" if value is None else f"{metric.label} {metric.shown(value)}"


def _served(stands: Standing) -> str:
    """Return the last time in which it served: from when to when, to the minute, UTC."""
    if not stands.served:
        return ""
    last = stands.served[-1]
    return f"{_minute(last.since)} – {_minute(last.until) if last.until else ''}".rstrip()


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _mark(artifact: StoredArtifact, used: set[str]) -> str:
    if artifact.ref.uri in used:
        return "deployed"
    return "" if artifact.complete else "incomplete"
