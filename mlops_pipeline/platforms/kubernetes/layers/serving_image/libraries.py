"""Whether the serving images hold the libraries that train models here."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.platforms.kubernetes.sources.versions import PYTHON
from mlops_pipeline.platforms.layers import Finding

_RUN_TIMEOUT = 60.0


def compare(engine: EngineApi, images: Mapping[str, str]) -> Finding:
    """Compare what the images (repository → reference) hold with what is installed here."""
    differences, facts = [], dict[str, str | int | float]()
    for repository, reference in images.items():
        found = _held_by(engine, reference)
        facts |= found
        differences += [f"{repository} has {words}" for words in _differences(found)]
    if differences:
        return Finding(
            passed=False,
            seen=f"{'; '.join(differences)}: install the versions of requirements/runtime.lock "
            "here, or models are served by others than those that train them",
            facts=facts,
        )
    shown = ", ".join(f"{name} {number}" for name, number in facts.items())
    return Finding(passed=True, seen=f"both images have {shown}, as here", facts=facts)


def _held_by(engine: EngineApi, reference: str) -> dict[str, str]:
    """Return name → version of what an image holds."""
    command = ["-m", "mlops_pipeline.serving", "versions"]
    output = engine.run(reference, command, entrypoint="python", timeout=_RUN_TIMEOUT)
    return {str(name): str(number) for name, number in json.loads(output).items()}


def _differences(found: Mapping[str, str]) -> Iterator[str]:
    """Say which of an image's libraries are here in another version. Python's minor counts."""
    for name, there in found.items():
        here = PYTHON if name == "python" else _installed(name)
        if here != (there.rpartition(".")[0] if name == "python" else there):
            yield f"{name} {there}, here is {here or 'none'}"


def _installed(name: str) -> str:
    """Return the version that is installed here; empty for none."""
    for package in (name, f"{name}-cpu"):
        with suppress(PackageNotFoundError):
            return version(package)
    return ""
