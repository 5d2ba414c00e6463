"""State folders: each is private, and holds a mark that says which platform made it."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, ConflictError


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Say what to do where the folder cannot be written.

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
    """Refuse to move into somebody's folder, which holds `found`: `purge` would remove it.

    Raises:
        ConflictError: always.
    """
    raise ConflictError(
        f"{home} must be empty or not there, and holds {', '.join(sorted(found)[:3])}, which this "
        "project did not make; choose another state folder with MLOPS_HOME"
    )


def purge(home: Path, *, mark: str, is_ours: bool) -> None:
    """Remove the folder and everything in it; nothing happens where there is none.

    Raises:
        ConflictError: it is not ours, as it would be with the file `mark` in it.
        ConfigurationError: something in it cannot be removed.
    """
    if not home.exists():
        return
    if not is_ours:
        raise ConflictError(
            f"{home} was not made by this project (it has no {mark}); "
            "look at it and remove it yourself"
        )
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise ConfigurationError(f"could not remove {home}: {error}") from error
