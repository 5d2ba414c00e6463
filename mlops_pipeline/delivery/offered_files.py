"""The files of a model that somebody offers: which are taken, and which are refused."""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.by_products import is_by_product
from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.clients.unpacking import MOST_FILES
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    describe_excess,
    verify,
)
from mlops_pipeline.serving.frameworks import frameworks, get_framework
from mlops_pipeline.serving.signing.statement import SIGNATURE

_MOST_NAME = 512
"""Bytes of a file's path: S3 allows 1,024 for a whole key."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_PREFIXES = ("", "1/")
"""Where the model may be in the artifact: a SavedModel's folder is put into a numbered one."""


@dataclass(frozen=True)
class Offer:
    """A model that was trained elsewhere, and what it is to be evaluated on."""

    model: RegisteredModel
    folder: Path
    origin: str
    """For the manifest: `published from iris`."""
    holdout: Path | None = None
    """File with the hold-out set; None: the dataset of the model's spec."""
    dataset: Path | None = None
    """The configured file of that dataset."""
    is_unevaluated: bool = False
    """Publish it without any hold-out set."""
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class OfferedFiles:
    """The files of a folder with a model."""

    files: Mapping[str, Path]
    """Path in the artifact → file."""
    passed_over: tuple[str, ...]
    """Files and folders that are never part of a model: `.git/`, `src/__pycache__/`."""

    def copy_to(self, folder: Path) -> None:
        """Copy the files to a new folder, so that nobody changes them until they are stored.

        Raises:
            ConfigurationError: a file cannot be read, or the disk is full.
        """
        folder.mkdir()
        for path, file in self.files.items():
            target = folder / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            except OSError as error:
                raise ConfigurationError(
                    f"could not copy {file} to {folder}: {error.strerror or error}; free disk "
                    "space there, or make the file readable. Nothing was stored"
                ) from error


def find_files(folder: Path, spec: ModelSpec, *, most_bytes: int = MOST_BYTES) -> OfferedFiles:
    """Return the files of a folder with a model of the spec's framework.

    Raises:
        ConfigurationError: it has none, or a file that cannot be taken; nothing was stored.
        IntegrityError: the folder has a manifest that does not match its files.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"could not publish {folder}: it is not a folder; give the folder that contains the "
            "model's files"
        )
    passed_over: list[str] = []
    found = dict(_walk(folder, passed_over))
    _refuse_sizes(folder, found, most_bytes)
    if MANIFEST in found:
        _require_intact(folder, spec, passed_over)
        del found[MANIFEST]
    found.pop(SIGNATURE, None)  # Of other files: the artifact gets one of its own.
    prefix = _find_prefix(folder, spec)
    files = {prefix + path: file for path, file in found.items()}
    return OfferedFiles(files, tuple(sorted(passed_over)))


def _walk(folder: Path, passed_over: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield (path with `/`, file) of every file; nothing outside of the folder is followed.

    What is never part of a model is neither read nor followed, and is appended to `passed_over`.
    """
    inside = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        beside = Path(place).relative_to(folder)
        for listed, mark in ((folders, "/"), (names, "")):
            for name in [one for one in listed if is_by_product(one, folder=bool(mark))]:
                listed.remove(name)
                passed_over.append((beside / name).as_posix() + mark)
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


def _unreadable(error: OSError) -> None:
    raise ConfigurationError(
        f"could not publish {error.filename}: {error.strerror}; make it readable. Nothing was "
        "stored"
    ) from error


def _refused(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"could not publish {folder}: {reason}; remove or rename it. Nothing was stored"
    )


def _refuse_sizes(folder: Path, found: Mapping[str, Path], most_bytes: int) -> None:
    if len(found) > MOST_FILES:
        raise ConfigurationError(
            f"could not publish {folder}: it has {len(found)} files, and the maximum is "
            f"{MOST_FILES} files; give the folder that contains only the model. Nothing was stored"
        )
    size = sum(file.stat().st_size for file in found.values())
    if reason := describe_excess(size, Path(tempfile.gettempdir()), most=most_bytes):
        raise ConfigurationError(f"could not publish {folder}: {reason}. Nothing was stored")


def _require_intact(folder: Path, spec: ModelSpec, passed_over: Sequence[str]) -> None:
    """Refuse a `manifest.json` that is not that of these files: our own name is in use."""
    try:
        manifest = verify(folder, passed_over=passed_over)
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
    names = sorted(
        path.name for path in folder.iterdir() if not is_by_product(path.name, folder=path.is_dir())
    )
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    seen = (f"it has {', '.join(names[:8])}{more}" if names else "it is empty") + (
        f", which is a {other[0].title} model" if other else ""
    )
    hint = wanted.find_hint(folder)
    raise ConfigurationError(
        f"could not publish {folder}: the model {spec.name} is a {wanted.title} model, which is "
        f"{wanted.found_by}, but {seen}{f'; {hint}' if hint else ''}. Give another "
        "folder, or correct `framework` of the ModelSpec. Nothing was stored"
    )
