"""The files of a model that somebody offers: which are taken, and which are refused."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    describe_excess,
    verify,
)
from mlops_pipeline.serving.frameworks import frameworks, get_framework
from mlops_pipeline.serving.signing.statement import SIGNATURE

_MOST_FILES = 10_000
_MOST_NAME = 512
"""Bytes of a file's path: S3 allows 1,024 for a whole key."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_PREFIXES = ("", "1/")
"""Where the model may be in the artifact: a SavedModel's folder is put into a numbered one."""


def find_files(
    folder: Path, spec: ModelSpec, *, most_bytes: int = MOST_BYTES
) -> Mapping[str, Path]:
    """Return path in the artifact → file, of a folder with a model of the spec's framework.

    Raises:
        ConfigurationError: it has none, or a file that cannot be taken; nothing was stored.
        IntegrityError: the folder has a manifest that does not match its files.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"could not publish {folder}: it is not a folder; give the folder that contains the "
            "model's files"
        )
    found = dict(_walk(folder))
    _refuse_sizes(folder, found, most_bytes)
    if MANIFEST in found:
        _require_intact(folder, spec)
        del found[MANIFEST]
    found.pop(SIGNATURE, None)  # Of other files: the artifact gets one of its own.
    prefix = _find_prefix(folder, spec)
    return {prefix + path: file for path, file in found.items()}


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (path with `/`, file) of every file; nothing outside of the folder is followed."""
    inside = folder.resolve()
    for place, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(place) / name
            shown = path.relative_to(folder).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise _refused(folder, f"{shown} is a link to {path.resolve()}, outside of it")
            if path.is_symlink() and not path.is_file():
                raise _refused(folder, f"{shown} is a link that does not lead to a file")
            if _UNSAFE.search(shown) or len(shown.encode(errors="replace")) > _MOST_NAME:
                raise _refused(
                    folder,
                    f"the name {shown!r} has a control character or a backslash, bytes that are "
                    f"not UTF-8, or more than {_MOST_NAME} bytes",
                )
            if name in names:
                if not stat.S_ISREG(path.stat().st_mode):
                    raise _refused(folder, f"{shown} is not a regular file")
                yield shown, path


def _refused(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"could not publish {folder}: {reason}; remove or rename it. Nothing was stored"
    )


def _refuse_sizes(folder: Path, found: Mapping[str, Path], most_bytes: int) -> None:
    if len(found) > _MOST_FILES:
        raise ConfigurationError(
            f"could not publish {folder}: it has {len(found)} files, and the maximum is "
            f"{_MOST_FILES}; give the folder that contains only the model. Nothing was stored"
        )
    size = sum(file.stat().st_size for file in found.values())
    if reason := describe_excess(size, Path(tempfile.gettempdir()), most=most_bytes):
        raise ConfigurationError(f"could not publish {folder}: {reason}. Nothing was stored")


def _require_intact(folder: Path, spec: ModelSpec) -> None:
    """Refuse a `manifest.json` that is not that of these files: our own name is in use."""
    try:
        manifest = verify(folder)
    except ArtifactError as error:
        raise IntegrityError(
            f"could not publish {folder}: it has a {MANIFEST}, which is the name of an artifact's "
            f"own description, but {error}. Remove that file. Nothing was stored"
        ) from error
    if manifest.framework != spec.framework:
        raise ConfigurationError(
            f"could not publish {folder}: its {MANIFEST} says {manifest.framework}, and the model "
            f"{spec.name} is {spec.framework}. Nothing was stored"
        )


def _find_prefix(folder: Path, spec: ModelSpec) -> str:
    """Return where the folder's content belongs in the artifact: at the top, or in `1/`.

    Raises:
        ConfigurationError: it has no model of the framework; says what it has.
    """
    wanted = get_framework(spec.framework)
    if wanted.find(folder) is not None:
        return ""
    with temporary_folder("arranged") as arranged:
        (arranged / "1").symlink_to(folder.resolve(), target_is_directory=True)
        if wanted.find(arranged) is not None:
            return _PREFIXES[1]
    other = [row for row in frameworks() if row.find(folder) is not None]
    names = sorted(path.name for path in folder.iterdir())
    has = ", ".join(names[:8]) or "no file"
    seen = f"it has {has}" + (f", which is a {other[0].title} model" if other else "")
    hint = wanted.find_hint(folder)
    raise ConfigurationError(
        f"could not publish {folder}: the model {spec.name} is a {wanted.title} model, which is "
        f"{wanted.found_by}, but {seen}{f'; {hint}' if hint else ''}. Give another "
        "folder, or correct `framework` of the ModelSpec. Nothing was stored"
    )
