"""Artifacts in the object store: immutable, content-addressed, whole or not there.

Bucket `models`::

    <model>/<digest>/…                what the servers load; then manifest.json, then model.sig
    <model>/evaluations/<digest>/…    hold-out set with offline scores, plots, evidence
    <model>/inputs/<digest>.json      which artifact a training with these inputs made
    <model>/inputs/published.json     which artifact was published last that was trained elsewhere
    <model>/verdicts/<digest>/…       what was found out about it, see `verdicts`
    <model>/releases/<platform>/…     how its releases ended, see `releases.records`
"""

import hashlib
import io
import json
import logging
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from mlops_pipeline.catalog import evaluating
from mlops_pipeline.clients.errors import (
    DAMAGES,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.s3 import Listed, Objects
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.manifests import manifest_key, read_manifest
from mlops_pipeline.delivery.references import MODELS_BUCKET, ModelRef
from mlops_pipeline.delivery.signatures import Signatures
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    ArtifactError,
    Manifest,
    describe_excess,
    parse_manifest,
    verify,
)
from mlops_pipeline.serving.signing.statement import SIGNATURE

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
BUCKET = MODELS_BUCKET
_PUBLISHED = "published"
_log = logging.getLogger(__name__)
_DIGEST_LENGTH = 64
_URI = re.compile(rf"s3://{BUCKET}/(?P<name>[^/]+)/(?P<digest>[0-9a-f]{{{_DIGEST_LENGTH}}})")

_PATH = re.compile(
    rf"(?:^|/){BUCKET}/(?P<name>[^/]+)/(?P<digest>[0-9a-f]{{{_DIGEST_LENGTH}}})(?:/|$)"
)


@dataclass(frozen=True)
class Holdout:
    """The hold-out set of an artifact, with the scores of the training process."""

    x: "NDArray[Any]"
    """Shape [n, features]: numbers, or cells of a table; cells of strings [n]."""
    y: "NDArray[Any]"
    """Targets, shape [n]: class numbers, or numbers."""
    scores: "NDArray[Any]"
    """Shape [n, outputs]."""

    def sample(self, most: int) -> "Holdout":
        """Return at most `most` of the rows, spread over the classes or the range of targets."""
        return self.where(spread(self.y, most=most))

    def where(self, chosen: "NDArray[Any]") -> "Holdout":
        """Return the rows with these numbers, or those for which `chosen`, shape [n], is true."""
        return Holdout(self.x[chosen], self.y[chosen], self.scores[chosen])


def spread(targets: "NDArray[Any]", *, most: int) -> "NDArray[Any]":
    """Return the numbers of at most `most` rows, in ascending order, spread over the targets.

    They are evenly spaced where the rows are sorted by target, so that neither a set that is sorted
    nor one in which the classes alternate leaves a class out.
    """
    import numpy as np

    by_target = np.argsort(targets, kind="stable")
    places = np.linspace(0, len(targets) - 1, min(most, len(targets))).astype(np.int64)
    return np.sort(by_target[places])


@dataclass(frozen=True)
class StoredArtifact:
    """What lies below one digest, whole or not."""

    ref: ModelRef
    created: str
    """UTC, ISO 8601; empty when incomplete."""
    metrics: Mapping[str, float]
    """Name → value on its hold-out set; empty when incomplete."""
    size: int
    """Bytes of its files."""
    complete: bool


def ref_to(name: str, digest: str) -> ModelRef:
    """Return the reference to an artifact."""
    return ModelRef(name, f"s3://{BUCKET}/{name}/{digest}", digest)


def find_ref(uri: str) -> ModelRef | None:
    """Return the reference to the artifact that a `modelUri` names, or None for another folder."""
    found = _URI.fullmatch(uri.rstrip("/"))
    return ref_to(found["name"], found["digest"]) if found else None


def find_ref_in(uri: str) -> ModelRef | None:
    """Return the reference to the artifact at or around a path of any remote, or None."""
    path = posixpath.normpath(unquote(uri.partition("://")[2]))
    found = _PATH.search(path)
    return ref_to(found["name"], found["digest"]) if found else None


