"""The serving environment: this very Python environment, in a process of its own."""

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mlops_pipeline.clients.process import run
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.platforms import offline
from mlops_pipeline.serving.frameworks import frameworks

_OTHERS = ("mlops-pipeline", "uvicorn", "grpcio", "scipy")
"""What serves with every framework."""
_TIMEOUT = 120.0


class LocalServingEnvironment:
    """The libraries beside `sys.executable`, where the embedded model servers run too."""

    def __init__(self, *, temporary: Path) -> None:
        self._temporary = temporary

    def fingerprint(self) -> str:
        """Name the environment by Python's, the libraries' and the runtime's own version."""
        names = {*_OTHERS, *(name for row in frameworks() for name in row.libraries)}
        versions = {name: _version(name) for name in sorted(names)}
        content = [sys.version, json.dumps(versions, sort_keys=True), _sources()]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]

    def predict(
        self,
        model: Path,
        rows: Path,
        *,
        implementation: str,
        parameters: Sequence[tuple[str, str]],
        signature: Path | None = None,
    ) -> list[list[float]]:
        """Load the artifact in a fresh process and return its scores for `rows`.

        `rows` is an .npy file of shape [n, features]; the answer has shape [n, outputs].
        `signature` is a file to write: JSON with the `inputs` and `outputs` of a manifest.

        Raises:
            CommandError: it does not load or does not predict; with the reason.
            IntegrityError: what it wrote is not a table of scores.
        """
        with temporary_folder("scores", within=_existing(self._temporary)) as folder:
            output = folder / "scores.npy"
            told = offline.arguments(
                model=model,
                rows=rows,
                output=output,
                implementation=implementation,
                parameters=parameters,
            )
            run(
                [sys.executable, *told],
                purpose=f"try the artifact in {model} in the serving environment",
                timeout=_TIMEOUT,
            )
            offline.keep_signature(output, signature)
            return offline.read_scores(output, who="the serving environment", rows=rows)


def _existing(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _sources() -> str:
    """Digest the runtime's source files, which change without a version while it is developed."""
    package = find_spec("mlops_pipeline.serving")
    digest = hashlib.sha256()
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
