"""The libraries that a model is loaded with. Standard library only."""

import platform
from importlib.metadata import PackageNotFoundError, version

NAMES = ("numpy", "scipy", "scikit-learn", "joblib", "tensorflow", "mlserver")


def versions() -> dict[str, str]:
    """Return name → version of Python and of each that is installed."""
    found = {"python": platform.python_version()}
    for name in NAMES:
        for package in (name, f"{name}-cpu"):
            try:
                found[name] = version(package)
            except PackageNotFoundError:
                continue
    return found
