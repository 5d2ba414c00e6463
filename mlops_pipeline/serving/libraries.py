"""The libraries with which a model is loaded. Standard library only."""

import platform

from mlops_pipeline.serving.distributions import installed
from mlops_pipeline.serving.frameworks import frameworks

_OTHERS = ("scipy", "uvicorn", "grpcio")
"""Libraries that serve every framework."""


def versions() -> dict[str, str]:
    """Return name → version of Python and of each installed library."""
    names = {name.removesuffix("-cpu") for row in frameworks() for name in row.libraries}
    found = {name: installed(name) for name in sorted({*names, *_OTHERS})}
    known = {name: version for name, version in found.items() if version is not None}
    return {"python": platform.python_version(), **known}
