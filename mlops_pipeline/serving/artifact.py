"""The format of an artifact: a folder of files, and a `manifest.json` with their digests.

An artifact's digest covers the SHA-256 of its files and of its evaluation, and the manifest's
description of them: dataset, hyper-parameters, versions, metrics, signature. So one digest
identifies one training, wherever and whenever it ran. Standard library only: servers, publishers
and checks share this definition.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from mlops_pipeline.serving import VERSION
from mlops_pipeline.serving.schema import Schema, parse_schema
from mlops_pipeline.serving.signing.statement import SIGNATURE

MANIFEST = "manifest.json"
SKLEARN_FILES = ("model.joblib", "model.pickle", "model.pkl")
SAVED_MODEL = "saved_model.pb"
XGBOOST_FILES = ("model.ubj", "model.json", "model.bst")
LIGHTGBM_FILES = ("model.txt",)
ONNX_FILES = ("model.onnx",)
MLMODEL = "MLmodel"
"""The description of an MLflow model, in its folder."""
EXAMPLE = "example.json"
"""An optional file beside the model, with rows that the model can answer."""
FORMAT = 1
"""What a reader must understand. A field that a reader may pass over does not change it; a field
without which it would serve the model wrongly does, and so does any change within a field."""
NOTE = "note_"
"""How the name of a field begins that the digest does not cover, in this and in later versions."""
MOST_BYTES = 20_000_000_000
"""Default of the maximum size of an artifact."""
ROWS_AT_ONCE = 1_024
"""Most rows that a training, a trial and a verification ask a model at once: a custom class answers
so many within its timeout, and memory does not grow with the file."""
_CIRCUMSTANCES = frozenset(
    {
        *("digest", "run_id", "created", "inputs_digest"),
        *("origin", "content_digest", "reproducible"),
    }
)
"""Fields about when and by whom, not what: the same training in another run has the same digest.
Others follow from the content (`content_digest`) or from the framework (`reproducible`). New ones
have names with `NOTE`, so that earlier versions compute the same digest."""
_OPTIONAL = ("schema", "origin", "content_digest", "reproducible", "note_writer", "note_commit")
"""Fields that are not written while they are empty."""


class ArtifactError(Exception):
    """An artifact that does not match its manifest; names the files."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model."""

    name: str
    shape: tuple[int, ...]
    """-1 if the length varies: (-1, 4)."""
    datatype: str
    """A datatype of the Open Inference Protocol: FP32, FP64, INT64 …"""


@dataclass(frozen=True)
class Manifest:
    """An artifact's description, origin and evaluation."""

    name: str
    framework: str
    """`name` of a row in `serving/frameworks.py`."""
    files: Mapping[str, str]
    """Path below the artifact's folder, with `/` → SHA-256 in hexadecimal."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    output_names: tuple[str, ...] = ()
    """Names of the output columns (`data.names`); empty: `t:0`, `t:1` …"""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Python's and the frameworks' versions in the training process."""
    dataset_digest: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    inputs_digest: str = ""
    """Digest of everything that the training depends on: the same inputs need no second
    training."""
    run_id: str = ""
    created: str = ""
    """UTC, ISO 8601."""
    evaluation: Mapping[str, str] = field(default_factory=dict)
    """File of the evaluation (hold-out predictions, plots), beside the artifact → SHA-256."""
    task: str = ""
    """What it predicts: classification, regression, custom. Empty: published by a version without
    tasks, all of whose models classify."""
    schema: Schema | None = None
    """Columns of the data that the model was trained on, enforced on requests; None: numbers."""
    origin: str = ""
    """Where the model was trained, if elsewhere: `published from iris`, `imported from gs://…`."""
    content_digest: str = ""
    """SHA-256 of its weights and signatures, without the bytes around them in the files; empty: not
    computed. Two trainings of the same inputs may differ only in these bytes."""
    reproducible: str = ""
    """Whether the framework trains the same inputs to the same `bytes`, to the same `content`, or
    to `neither`; empty: unknown."""
    note_writer: str = VERSION
    """Version of this package that wrote it; empty: unknown."""
    note_commit: str = ""
    """The git commit of the model's file when it was trained, with `-dirty` if tracked files had
    changed since; empty: unknown."""
    format: int = FORMAT
    later: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a later version, which this one passes over and writes again. The digest covers
    them, except those with `NOTE`."""

    @property
    def digest(self) -> str:
        """The artifact's digest: 64 hexadecimal characters."""
        return digest_of(self._fields())

    @property
    def version(self) -> int:
        """TF Serving's numeric version."""
        return numeric_version(self.digest)

    def to_json(self) -> str:
        """Serialize with sorted keys and the digest, for readers."""
        fields = self._fields() | {"digest": self.digest}
        for name in _OPTIONAL:
            if not fields[name]:
                del fields[name]
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    def _fields(self) -> dict[str, Any]:
        fields = asdict(self)
        return {**fields.pop("later"), **fields}


