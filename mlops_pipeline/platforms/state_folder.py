"""State folders: each is private, and has a mark that names the platform that created it."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, ConflictError


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Translate the error of a folder that cannot be written.

    Raises:
        ConfigurationError: it is not writable, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the state folder {home} cannot be written: {error.strerror or error}; "
            "make it writable, free space, or choose another with MLOPS_HOME"
        ) from error


def refuse_others(home: Path, found: Collection[str]) -> None:
    """Refuse to use somebody else's folder, which contains `found`: `purge` would delete it.

    Raises:
        ConflictError: always.
    """
    raise ConflictError(
        f"expected an empty or new folder, but {home} contains {', '.join(sorted(found)[:3])}, "
        "which this project did not create; choose another state folder with MLOPS_HOME"
    )


def purge(home: Path, *, mark: str, is_ours: bool) -> None:
    """Remove the folder and everything in it, if it exists.

    Raises:
        ConflictError: it is not ours: it has no file `mark`.
        ConfigurationError: something in it cannot be removed.
    """
    if not home.exists():
        return
    if not is_ours:
        raise ConflictError(
            f"this project did not create {home} (it has no {mark}); examine it and remove it "
            "yourself"
        )
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise ConfigurationError(f"could not remove {home}: {error}") from error
