"""The folder of a custom component: which class it holds, and which packages it needs.

    component.json      {"class": "MODULE:CLASS", "parameters": {…}}; optional beside a single
                        NAME.py that defines the class NAME, as in Seldon's own wrapper
    MODULE.py           the class, and every file that it reads
    requirements.lock   the packages that it needs, each `name==version`
    site-packages/      these packages, installed when the model was trained

Standard library only, and no code of the folder is run.
"""

import ast
import json
import platform
import re
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_pipeline.serving.distributions import installed
from mlops_pipeline.serving.errors import ExitCode, StartError

COMPONENT = "component.json"
LOCK = "requirements.lock"
PACKAGES = "site-packages"
FOUND_BY = f"{COMPONENT} or a NAME.py that defines the class NAME"

_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)")


@dataclass(frozen=True)
class Description:
    """What `component.json` says."""

    module: str
    class_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the constructor; the parameters of the graph replace them."""
    environment: str = ""
    """Python and platform of the packages in `site-packages`; empty: there are none."""


def find_version(folder: Path) -> int | None:
    """Return 1 if the folder holds a component, otherwise None."""
    return 1 if (folder / COMPONENT).is_file() or len(_named_classes(folder)) == 1 else None


def describe(folder: Path) -> Description:
    """Return which class of the folder is the component.

    Raises:
        StartError: the folder does not say so, or its `component.json` is invalid.
    """
    file = folder / COMPONENT
    if not file.is_file():
        names = _named_classes(folder)
        if len(names) != 1:
            found = f"it has {' and '.join(names)}" if names else "it has none"
            raise _invalid(
                f"{folder} has no {COMPONENT}, so it must have one NAME.py that defines the class "
                f"NAME, but {found}"
            )
        return Description(names[0], names[0])
    try:
        said = json.loads(file.read_bytes())
        name, parameters = said["class"], said.get("parameters", {})
        environment = said.get("environment", "")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _invalid(
            f'{file} must contain {{"class": "MODULE:CLASS"}}, but it cannot be read: {error!r}'
        ) from error
    if not (isinstance(name, str) and _CLASS.fullmatch(name) and isinstance(parameters, dict)):
        raise _invalid(
            f'{file} must contain {{"class": "MODULE:CLASS", "parameters": {{…}}}}, got {said!r}'
        )
    module, _, class_name = name.partition(":")
    return Description(module, class_name, parameters, str(environment))


def write(folder: Path, description: Description) -> None:
    """Write `component.json`."""
    document: dict[str, object] = {"class": f"{description.module}:{description.class_name}"}
    if description.parameters:
        document["parameters"] = dict(description.parameters)
    if description.environment:
        document["environment"] = description.environment
    (folder / COMPONENT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def environment() -> str:
    """Return what installed packages depend on: Python's version and the platform."""
    return f"Python {platform.python_version().rpartition('.')[0]}, {sysconfig.get_platform()}"


def check_packages(folder: Path, description: Description) -> None:
    """Require that the packages of `requirements.lock` are installed, and for this Python.

    Raises:
        StartError: one is missing or has another version; nothing is installed here.
    """
    if (folder / PACKAGES).is_dir() and description.environment not in ("", environment()):
        raise _invalid(
            f"The packages in {folder / PACKAGES} were installed for {description.environment}, "
            f"but this is {environment()}; train the model with this Python"
        )
    lock = folder / LOCK
    if not lock.is_file():
        return
    problems = list(differences(lock.read_text(errors="replace"), folder / PACKAGES))
    if problems:
        raise _invalid(
            f"{lock} does not match the installed packages: {'; '.join(problems)}. Packages are "
            "installed when a model is trained, never when a server starts: call "
            "save_python(…, requirements=FILE) where it is trained, or install them in the "
            "environment of the server"
        )


def differences(requirements: str, packages: Path | None = None) -> Iterator[str]:
    """Yield what is missing or has another version than `name==version` in the lines.

    `packages` is a folder that is searched first. Other lines (options, hashes, markers that do
    not apply) are not compared.
    """
    own = [str(packages)] if packages else []
    for name, wanted in pins(requirements):
        found = installed(name, own)
        if found is None:
            yield f"{name} {wanted} is not installed"
        elif found != wanted:
            yield f"{name} {wanted} is required, but {found} is installed"


def pins(requirements: str) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of each line `name==version`."""
    for line in requirements.splitlines():
        found = _PIN.match(line.strip())
        if found and _applies(line):
            yield found[1], found[2]


def describe_loose(requirements: str) -> str | None:
    """Return which requirement has no exact version or no hash; None if the lock is exact."""
    lines = requirements.replace("\\\n", " ").splitlines()
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        if not _PIN.match(line) or "--hash=" not in line:
            return f"the line {line[:120]!r} is not NAME==VERSION with --hash=sha256:…"
    return None


def _applies(line: str) -> bool:
    """Say whether a requirement's marker (`; python_version < "3.12"`) is true here."""
    _, _, marker = line.split(" #")[0].partition(";")
    marker = marker.split("--hash")[0].strip().rstrip("\\").strip()
    if not marker:
        return True
    try:
        from packaging.markers import InvalidMarker, Marker
    except ImportError:
        return True
    try:
        return Marker(marker).evaluate()
    except InvalidMarker:
        return True


def _named_classes(folder: Path) -> list[str]:
    """Return NAME of every NAME.py at the top of the folder that defines the class NAME."""
    return [path.stem for path in sorted(folder.glob("*.py")) if path.stem in _classes(path)]


def _classes(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def _invalid(sentence: str) -> StartError:
    return StartError(f"{sentence}.", code=ExitCode.MODEL)
