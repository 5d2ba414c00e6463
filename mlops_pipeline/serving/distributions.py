"""Versions of installed packages. Standard library only."""

import re
import sys
from collections.abc import Sequence
from importlib import metadata

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
