"""Whether the serving images have the libraries that train models here."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.platforms.layers import Finding
from mlops_pipeline.platforms.sources.versions import PYTHON
from mlops_pipeline.serving.frameworks import frameworks

_RUN_TIMEOUT = 60.0


def compare(engine: EngineApi, images: Mapping[str, str]) -> Finding:
    """Compare the libraries of the images (repository → reference) with those installed here."""
    differences, facts = [], dict[str, str | int | float]()
    for repository, reference in images.items():
        found = _held_by(engine, reference)
        facts |= found
        differences += [f"{repository} has {words}" for words in _differences(found)]
    if differences:
        return Finding(
            passed=False,
            seen=f"{'; '.join(differences)}: install the versions of requirements/runtime.lock "
            "here; otherwise models are served by other versions than those that trained them",
            facts=facts,
        )
    shown = ", ".join(f"{name} {number}" for name, number in facts.items())
    return Finding(passed=True, seen=f"both images have {shown}, as here", facts=facts)


def _held_by(engine: EngineApi, reference: str) -> dict[str, str]:
    """Return name → version of an image's libraries."""
    command = ["-m", "mlops_pipeline.serving", "versions"]
    output = engine.run(reference, command, entrypoint="python", timeout=_RUN_TIMEOUT)
    return {str(name): str(number) for name, number in json.loads(output).items()}


def _differences(found: Mapping[str, str]) -> Iterator[str]:
    """Name an image's libraries whose version differs here. Of Python, the minor counts.

    An optional library that is not installed trains nothing here.
    """
    required = {name for row in frameworks() if not row.extra for name in row.libraries}
    optional = {name for row in frameworks() for name in row.libraries} - required
    for name, there in found.items():
        here = PYTHON if name == "python" else _installed(name)
        if not here and name in optional:
            continue
        if here != (there.rpartition(".")[0] if name == "python" else there):
            yield f"{name} {there}, expected {here or 'none'}"


def _installed(name: str) -> str:
    """Return the installed version; empty if it is not installed."""
    for package in (name, f"{name}-cpu"):
        with suppress(PackageNotFoundError):
            return version(package)
    return ""
