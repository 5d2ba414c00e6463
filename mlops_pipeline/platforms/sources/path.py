"""Installed programs: found on PATH, with their versions."""

import logging
import re
import shutil
from functools import lru_cache
from pathlib import Path

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run
from mlops_pipeline.platforms.sources.versions import PinnedFile

_log = logging.getLogger(__name__)
VERSION_COMMANDS = {"kind": ("version",), "helm": ("version", "--short")}
_TIMEOUT = 20.0


def find_fitting(wanted: PinnedFile) -> Path | None:
    """Return the program on PATH if its version is suitable, or None."""
    found = shutil.which(wanted.name)
    if found is None or not wanted.least:
        return None
    try:
        seen = Path(found).stat()
        version = _asked(wanted.name, Path(found), (seen.st_mtime_ns, seen.st_size))
    except (CommandError, OSError) as error:
        _log.warning("not using %s: %s", found, str(error).partition("\n")[0])
        return None
    if _numbers(wanted.least) <= _numbers(version) < _numbers(wanted.below):
        return Path(found)
    _log.info(
        "not using %s: its version is %s, expected %s to below %s; using %s instead",
        *(found, version or "unknown", wanted.least, wanted.below, wanted.version),
    )
    return None


def ask_version(name: str, program: Path) -> str:
    """Return the program's version (`v1.2.3`), or the beginning of its answer.

    Raises:
        CommandError: it does not run on this machine.
    """
    printed = run(
        [str(program), *VERSION_COMMANDS[name]],
        purpose=f"ask {name} for its version",
        timeout=_TIMEOUT,
    )
    found = re.search(r"v?\d+\.\d+\.\d+", printed)
    return found.group() if found else printed.strip()[:60]


@lru_cache(maxsize=16)
def _asked(name: str, program: Path, _state: tuple[int, int]) -> str:
    return ask_version(name, program)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
