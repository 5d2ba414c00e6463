"""The libraries with which a model is loaded. Standard library only."""

import platform
from importlib.metadata import PackageNotFoundError, version

from mlops_pipeline.serving.frameworks import frameworks

_OTHERS = ("scipy", "uvicorn", "grpcio")
"""Libraries that serve every framework."""


def versions() -> dict[str, str]:
    """Return name → version of Python and of each installed library."""
    found = {"python": platform.python_version()}
    names = {name.removesuffix("-cpu") for row in frameworks() for name in row.libraries}
    for name in sorted({*names, *_OTHERS}):
        for package in (name, f"{name}-cpu"):
            try:
                found[name] = version(package)
            except PackageNotFoundError:
                continue
    return found
