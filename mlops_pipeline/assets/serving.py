"""Metadata: the serving artifact, since when, its quality, and the previous artifacts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.catalog.tasks import Metric
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.delivery.artifacts import ArtifactStore, StoredArtifact
from mlops_pipeline.delivery.criteria import required_checks
from mlops_pipeline.delivery.desired import find_pin
from mlops_pipeline.delivery.history import place_for, place_of
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.delivery.verdicts import Period, Standing, VerdictLog, standing
from mlops_pipeline.platforms.platform import Platform

_SHOWN = 20
"""Number of newest artifacts, or times of serving, in a table."""
_UNKNOWN = standing(())


def artifacts(
    spec: ModelSpec, *, platform: Platform, checked_next: ModelRef | None = None
) -> dg.MetadataValue:
    """Return a table of the model's newest artifacts, the newest first.

    `checked_next` is the artifact whose checks follow in the same run. If the object store does not
    answer, the result is a message: missing metadata does not fail a completed step.
    """
    try:
        stored, standings = _read(spec, platform)
    except PipelineError as error:
        return dg.MetadataValue.text(f"could not be read: {error}")
    return _table(spec, stored, standings, checked_next)


def _read(spec: ModelSpec, platform: Platform) -> tuple[list[StoredArtifact], dict[str, Standing]]:
    store, place = platform.object_store(), place_for(spec, platform)
    standings = VerdictLog(store).standings(spec.name, required=required_checks(spec), place=place)
    return ArtifactStore(store).list(spec.name), standings


def _table(
    spec: ModelSpec,
    stored: Sequence[StoredArtifact],
    standings: Mapping[str, Standing],
    checked_next: ModelRef | None = None,
) -> dg.MetadataValue:
    whole = [found for found in stored if found.complete]
    return metadata.records(
        [
            _row(
                found,
                spec.metric.name,
                standings.get(found.ref.digest, _UNKNOWN),
                unjudged="being checked" if found.ref == checked_next else "unjudged",
            )
            for found in whole[:_SHOWN]
        ]
    )


def _row(
    found: StoredArtifact, metric: str, standing: Standing, *, unjudged: str
) -> dict[str, Any]:
    last = standing.served[-1] if standing.served else None
    return {
        "artifact": found.ref.digest[:12],
        "trained": minute(found.created),
        metric: found.metrics.get(metric),
        "verdict": unjudged if standing.state == "unjudged" else standing.describe(),
        "served from": minute(last.since) if last else "",
        "served to": minute(last.until) if last and last.until else "",
    }


def of(deployment: DeploymentRef, spec: ModelSpec, *, platform: Platform) -> dict[str, Any]:
    """Return what the deployment serves, as a sentence and numbers, and what it served before.

    If the object store does not answer, the result is a message.
    """
    try:
        stored, standings = _read(spec, platform)
    except PipelineError as error:
        return {"served": dg.MetadataValue.text(f"could not be read: {error}")}
    artifact = deployment.model
    known = {found.ref.digest: found for found in stored}
    times = _times(standings, place_of(platform, deployment.namespace, deployment.name))
    now = known.get(artifact.digest)
    value = now.metrics.get(spec.metric.name) if now else None
    since = next((p.since for digest, p in times if digest == artifact.digest), None)
    return {
        "served": dg.MetadataValue.md(_sentence(artifact, spec.metric, value, times)),
        **({} if value is None else {spec.metric.name: value}),
        **({} if since is None else {"serving_since": _timestamp(since)}),
        **({"served_before": _history(times, known, spec.metric)} if times else {}),
        "artifacts": _table(spec, stored, standings),
    }


def pin(spec: ModelSpec, *, platform: Platform) -> dict[str, Any]:
    """Return a message about the pinned artifact and a newer one; nothing without a pin.

    If the object store does not answer, the result is a message.
    """
    try:
        found = find_pin(spec, platform)
    except PipelineError as error:
        return {"pin": dg.MetadataValue.text(f"could not be read: {error}")}
    return {"pin": dg.MetadataValue.text(found.describe())} if found else {}


def _times(standings: Mapping[str, Standing], place: str) -> list[tuple[str, Period]]:
    """Return (digest, period) of each artifact that served at the place, latest first."""
    times = [
        (digest, period)
        for digest, standing in standings.items()
        for period in standing.served
        if period.place == place
    ]
    return sorted(times, key=lambda found: found[1].since, reverse=True)


def _sentence(
    artifact: ModelRef, metric: Metric, value: float | None, times: Sequence[tuple[str, Period]]
) -> str:
    """Describe what serves, in short lines: the UI shows 1,000 characters and wraps nothing."""
    since = next((f" since {minute(p.since)}" for d, p in times if d == artifact.digest), "")
    lines = [f"**{artifact.digest[:12]}** serves{since}"]
    if value is not None:
        lines.append(f"hold-out {metric.label} {metric.shown(value)}")
    before = next((found for found in times if found[0] != artifact.digest), None)
    if before is None:
        lines.append("no earlier version is recorded")
    else:
        digest, period = before
        until = f" to {minute(period.until)}" if period.until else ""
        lines += [f"previously {digest[:12]}", f"from {minute(period.since)}{until}"]
    return "\n\n".join(lines)


def _history(
    times: Sequence[tuple[str, Period]], known: Mapping[str, StoredArtifact], metric: Metric
) -> dg.MetadataValue:
    return metadata.records(
        [
            {
                "artifact": digest[:12],
                "from": minute(period.since),
                "to": minute(period.until) if period.until else "now",
                f"hold-out {metric.name}": known[digest].metrics.get(metric.name)
                if digest in known
                else None,
                "deployed although refused": "yes" if period.although_refused else "",
            }
            for digest, period in times[:_SHOWN]
        ]
    )


def minute(time: str) -> str:
    """Return an ISO 8601 time as `2026-11-28 20:33 UTC`; other text is unchanged."""
    try:
        return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M UTC}"
    except ValueError:
        return time


def _timestamp(time: str) -> dg.MetadataValue:
    return dg.MetadataValue.timestamp(datetime.fromisoformat(time))
