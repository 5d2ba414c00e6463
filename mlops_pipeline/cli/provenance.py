"""`provenance`: where an artifact comes from, and what is known of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.provenance import find_provenance
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.counts import Count
from mlops_pipeline.delivery.releases.records import releases_of
from mlops_pipeline.delivery.rolling_back import find_artifact
from mlops_pipeline.delivery.verdicts import VerdictLog

_LINES = (
    ("digest", "digest"),
    ("uri", "URI"),
    ("created", "created"),
    ("origin", "origin"),
    ("dagster_run", "Dagster run"),
    ("git_commit", "git commit"),
    ("framework", "framework"),
    ("verdict", "verdict"),
)
"""Field, and how people read it."""
_TABLES = (
    ("dataset", "dataset"),
    ("hyperparameters", "hyper-parameters"),
    ("versions", "versions"),
    ("metrics", "metrics"),
    ("files", "files"),
)


def find(context: Context, name: str, digest: str) -> dict[str, Any]:
    """Return the provenance of an artifact; without a digest, of the newest one.

    Raises:
        ConfigurationError: no model has this name.
        NotFoundError: it has no such artifact.
        PipelineError: the object store did not answer, or the artifact is damaged.
    """
    model = context.model(name)
    ref = _find_ref(context.artifacts, model.name, digest)
    return find_provenance(
        ref,
        artifacts=context.artifacts,
        log=VerdictLog(context.platform.object_store()),
        released=releases_of(ref, context.platform),
    )


def _find_ref(artifacts: ArtifactStore, name: str, digest: str) -> ModelRef:
    if digest:
        return find_artifact(artifacts, name, prefix=digest)
    newest = next((found.ref for found in artifacts.list(name) if found.complete), None)
    if newest is None:
        raise NotFoundError(f"{name} has no artifacts; run `mlops-pipeline up {name}`")
    return newest


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for people."""
    yield f"{found['model']}"
    for field, label in _LINES:
        if found[field]:
            yield f"  {label}: {found[field]}"
    signature = found["signature"]
    key = f" (key {signature['key']})" if signature["key"] else ""
    yield f"  signature: {signature['state']}{key}"
    for field, label in _TABLES:
        if found[field]:
            yield f"  {label}:"
            yield from (f"    {name}: {value}" for name, value in sorted(found[field].items()))
    yield "  checks:" if found["checks"] else "  checks: none was evaluated"
    for check in found["checks"]:
        state = "passed" if check["passed"] else "failed"
        yield f"    {check['check']} {state}: {check['sentence']} ({check['time']}, {check['by']})"
    yield "  releases:" if found["releases"] else "  releases: none has ended"
    for release in found["releases"]:
        yield from _describe_release(release)
    yield "  served:" if found["served"] else "  served: nowhere"
    for period in found["served"]:
        until = period["until"] or "now"
        refused = ", although refused" if period["although_refused"] else ""
        yield f"    {period['place']} from {period['since']} to {until}{refused}"


def _describe_release(release: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"    {release['place']} {release['outcome'].replace('_', ' ')} at {release['time']} by "
        f"{release['by']}: {release['reason']}"
    )
    yield (
        f"      {release['strategy']} beside {release['stable'][:12]} since {release['since']}, "
        f"requested by {release['requested_by']}"
    )
    for fields in release["evidence"]:
        count = Count(**fields)
        yield f"      step {count.step}, {count.share} %: {count.describe()}"
    if doubt := release["signature"]["doubt"]:
        yield f"      the signature of this record does not count: {doubt}"
