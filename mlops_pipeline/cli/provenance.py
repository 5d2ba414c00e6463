"""`provenance`: where an artifact comes from, and what is known of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.provenance import find_provenance
from mlops_pipeline.delivery.references import ModelRef
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
    log = VerdictLog(context.platform.object_store())
    return find_provenance(ref, artifacts=context.artifacts, log=log)


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
    yield "  releases:" if found["releases"] else "  releases: none"
    for release in found["releases"]:
        until = release["until"] or "now"
        refused = ", although refused" if release["although_refused"] else ""
        yield f"    {release['place']} from {release['since']} to {until}{refused}"
