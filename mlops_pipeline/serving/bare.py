"""Models without a manifest, laid out as Seldon's own documentation has them."""

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
    """Check a published artifact as `verify` does, or describe a model without a manifest.

    Raises:
        ArtifactError: it is neither; or it has a manifest, and is not what that says.
    """
    if (folder / MANIFEST).exists():
        return verify(folder)
    for framework in frameworks():
        if (number := framework.find(folder)) is not None:
            return BareManifest("model", framework.name, {}, inputs=(), outputs=(), number=number)
    wanted = " nor ".join([MANIFEST, *(framework.found_by for framework in frameworks())])
    raise ArtifactError(
        f"there is no model in {folder}, which {_contents(folder)}: neither {wanted}; "
        "does modelUri name the folder that holds it?"
    )


def _contents(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"holds {', '.join(names[:8])}" if names else "is empty"
