"""The build context of the serving images: the server, its locks and a Dockerfile."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.sources.versions import PYTHON_IMAGE

DOCKERFILE = "Dockerfile"
BASE = PYTHON_IMAGE
"""The Python that loads models is the one that trains them."""

_DEPLOY = ("Dockerfile", "install.sh", "slim.py", "*.lock")
_PACKAGE = b'"""The model server alone."""\n'
_TIME = 1_500_000_000
"""The time of every file, so that the same content makes the same image."""
_INDEXES: Mapping[str, tuple[str, ...]] = {
    # Two variables for the same, of pip and of uv, which install one after the other.
    "PIP_INDEX_URL": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_DEFAULT_INDEX": ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"),
    "PIP_EXTRA_INDEX_URL": ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    "UV_INDEX": ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
    "PIP_TRUSTED_HOST": ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
    "UV_INSECURE_HOST": ("UV_INSECURE_HOST", "PIP_TRUSTED_HOST"),
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Engines know these variables, and do not keep them in an image's history."""


def contents() -> dict[str, bytes]:
    """Return path → content of every file of the context."""
    package = _package()
    found = {"runtime/mlops_pipeline/__init__.py": _PACKAGE}
    for path in _files(package / "deploy", *_DEPLOY):
        found[path.name] = path.read_bytes()
    for path in _files(package / "serving", "**/*.py"):
        found[f"runtime/mlops_pipeline/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    return found


def tag_of(files: Mapping[str, bytes]) -> str:
    """Return 16 hexadecimal characters that identify the context and the base image."""
    digest = hashlib.sha256(BASE.encode())
    for path, content in sorted(files.items()):
        digest.update(f"\n{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files below `folder`, readable by the image's user."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
        os.utime(path, (_TIME, _TIME))
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the build's arguments: the base image, and how this machine reaches packages.

    Raises:
        ConfigurationError: a variable has a password, which everybody with the image could read in
            its history.
    """
    given = {"BASE": BASE}
    for argument, names in _INDEXES.items():
        for name in names:
            if environment.get(name):
                _refuse_passwords(name, environment[name])
                given[argument] = environment[name]
                break
    return given | {name: environment[name] for name in _PROXIES if environment.get(name)}


def _refuse_passwords(name: str, value: str) -> None:
    for url in value.split():
        if urlsplit(url.rpartition("=")[2] if "=" in url.partition("://")[0] else url).password:
            raise ConfigurationError(
                f"could not build the serving images: {name} contains a password, which would stay "
                "readable in the images' history; for this command, use an index that needs none, "
                "such as a proxy of this machine"
            )


def _package() -> Path:
    spec = find_spec("mlops_pipeline")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0])


def _files(folder: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())