class ArtifactStore:
    """The bucket `models`. With `signing`, artifacts are signed and their signatures verified."""

    def __init__(self, store: Objects, *, signing: Signing | None = None) -> None:
        self._store = store
        self.signatures = Signatures(store, signing)

    def publish(
        self, manifest: Manifest, *, files: Path, evaluation: Path, replaces: bool = False
    ) -> ModelRef:
        """Store an artifact part by part, sign it, and return the reference to it.

        `files` and `evaluation` are the folders that hold what the manifest names. An interrupted
        publication leaves nothing that `manifest()` finds; publishing again completes it, and mends
        an artifact whose files were changed or joined by others. The signature of a key that does
        not count here is replaced only with `replaces`.

        Raises:
            RefusedError: signatures are required, and such a key has signed it; what to do.
            UnavailableError: the store did not answer.
        """
        ref = ref_to(manifest.name, manifest.digest)
        if not replaces:
            self.signatures.require_replaceable(ref)
        for name in manifest.evaluation:
            self._store.upload(BUCKET, _evaluation_key(ref, name), evaluation / name)
        prefix = f"{ref.name}/{ref.digest}/"
        for path in manifest.files:
            self._store.upload(BUCKET, prefix + path, files / path)
        _remove_others(self._store, ref, manifest)
        content = manifest.to_json().encode()
        try:
            self._store.put(BUCKET, prefix + MANIFEST, content, if_absent=True)
        except ConflictError:
            if not (self._has_manifest(ref) and self.signatures.may_keep(ref)):
                self._store.put(BUCKET, prefix + MANIFEST, content)
        self.signatures.sign(ref, replaces=replaces)
        self._store.put(
            BUCKET,
            f"{ref.name}/inputs/{manifest.inputs_digest or _PUBLISHED}.json",
            json.dumps({"digest": ref.digest}).encode(),
        )
        return ref

    def find_by_inputs(self, name: str, *, inputs_digest: str) -> ModelRef | None:
        """Return the artifact that a training with these inputs made, if it is whole.

        A damaged record of it counts as none: the next training writes it again.
        """
        ref = self._find_indexed(name, inputs_digest)
        return ref if ref is not None and self.exists(ref) else None

    def find_published(self, name: str) -> ModelRef | None:
        """Return the artifact that was published last and trained elsewhere.

        Whether its signature counts is asked when it is deployed.
        """
        ref = self._find_indexed(name, _PUBLISHED)
        return ref if ref is not None and self._has_manifest(ref) else None

    def _find_indexed(self, name: str, inputs: str) -> ModelRef | None:
        index = self._store.find(BUCKET, f"{name}/inputs/{inputs}.json")
        try:
            return ref_to(name, str(json.loads(index)["digest"])) if index is not None else None
        except DAMAGES:
            return None

    def size(self, ref: ModelRef) -> int:
        """Return the bytes that a server downloads."""
        return sum(self._store.sizes(BUCKET, f"{ref.name}/{ref.digest}/").values())

    def exists(self, ref: ModelRef) -> bool:
        """Return whether the artifact is there, with its manifest and a signature that counts.

        Raises:
            RefusedError: signatures are required, and the key that signed it is unknown or revoked.
        """
        try:
            content = read_manifest(self._store, ref)
            _parse(ref, content)
        except (NotFoundError, IntegrityError):
            return False
        return self.signatures.is_complete(ref, content)

    def _has_manifest(self, ref: ModelRef) -> bool:
        try:
            self.manifest(ref)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def manifest(self, ref: ModelRef) -> Manifest:
        """Return the artifact's manifest.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: the manifest is not the one of this digest.
        """
        return _parse(ref, read_manifest(self._store, ref))

    def download(self, ref: ModelRef, folder: Path) -> Manifest:
        """Write the artifact's objects into `folder`, whatever they are, and verify them.

        Raises:
            NotFoundError: there is no such artifact.
            ConfigurationError: the disk has too little space for it; nothing was downloaded.
            IntegrityError: a file is missing, changed or extra; names each.
            RefusedError: it is unsigned, altered, or signed by a key that is not trusted.
        """
        self.manifest(ref)
        prefix = f"{ref.name}/{ref.digest}/"
        sizes = self._store.sizes(BUCKET, prefix)
        total = sum(sizes.values())
        if reason := describe_excess(total, folder, most=total):
            raise ConfigurationError(f"could not download {ref.uri} to {folder}: {reason}")
        for key in sizes:
            self._store.download(BUCKET, key, folder / key.removeprefix(prefix))
        try:
            manifest = verify(folder)
        except ArtifactError as error:
            raise IntegrityError(f"{ref.uri}: {error}; train again with `force`") from error
        self.signatures.check_folder(ref, folder)
        return manifest

    def verify(self, ref: ModelRef) -> Manifest:
        """Read every file of the artifact and of its evaluation, and return the manifest.

        Raises:
            NotFoundError: there is no such artifact, or a file of its evaluation is missing.
            IntegrityError: a file is missing, changed or extra; names each.
        """
        with temporary_folder("verify") as folder:
            manifest = self.download(ref, folder)
        for name in manifest.evaluation:
            self._evaluation_file(ref, manifest, name)
        return manifest

    def etags(self, ref: ModelRef) -> dict[str, str]:
        """Return path → entity tag of each object of the artifact, without reading the files.

        The same tags mean the same bytes: whoever overwrites an object changes its tag. Without
        that of the signature: the same artifact may be signed again.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: the manifest is not the one of this digest.
        """
        files = self._store.etags(BUCKET, f"{ref.name}/{ref.digest}/")
        tag = files.get(manifest_key(ref), "")
        manifest = _parse(ref, read_manifest(self._store, ref, tag=tag))
        evaluation = self._store.etags(BUCKET, _evaluation_key(ref, ""))
        named = {_evaluation_key(ref, name) for name in manifest.evaluation}
        files.pop(f"{ref.name}/{ref.digest}/{SIGNATURE}", None)
        return files | {key: tag for key, tag in evaluation.items() if key in named}

    def holdout(self, ref: ModelRef) -> Holdout:
        """Return the artifact's hold-out set, its bytes checked against the manifest."""
        return _read_holdout(self.evaluation_file(ref, evaluating.HOLDOUT))

    def proof_rows(self, ref: ModelRef) -> Holdout:
        """Return the rows that prove a server: the hold-out set, or the row of an unevaluated one.

        The targets of an unevaluated artifact are NaN: nobody knows them.
        """
        manifest = self.manifest(ref)
        is_unevaluated = evaluating.PROBE in manifest.evaluation
        name = evaluating.PROBE if is_unevaluated else evaluating.HOLDOUT
        digest = manifest.evaluation.get(name, "")
        return _rows_of(digest, lambda: self._evaluation_file(ref, manifest, name))

    def evaluation_file(self, ref: ModelRef, name: str) -> bytes:
        """Return a file of the evaluation.

        Raises:
            NotFoundError: this artifact's evaluation has no such file.
            IntegrityError: it was changed.
        """
        return self._evaluation_file(ref, self.manifest(ref), name)

    def _evaluation_file(self, ref: ModelRef, manifest: Manifest, name: str) -> bytes:
        wanted = manifest.evaluation.get(name)
        if wanted is None:
            raise NotFoundError(f"the evaluation of {ref.uri} does not contain {name}")
        data = self._store.get(BUCKET, _evaluation_key(ref, name))
        if (seen := hashlib.sha256(data).hexdigest()) != wanted:
            raise IntegrityError(
                f"expected {name} of the evaluation of {ref.uri} to have the SHA-256 {wanted}, "
                f"got {seen}; train again with `force`"
            )
        return data

    def evaluation_files(self, ref: ModelRef, *, suffixes: tuple[str, ...]) -> dict[str, bytes]:
        """Return name → content of the evaluation's files whose names end like this.

        Raises:
            IntegrityError: one was changed.
        """
        manifest = self.manifest(ref)
        known = [name for name in sorted(manifest.evaluation) if name.endswith(suffixes)]
        return {name: self._evaluation_file(ref, manifest, name) for name in known}

    def evidence(
        self,
        ref: ModelRef,
        name: str,
        *,
        make: Callable[[], Mapping[str, Any]],
        parse: Callable[[Mapping[str, Any]], T],
    ) -> T:
        """Return what was once found out about this artifact, finding it out when it is new.

        Evidence that `parse` cannot read is found out again.
        """
        key = _evaluation_key(ref, f"{name}.json")
        if (known := self._store.find(BUCKET, key)) is not None:
            try:
                return parse(json.loads(known))
            except DAMAGES as error:
                _log.warning("%s/%s is damaged (%r); evaluating it again", BUCKET, key, error)
        found = make()
        self._store.put(BUCKET, key, json.dumps(found).encode())
        return parse(found)

    def models(self) -> Sequence[str]:
        """Return the names of all models that have artifacts, registered or not."""
        return sorted({key.split("/")[0] for key in self._store.sizes(BUCKET, "") if "/" in key})

    def list(self, name: str) -> list[StoredArtifact]:
        """Return every artifact of the model, the newest first, and what interruptions left."""
        listed = self._store.listing(BUCKET, f"{name}/")
        sizes: dict[str, int] = {}
        for key, one in listed.items():
            digest = key.split("/")[1]
            if len(digest) == _DIGEST_LENGTH:
                sizes[digest] = sizes.get(digest, 0) + one.size
        refs = [(ref_to(name, digest), size) for digest, size in sizes.items()]
        found = [_describe(self._store, ref, size, listed) for ref, size in refs]
        return sorted(found, key=lambda artifact: artifact.created, reverse=True)

    def delete(self, ref: ModelRef) -> None:
        """Remove an artifact: its manifest first, so that it is never half there."""
        self._store.delete(BUCKET, f"{ref.name}/{ref.digest}/{MANIFEST}")
        for prefix in (f"{ref.name}/{ref.digest}/", f"{ref.name}/evaluations/{ref.digest}/"):
            for key in self._store.sizes(BUCKET, prefix):
                self._store.delete(BUCKET, key)