class EarlierManifest(Manifest):
    """An older manifest, whose digest covers only the artifact's files."""

    @property
    def digest(self) -> str:
        """The digest with which the artifact was published and deployed."""
        lines = "".join(f"{sha}  {path}\n" for path, sha in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class BareManifest(Manifest):
    """The description of a model without a manifest: it has no digest."""

    number: int = 1
    """The number of its folder, as TF Serving counts."""

    @property
    def digest(self) -> str:
        """Empty."""
        return ""

    @property
    def version(self) -> int:
        """The number of the folder."""
        return self.number


def digest_of(manifest: Mapping[str, Any]) -> str:
    """Return the digest of the artifact whose manifest has these JSON fields.

    It is the SHA-256 of the canonical JSON (sorted keys, no spaces) of the artifact's description.
    """
    content = {
        key: value
        for key, value in manifest.items()
        if key not in _CIRCUMSTANCES and not key.startswith(NOTE)
    }
    if not content.get("task"):  # Versions without tasks had no such field.
        content.pop("task", None)
    if not content.get("schema"):
        content.pop("schema", None)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def parse_manifest(text: str | bytes) -> Manifest:
    """Parse a manifest. Fields that this version does not know are passed over.

    Raises:
        ArtifactError: it is not JSON, has a later format, or its digest does not match its content.
    """
    try:
        fields = json.loads(text)
        _check_format(fields)
        digest = fields.pop("digest")
        tensors = {
            key: tuple(Tensor(t["name"], tuple(t["shape"]), t["datatype"]) for t in fields[key])
            for key in ("inputs", "outputs")
        }
        fields.setdefault("note_writer", "")
        fields["output_names"] = tuple(fields.get("output_names", ()))
        fields["schema"] = parse_schema(fields.get("schema"))
        later = {key: fields.pop(key) for key in fields.keys() - _KNOWN}
        manifest = Manifest(**{**fields, **tensors}, later=later)
        earlier = EarlierManifest(**{**fields, **tensors}, later=later)
        actual, by_files = manifest.digest, earlier.digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"could not read {MANIFEST}: {error!r}") from error
    if by_files == digest:
        return earlier
    if actual != digest:
        raise ArtifactError(f"{MANIFEST} has the digest {digest}, but its content has {actual}")
    return manifest


_KNOWN = frozenset(one.name for one in dataclass_fields(Manifest)) - {"later"}


