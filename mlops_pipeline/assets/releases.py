"""Releases in the UI: what a person or the sensor asks for, and metadata that shows how far one is.

Metadata that cannot be read or drawn is a message: it does not fail a completed step.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata
from mlops_pipeline.assets.serving import minute
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.delivery.releases import plots
from mlops_pipeline.delivery.releases.archive import Archive
from mlops_pipeline.delivery.releases.counts import counts_by_step, counts_in_all
from mlops_pipeline.delivery.releases.driver import Progress, describe_release
from mlops_pipeline.delivery.releases.evidence import Evidence
from mlops_pipeline.delivery.releases.latencies import find_latencies
from mlops_pipeline.delivery.releases.records import ReleaseRecord, history
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.weighing import e_value_of, threshold, weigh
from mlops_pipeline.platforms.platform import Platform

_SHOWN = 20
"""Number of newest releases in the table."""


def of(progress: Progress, spec: ModelSpec, *, platform: Platform) -> dict[str, Any]:
    """Return metadata of the release that is in progress or has just ended, and of earlier ones."""
    shown: dict[str, Any] = {}
    if progress.decision is not None:
        shown["release"] = progress.describe()
    if (release := progress.release) is not None:
        shown |= _state(progress, release)
        shown |= _read("release_evidence", lambda: _evidence(progress, release, spec, platform))
    return shown | _read("releases", lambda: _history(spec, platform))


def _read(name: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except PipelineError as error:
        return {name: dg.MetadataValue.text(f"could not be read: {error}")}


def _state(progress: Progress, release: Release) -> dict[str, Any]:
    """Return a sentence in short lines, because the UI wraps nothing, and both versions."""
    lines = [f"since {minute(release.step_since)}", f"requested by {release.by}"]
    if progress.decision is not None:
        lines.insert(0, progress.describe())
    said = describe_release(release, progress.action).split("; ")
    return {
        "release": dg.MetadataValue.md("\n\n".join([*said, *lines])),
        "stable": release.stable,
        "candidate": release.candidate,
        "share": release.share,
    }


def _evidence(
    progress: Progress, release: Release, spec: ModelSpec, platform: Platform
) -> dict[str, Any]:
    evidence = progress.evidence or Archive(spec, platform).evidence(release)
    steps = [
        {
            "step": count.step,
            "share": f"{count.share} %",
            "metric": count.metric,
            "requests": "of clients" if count.source == "clients" else "replayed rows",
            "candidate": count.candidate_events,
            "of its answers": count.candidate_answers,
            "stable": count.stable_events,
            "of stable answers": count.stable_answers,
        }
        for count in counts_by_step(evidence, release.plan)
    ]
    return {
        **({"release_evidence": metadata.records(steps)} if steps else {}),
        "release_limits": metadata.records(_limits(release, evidence)),
        **_pictures(release, evidence, platform, spec),
    }


def _limits(release: Release, evidence: Evidence) -> list[dict[str, Any]]:
    """Return what decides, by metric: promoted below each limit, rolled back at the threshold."""
    return [
        {
            "metric": weighed.metric,
            "limit": weighed.limit,
            "upper bound": weighed.bound,
            "missing answers": weighed.missing,
            "evidence against it": e_value_of(weighed.log_e),
            "rolled back at": threshold(release.plan),
        }
        for weighed in weigh(release, evidence)
    ]


def _pictures(
    release: Release, evidence: Evidence, platform: Platform, spec: ModelSpec
) -> dict[str, Any]:
    slow_over = evidence.steps[-1].slow_over if evidence.steps else None
    latencies = _find_latencies(release, platform, spec)
    drawn = {
        "traffic": plots.draw_traffic(release, evidence, now=datetime.now(UTC)),
        "e_values": plots.draw_e_values(evidence, threshold=threshold(release.plan)),
        "answers": plots.draw_answers(evidence),
        "latency": plots.draw_latency(*latencies, slow_over=slow_over),
    }
    return {
        f"release_{name}": metadata.picture(png, title=name)
        for name, png in drawn.items()
        if png is not None
    }


def _find_latencies(
    release: Release, platform: Platform, spec: ModelSpec
) -> tuple[plots.Latency, plots.Latency]:
    try:
        return find_latencies(spec, platform, release)
    except PipelineError:  # The counts of the evidence say whether the servers answer.
        return plots.Latency(0), plots.Latency(0)


def _history(spec: ModelSpec, platform: Platform) -> dict[str, Any]:
    rows = [_row(record) for record in history(spec, platform, most=_SHOWN)]
    return {"releases": metadata.records(rows)} if rows else {}


def _row(record: ReleaseRecord) -> dict[str, Any]:
    release, decision = record.release, record.decision
    in_all = counts_in_all(record.evidence, release.plan)
    return {
        "candidate": release.candidate[:12],
        "stable": release.stable[:12],
        "strategy": release.plan.strategy,
        "from": minute(release.since),
        "to": minute(decision.time),
        "outcome": decision.outcome.replace("_", " "),
        "reason": decision.reason,
        "decided by": decision.by,
        "counts": "; ".join(count.describe() for count in in_all),
        "signature": record.doubt or (f"key {record.key[:16]}" if record.key else "signing is off"),
    }
