"""The working directories of custom components, each with links to the files of an artifact.

They are in a folder of the server alone, which the variable `MLOPS_SCRATCH` names. Where a server
and its component were killed together, the next start of the server deletes what they left.
Without the variable, they are in the default place of temporary files, as in a container.
"""

import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "MLOPS_SCRATCH"
_PREFIX = "component-"


def make(folder: Path) -> Path | None:
    """Return a working directory with links to the files of `folder`; None if there is no space.

    What the class writes there is not in the artifact, which its digest describes.
    """
    place = _place()
    try:
        if place is not None:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        for path in folder.iterdir():
            (made / path.name).symlink_to(path)
    except OSError:
        return None
    return made


def clear() -> None:
    """Delete what a killed server of this one's name has left; nothing without the variable."""
    if (place := _place()) is not None:
        for path in place.glob(f"{_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)  # Its links, not what they lead to.


def _place() -> Path | None:
    """Return the server's folder; a relative path is below its working directory."""
    place = os.environ.get(VARIABLE)
    return Path(place).resolve() if place else None
