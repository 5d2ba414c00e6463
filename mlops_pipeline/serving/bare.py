"""Models without a manifest, in the layout of Seldon's documentation."""

from pathlib import Path

from mlops_pipeline.serving.artifact import (
    MANIFEST,
    ArtifactError,
    BareManifest,
    Manifest,
    verify,
)
from mlops_pipeline.serving.frameworks import frameworks


def describe(folder: Path) -> Manifest:
    """Verify a published artifact like `verify`, or describe a model without a manifest.

    Raises:
        ArtifactError: it is neither, or it does not match its manifest.
    """
    if (folder / MANIFEST).exists():
        return verify(folder)
    for framework in frameworks():
        if (number := framework.find(folder)) is not None:
            return BareManifest("model", framework.name, {}, inputs=(), outputs=(), number=number)
    if hint := next((hint for row in frameworks() if (hint := row.find_hint(folder))), None):
        raise ArtifactError(f"there is no model in {folder} that can be served: {hint}")
    wanted = " or ".join([MANIFEST, *(framework.found_by for framework in frameworks())])
    raise ArtifactError(
        f"there is no model in {folder}, which {_contents(folder)}: expected {wanted}; set "
        "modelUri to the folder that contains it"
    )


def _contents(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"contains {', '.join(names[:8])}" if names else "is empty"