def _check_format(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest that this version does not understand, before anything else of it is read.

    Raises:
        ArtifactError: says which version does.
    """
    found = manifest.get("format", FORMAT)
    if type(found) is int and found <= FORMAT:
        return
    writer = manifest.get("note_writer")
    wanted = f"mlops-pipeline {writer}" if type(writer) is str and writer else "the later version"
    raise ArtifactError(
        f"{MANIFEST} has the format {str(found)[:80]}, and mlops-pipeline {VERSION} reads the "
        f"format {FORMAT}: the artifact was written by a later version. Serve it with an image of "
        f"{wanted} (its `mlops-pipeline up` builds and deploys that image), or publish the model "
        f"with mlops-pipeline {VERSION}"
    )


def hash_files(folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of every file below `folder`, except the manifest and the signature."""
    hashes, others = {}, {folder / MANIFEST, folder / SIGNATURE}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p not in others):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
        hashes[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return hashes


def links(folder: Path) -> list[str]:
    """Return the path of every symbolic link below `folder`, which `hash_files` may not see."""
    found = (
        Path(place, name).relative_to(folder).as_posix()
        for place, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if Path(place, name).is_symlink()
    )
    return sorted(found)


def with_links(files: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return path → SHA-256 with each symbolic link below `folder` as what no signature covers.

    What a link leads to may be changed without a change in the folder.
    """
    found = links(folder)
    plain = {path: sha for path, sha in files.items() if path not in found}
    return plain | {f"{path} (a symbolic link)": "" for path in found}


def verify(folder: Path, *, passed_over: Sequence[str] = ()) -> Manifest:
    """Compare every file in `folder` with the manifest there, and return the manifest.

    `passed_over` are files, or folders that end with `/`, which are not extra files unless the
    manifest has them.

    Raises:
        ArtifactError: the manifest, or a file, is missing, changed or unexpected; names each.
    """
    try:
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ArtifactError(f"{MANIFEST} is missing from the artifact in {folder}") from error
    hashes = hash_files(folder)
    wanted = {path: sha for path, sha in manifest.files.items() if path != SIGNATURE}
    there = {
        path: sha
        for path, sha in hashes.items()
        if path in wanted or not _is_below(path, passed_over)
    }
    problems = [f"missing: {path}" for path in sorted(wanted.keys() - there.keys())]
    problems += [f"extra: {path}" for path in sorted(there.keys() - wanted.keys())]
    problems += [
        f"changed: {path}"
        for path in sorted(there.keys() & wanted.keys())
        if there[path] != wanted[path]
    ]
    if problems:
        raise ArtifactError(
            f"the artifact {manifest.name} {manifest.digest[:12]} in {folder} does not match its "
            f"manifest: {'; '.join(problems)}"
        )
    return manifest


def _is_below(path: str, places: Sequence[str]) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in places)


def signed_files(manifest: Manifest, content: bytes) -> dict[str, str]:
    """Return path → SHA-256 of what an artifact's signature covers: its files and its manifest.

    `content` is the manifest as it is stored. Its circumstances are signed too.
    """
    files = {path: sha for path, sha in manifest.files.items() if path != SIGNATURE}
    return files | {MANIFEST: hashlib.sha256(content).hexdigest()}


def describe_excess(size: int, folder: Path, *, most: int = MOST_BYTES) -> str:
    """Return why an artifact of `size` bytes is not written below `folder`; empty if it fits.

    The folder, or one above it, must exist.
    """
    if size > most:
        return (
            f"it has {_shown(size)}, and the maximum is {_shown(most)}; raise the setting "
            "`max_artifact_gigabytes` if it is that large"
        )
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if size > (free := shutil.disk_usage(place).free):
        return f"it has {_shown(size)}, and {_shown(free)} are free in {place}; free disk space"
    return ""


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10_000_000 else f"{size} bytes"


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these files that is in `folder`, None if there is none."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def saved_models(folder: Path) -> Mapping[int, Path]:
    """Return number → folder of every SavedModel in a numbered folder."""
    found = (path.parent for path in folder.glob(f"*/{SAVED_MODEL}"))
    return {int(path.name): path for path in found if path.name.isdigit()}


def numeric_version(digest: str) -> int:
    """Return TF Serving's version: the digest's first 13 digits (< 2^53, so exact in JSON)."""
    return int(digest[:13], 16)
