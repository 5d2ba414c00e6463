"""Compares the versions that an MLflow model wants with the installed ones."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.serving.custom.folder import pins
from mlops_pipeline.serving.distributions import installed
from mlops_pipeline.serving.errors import ExitCode, StartError

_REQUIREMENTS, _CONDA = "requirements.txt", "conda.yaml"
_OWN = {
    "sklearn": ("sklearn_version", "scikit-learn"),
    "xgboost": ("xgb_version", "xgboost"),
    "lightgbm": ("lgb_version", "lightgbm"),
}
"""Flavour → its field with the version of its library, and the library."""
_IGNORED = ("mlflow", "mlflow-skinny", "databricks-connect")


def check_versions(folder: Path, name: str, flavour: Mapping[str, Any]) -> None:
    """Require libraries that can load the model, by their major and minor version.

    A pickle needs the version that wrote it; a file of XGBoost or LightGBM, this or a later one.
    `python_function` needs every package that the model names, because it may import each of them.

    Raises:
        StartError: one is missing or has another version; names all of them.
    """
    if name == "python_function":
        problems = list(_of_packages(folder))
    else:
        problems = list(_of_library(name, flavour))
    if problems:
        raise StartError(
            f"The MLflow model in {folder} wants other library versions: {'; '.join(problems)}. "
            "Install these versions where it is served, log the model again with the installed "
            "ones, or set the parameter ignore_versions to true to serve it nevertheless.",
            code=ExitCode.MODEL,
        )


def _of_library(name: str, flavour: Mapping[str, Any]) -> Iterator[str]:
    if name not in _OWN:
        return
    field, library = _OWN[name]
    wanted = str(flavour.get(field) or "")
    found = installed(library)
    if not wanted or found is None:
        return
    is_pickle = name == "sklearn" or str(flavour.get("data", "")).endswith((".pkl", ".skops"))
    here, there = _short(found), _short(wanted)
    if here != there if is_pickle else here < there:
        yield f"{library} {wanted} is required, but {found} is installed"


def _of_packages(folder: Path) -> Iterator[str]:
    for library, wanted in pins(_requirements(folder)):
        if library.lower() in _IGNORED:
            continue
        found = installed(library)
        if found is None:
            yield f"{library} {wanted} is not installed"
        elif _short(found) != _short(wanted):
            yield f"{library} {wanted} is required, but {found} is installed"


def _requirements(folder: Path) -> str:
    """Return the lines of `requirements.txt`, or those of pip in `conda.yaml`."""
    try:
        return (folder / _REQUIREMENTS).read_text(errors="replace")
    except OSError:
        pass
    try:
        document = yaml.safe_load((folder / _CONDA).read_bytes())
        entries = document.get("dependencies") or []
    except (OSError, yaml.YAMLError, AttributeError):
        return ""
    groups = [entry.get("pip") or [] for entry in entries if isinstance(entry, dict)]
    return "\n".join(str(line) for group in groups for line in group)


def _short(version: str) -> tuple[int, ...]:
    """Return (major, minor) of a version."""
    parts = [*version.split("+")[0].split("."), "0"][:2]  # 1 is 1.0.
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)
