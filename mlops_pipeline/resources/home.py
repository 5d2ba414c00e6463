"""The state folder: whose it is, and what in it is deleted with the records."""

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import PRIVATE, make_private, write_atomically
from mlops_pipeline.platforms.build import PLATFORMS, has_platform
from mlops_pipeline.platforms.keyring import KEYS
from mlops_pipeline.resources import configuration

MARK = ".mlops-pipeline"
"""The file that marks a state folder. It is written first, into an empty or new folder."""
EXAMPLES = "examples"
_RECORDS = "dagster"
CONTENT = frozenset({MARK, _RECORDS, EXAMPLES, KEYS, *PLATFORMS})
"""Expected content of a state folder. A folder with more may be a home folder."""


def require_ours(home: Path) -> None:
    """Refuse a folder with other people's files: names of folders do not tell whose they are.

    A folder of an earlier version, which wrote no mark, has that of a platform, or a configuration
    of Dagster that names the version of our defaults.

    Raises:
        ConfigurationError: it is not ours, nor empty; nothing was changed.
    """
    try:
        found = {path.name for path in home.iterdir() if not path.name.startswith(".")}
        # Asked after looking: whoever comes at once marks, then fills.
        if not found - {"lost+found"} or (home / MARK).exists() or _is_of_earlier_version(home):
            return
    except OSError:
        return  # What uses it says what is wrong with it.
    raise ConfigurationError(
        f"the state folder {home} contains {', '.join(sorted(found)[:3])}, which this project "
        "did not create; set MLOPS_HOME to an empty or new folder. Nothing was changed"
    )


def _is_of_earlier_version(home: Path) -> bool:
    return configuration.is_marked(home / _RECORDS / "dagster.yaml") or any(
        has_platform(home / name) for name in PLATFORMS
    )


def make(home: Path) -> None:
    """Create the folder, accessible only to this user, and mark it.

    Raises:
        ConfigurationError: it is not ours, nor empty; nothing was changed. Or it cannot be written.
        OSError: it cannot be made.
    """
    require_ours(home)
    make_private(home)
    if not home.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not (home / MARK).exists():
        write_atomically(home / MARK, "", mode=PRIVATE)


def remove(home: Path, *, examples: Iterable[str], keeps_keys: bool = False) -> None:
    """Delete records, keys, these example files and the mark; the folder too, if it is then empty.

    What else is in it stays, and what cannot be deleted. With `keeps_keys` the keys of signatures
    stay: artifacts that they signed may be in a store that is not deleted.
    """
    shutil.rmtree(home / _RECORDS, ignore_errors=True)
    if not keeps_keys:
        shutil.rmtree(home / KEYS, ignore_errors=True)
    for name in examples:
        with suppress(OSError):
            (home / EXAMPLES / name).unlink()
    with suppress(OSError):
        (home / EXAMPLES).rmdir()
    with suppress(OSError):
        if not {path.name for path in home.iterdir()} & (CONTENT - {MARK}):
            (home / MARK).unlink(missing_ok=True)
        home.rmdir()


def describe_left(home: Path) -> list[str]:
    """Say, after `remove`, which files the folder still contains, if it does."""
    if any((home / name).exists() for name in PLATFORMS):
        return []  # They keep the records too.
    files = (path for path in home.rglob("*") if path.is_file() and path != home / MARK)
    found = sorted(str(path.relative_to(home)) for path in files)
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return [f"{home} keeps {shown}; delete what nobody needs"] if found else []
