"""Brings a model's files from elsewhere into a folder that can be published."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.addresses import shown
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.fetching import Fetched, Fetcher, Web
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.serving.artifact import describe_excess
from mlops_pipeline.serving.frameworks import get_framework


@dataclass(frozen=True)
class Brought:
    """A folder with a model's files, and what was fetched."""

    folder: Path
    fetched: Fetched


def bring(
    uri: str,
    spec: ModelSpec,
    folder: Path,
    *,
    web: Web,
    store: Callable[[], Objects],
    most_bytes: int,
    sha256: str = "",
) -> Brought:
    """Fetch what `uri` names into the empty `folder`, as a folder of the model's framework.

    `store` makes the client of `s3://`. `sha256` is the digest that the fetched file or archive
    must have; of a folder, that of its files.

    Raises:
        ConfigurationError: the URI is invalid, what it names is too large, or a single file does
            not belong to the framework.
        NotFoundError: nothing is there.
        IntegrityError: it has another digest, or an archive is damaged or leads out of its folder.
        UnavailableError: the other side did not answer.
    """

    def require_room(size: int, place: Path) -> str:
        return describe_excess(size, place, most=most_bytes)

    fetched = Fetcher(web, store, most_bytes, require_room).fetch(uri, folder)
    if sha256 and fetched.sha256 != sha256.lower():
        raise IntegrityError(
            f"expected {shown(uri)} to have the SHA-256 {sha256}, got {fetched.sha256}; nothing "
            "was stored"
        )
    if fetched.path.is_dir():
        return Brought(fetched.path, fetched)
    return Brought(_as_folder(fetched.path, spec, folder / "model"), fetched)


def _as_folder(file: Path, spec: ModelSpec, folder: Path) -> Path:
    """Copy a single file into a folder, under the name that the framework's server looks for."""
    framework = get_framework(spec.framework)
    fitting = [name for name in framework.files if name.endswith(file.suffix.lower() or "?")]
    name = file.name if file.name in framework.files or not fitting else fitting[0]
    folder.mkdir()
    try:
        shutil.copyfile(file, folder / name)
    except OSError as error:
        raise ConfigurationError(
            f"could not copy {file} to {folder}: {error.strerror or error}. Nothing was stored"
        ) from error
    if framework.find(folder) is None:
        hint = framework.find_hint(folder)
        raise ConfigurationError(
            f"could not import {file.name}: the model {spec.name} is a {framework.title} model, "
            f"which is {framework.found_by}{f'; {hint}' if hint else ''}. Nothing was stored"
        )
    return folder