def _describe(
    store: Objects, ref: ModelRef, size: int, listed: Mapping[str, Listed]
) -> StoredArtifact:
    manifest = listed.get(manifest_key(ref))
    try:
        read = _parse(ref, read_manifest(store, ref, tag=manifest.tag if manifest else ""))
    except (NotFoundError, IntegrityError):
        return StoredArtifact(ref, "", {}, size, complete=False)
    return StoredArtifact(ref, read.created, read.metrics, size, complete=True)


def check_for_servers(artifacts: ArtifactStore, ref: ModelRef, *, they_verify: bool) -> None:
    """Verify the signature before servers load the artifact, and the bytes if nobody else does.

    `they_verify` says whether the servers do. Without signatures, or where they only warn, no file
    is read.

    Raises:
        NotFoundError: there is no such artifact.
        IntegrityError: a file is missing, changed or extra; names each.
        RefusedError: it is unsigned, altered, or signed by a key that is not trusted.
    """
    if they_verify or not artifacts.signatures.are_required:
        artifacts.signatures.check(ref)
    else:
        artifacts.verify(ref)


def _parse(ref: ModelRef, content: bytes) -> Manifest:
    """Return the manifest of an artifact.

    Raises:
        IntegrityError: it is damaged, or not the one of this digest.
    """
    try:
        manifest = parse_manifest(content)
    except ArtifactError as error:
        raise IntegrityError(
            f"could not verify the artifact {ref.uri}: {error}; train again with `force`"
        ) from error
    if (manifest.name, manifest.digest) != (ref.name, ref.digest):
        raise IntegrityError(
            f"the manifest at {ref.uri} belongs to the artifact {manifest.name} "
            f"{manifest.digest}; somebody moved files in the object store. Train again with `force`"
        )
    return manifest


