"""Versions and entry points of installed packages. Standard library only."""

import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

_SEPARATORS = re.compile(r"[-_.]+")


def installed(name: str, first: Sequence[str] = ()) -> str | None:
    """Return the version of a package, or of its build for processors, `NAME-cpu`; None: neither.

    `first` are folders that are searched before those of this process.
    """
    wanted = _SEPARATORS.sub("-", name).lower()
    for package in (wanted, f"{wanted}-cpu"):
        for found in metadata.distributions(name=package, path=[*first, *sys.path]):
            return found.version
    return None


def entry_points(group: str) -> metadata.EntryPoints:
    """Return the entry points of a group. A search reads a file of every installed package."""
    found: metadata.EntryPoints = _all_entry_points(tuple(sys.path)).select(group=group)
    return found


@lru_cache(maxsize=1)
def _all_entry_points(_folders: tuple[str, ...]) -> Any:
    """Return all of them, in a class that depends on Python's version."""
    return metadata.entry_points()
