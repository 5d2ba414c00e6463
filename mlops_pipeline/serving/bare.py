"""Models without a manifest, in the layout of Seldon's documentation."""

from pathlib import Path

from mlops_pipeline.serving.artifact import (
    MANIFEST,
    ArtifactError,
    BareManifest,
    Manifest,
    verify,
)
from mlops_pipeline.serving.frameworks import MLFLOW, Framework, find_served, frameworks


def describe(folder: Path, implementation: str | None = None) -> Manifest:
    """Verify a published artifact like `verify`, or describe a model without a manifest.

    `implementation` (`SKLEARN_SERVER` …) says which model of the folder is meant: so no code of a
    class beside it runs. Without it, a folder with `MLmodel` is MLflow's, and otherwise the first
    framework that finds its file loads it.

    Raises:
        ArtifactError: it is neither, or it does not match its manifest.
    """
    if (folder / MANIFEST).exists():
        return verify(folder)
    candidates = _candidates(implementation)
    for framework in candidates:
        if (number := framework.find(folder)) is not None:
            return BareManifest("model", framework.name, {}, inputs=(), outputs=(), number=number)
    if hint := next((hint for row in candidates if (hint := row.find_hint(folder))), None):
        raise ArtifactError(f"there is no model in {folder} that can be served: {hint}")
    wanted = " or ".join([MANIFEST, *(framework.found_by for framework in candidates)])
    raise ArtifactError(
        f"there is no model in {folder}, which {_contents(folder)}: expected {wanted}; set "
        "modelUri to the folder that contains it"
    )


def _candidates(implementation: str | None) -> tuple[Framework, ...]:
    """Return the frameworks that may load a folder; an unknown implementation is refused later."""
    served = find_served(implementation)
    return (served,) if served is not None else (MLFLOW, *frameworks())


def _contents(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"contains {', '.join(names[:8])}" if names else "is empty"