def _rows_of(digest: str, read: Callable[[], bytes]) -> Holdout:
    """Return the rows in the file with a digest: the steps of a run read the same ones."""
    if digest not in _rows_read:
        rows = _read_holdout(read())
        if len(_rows_read) == _KEPT:
            _rows_read.clear()
        _rows_read[digest] = rows
    return _rows_read[digest]


_KEPT = 4
_rows_read: dict[str, Holdout] = {}
"""SHA-256 of a file → its rows."""


def artifact_store(platform: Platform) -> ArtifactStore:
    """Return the artifacts of a platform, signed and verified as its settings say.

    Raises:
        NotFoundError: the object store layer is absent.
    """
    return ArtifactStore(platform.object_store(), signing=platform.signing)


def _remove_others(store: Objects, ref: ModelRef, manifest: Manifest) -> None:
    """Remove what is not the artifact's own from its folder, which has all of its files.

    Raises:
        UnavailableError: a file has disappeared.
    """
    prefix = f"{ref.name}/{ref.digest}/"
    there = {key.removeprefix(prefix) for key in store.sizes(BUCKET, prefix)}
    if missing := manifest.files.keys() - there:
        raise UnavailableError(
            f"could not publish {ref.uri}: {', '.join(sorted(missing))} disappeared during "
            "the upload; another process may be pruning artifacts. Run the command again"
        )
    for path in there - {*manifest.files, MANIFEST, SIGNATURE}:
        store.delete(BUCKET, prefix + path)


def _evaluation_key(ref: ModelRef, name: str) -> str:
    return f"{ref.name}/evaluations/{ref.digest}/{name}"


def _read_holdout(content: bytes) -> Holdout:
    """Return the rows in an .npz; without targets, these are NaN."""
    import numpy as np

    from mlops_pipeline.serving.cells import unpack

    with np.load(io.BytesIO(content)) as arrays:
        x = unpack("x", arrays)
        y = arrays["y"] if "y" in arrays else np.full(len(x), np.nan)
        return Holdout(x, y, arrays["scores"])
