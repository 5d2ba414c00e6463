"""Signatures of what is in the object store: who makes them, and where they are verified.

The signature of an artifact covers its files and its manifest. It is no part of the digest, so
another key may sign the artifact again, and its verdicts stay.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from mlops_pipeline.clients.files import write_atomically
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.manifests import manifest_key, read_manifest
from mlops_pipeline.delivery.references import MODELS_BUCKET, ModelRef
from mlops_pipeline.platforms.signing import Signing, find_signature, split
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    describe_excess,
    hash_files,
    links,
    parse_manifest,
    signed_files,
)
from mlops_pipeline.serving.signing.bundle import Signed
from mlops_pipeline.serving.signing.errors import Problem, SignatureError
from mlops_pipeline.serving.signing.policy import read_signature, remedy
from mlops_pipeline.serving.signing.statement import SIGNATURE

_log = logging.getLogger(__name__)
OF_OTHERS = frozenset({Problem.UNKNOWN_KEY, Problem.REVOKED_KEY})
"""A signature that does not count here, but may count for others."""
_ATTEMPTS = 5
"""How often an artifact is signed while other publishers replace its manifest."""


class Signatures:
    """Signs and verifies artifacts of a store; without `signing` it does neither."""

    def __init__(self, store: Objects, signing: Signing | None) -> None:
        self._store = store
        self._signing = signing if signing is not None and not signing.is_off else None

    @property
    def are_required(self) -> bool:
        """Whether an artifact without one that counts is refused."""
        return self._signing is not None and self._signing.is_required

    def sign(self, ref: ModelRef, *, replaces: bool = False) -> None:
        """Sign the artifact as it is stored, unless a trusted key has signed just that.

        Its files are not read: the signature says which digests they must have. Publishers of one
        digest may come at once, with manifests that differ in time and run. The first manifest
        stays, and each signs the stored one.

        The signature of a key that does not count here may be the one that counts for others, who
        use the same store. It stays, unless `replaces`.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: its manifest is damaged, or that of another artifact.
            RefusedError: signatures are required, and another key has signed it; what to do.
            ConfigurationError: the key cannot be used.
            UnavailableError: the store did not answer, or its manifest changes all the time.
        """
        if self._signing is None:
            return
        for _ in range(_ATTEMPTS):
            stored = self._look(ref)
            if (error := self._problem(ref, stored)) is None:
                return
            if error.problem in OF_OTHERS and not replaces:
                self._leave(ref, error)
                return
            bundle = self._signing.sign(_files(ref, stored.manifest), name=_name(ref))
            try:
                is_new = stored.signature is None
                self._store.put(MODELS_BUCKET, _key(ref, SIGNATURE), bundle, if_absent=is_new)
            except ConflictError:  # Another publisher was faster; perhaps with another key.
                continue
            if self._store.find(MODELS_BUCKET, _key(ref, MANIFEST)) == stored.manifest:
                return
        raise UnavailableError(
            f"could not sign {ref.uri}: other processes replace its {MANIFEST} all the time; run "
            "the command again"
        )

    def require_replaceable(self, ref: ModelRef) -> None:
        """Require that no key has signed the artifact that does not count here.

        Raises:
            RefusedError: signatures are required, and one has; what to do.
        """
        if self._signing is None:
            return
        try:
            error = self._problem(ref, self._look(ref))
        except (NotFoundError, IntegrityError):
            return
        if error is not None and error.problem in OF_OTHERS:
            self._leave(ref, error)

    def may_keep(self, ref: ModelRef) -> bool:
        """Say whether the stored manifest may stay when the same artifact is published again.

        A manifest says when and where the training ran, which the digest does not cover: one that
        nobody vouches for may be anybody's. That of another key stays with its signature.
        """
        if self._signing is None:
            return True
        try:
            error = self._problem(ref, self._look(ref))
        except (NotFoundError, IntegrityError):
            return False
        return error is None or error.problem in OF_OTHERS

    def find_signed(self, ref: ModelRef) -> Signed | None:
        """Return what a trusted key signed of the stored artifact, None if it does not match.

        Raises:
            UnavailableError: the store did not answer.
        """
        if self._signing is None:
            return None
        try:
            stored = self._look(ref)
            return self._signing.inspect(stored.files, stored.signature, what=ref.uri)
        except (SignatureError, NotFoundError, IntegrityError):
            return None

    def is_complete(self, ref: ModelRef, manifest: bytes) -> bool:
        """Say whether the signature is there, where one is required.

        `manifest` is the stored one. An artifact that another key has signed is complete, but
        refused: to train it again would replace a signature that counts for others.

        Raises:
            RefusedError: the key that signed it is unknown or revoked; what to do.
        """
        if self._signing is None or not self._signing.is_required:
            return True
        try:
            error = self._problem(ref, self._look(ref, manifest))
        except (NotFoundError, IntegrityError):
            return False
        if error is not None and error.problem in OF_OTHERS:
            self._leave(ref, error)
        return error is None

    def check(self, ref: ModelRef) -> Signed | None:
        """Verify the signature of the stored manifest, and that no file is missing or extra.

        The bytes of the files are compared with the manifest by whoever reads them.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: its manifest is damaged, or that of another artifact.
            RefusedError: signatures are required, and there is none that counts; what to do.
        """
        if self._signing is None:
            return None
        stored, target = self._look(ref), _target(ref)
        return self._signing.check(stored.files, stored.signature, what=ref.uri, target=target)

    def check_folder(self, ref: ModelRef, folder: Path) -> Signed | None:
        """Verify the signature of a downloaded artifact, whose files match its manifest.

        Raises:
            RefusedError: signatures are required, and there is none that counts; what to do.
        """
        if self._signing is None:
            return None
        files = _files(ref, (folder / MANIFEST).read_bytes())
        signature = read_signature(folder)
        return self._signing.check(files, signature, what=ref.uri, target=_target(ref))

    def check_place(self, uri: str, *, most_bytes: int = MOST_BYTES) -> Signed | None:
        """Verify a folder of the object store that is not an artifact's own: reads every file.

        Raises:
            RefusedError: signatures are required, and there is none that counts; what to do.
            ConfigurationError: it has more than `most_bytes`, or the disk has too little space.
        """
        if self._signing is None:
            return None
        with temporary_folder("signed") as folder:
            files = fetch_files(self._store, uri, folder, most_bytes=most_bytes)
            signature = read_signature(folder)
        return self._signing.check(files, signature, what=uri, target=uri)

    def sign_place(self, uri: str, *, most_bytes: int = MOST_BYTES) -> None:
        """Sign every file of a folder of the object store, and put the signature there.

        Raises:
            NotFoundError: the folder is empty.
            IntegrityError: it has a manifest that does not match its files.
            ConfigurationError: signatures are off, the disk has too little space, or the key cannot
                be used.
        """
        if self._signing is None:
            raise ConfigurationError(
                f"could not sign {uri}: signatures are off; remove signing.mode from the settings"
            )
        with temporary_folder("signed") as folder:
            files = fetch_files(self._store, uri, folder, most_bytes=most_bytes)
            bundle = self._signing.sign(files, name=uri)
        bucket, prefix = split(uri)
        self._store.put(bucket, prefix + SIGNATURE, bundle)

    def find(self, ref: ModelRef) -> bytes | None:
        """Return the signature as it is stored, None if there is none."""
        return find_signature(self._store, ref.uri)

    def _problem(self, ref: ModelRef, stored: "_Stored") -> SignatureError | None:
        """Return why the signature does not count; None if it does, or nobody looks."""
        if self._signing is None:
            return None
        try:
            self._signing.inspect(stored.files, stored.signature, what=ref.uri)
        except SignatureError as error:
            return error
        return None

    def _leave(self, ref: ModelRef, error: SignatureError) -> None:
        """Let the signature of another key stay.

        Raises:
            RefusedError: signatures are required.
        """
        if self._signing is not None and self._signing.is_required:
            advice = remedy(error.problem, _target(ref))
            raise RefusedError(f"{error}. {advice}") from error
        _log.warning("%s. The signature stays, because it may count for others", error)

    def _look(self, ref: ModelRef, manifest: bytes | None = None) -> "_Stored":
        """Read what a signature is verified with: two requests, and one for a new manifest.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: its manifest is damaged, or that of another artifact.
        """
        folder = _key(ref, "")
        listed = self._store.listing(MODELS_BUCKET, folder)
        if manifest is None:
            found = listed.get(manifest_key(ref))
            manifest = read_manifest(self._store, ref, tag=found.tag if found else "")
        files = _files(ref, manifest)
        sizes = {key: one.size for key, one in listed.items()}
        paths = (key.removeprefix(folder) for key in sizes)
        # Of a file that the manifest lacks, no digest is known.
        stored = {path: files.get(path, "") for path in paths if path != SIGNATURE}
        return _Stored(manifest, stored, find_signature(self._store, ref.uri, sizes=sizes))


@dataclass(frozen=True)
class _Stored:
    """An artifact as it is stored."""

    manifest: bytes
    files: Mapping[str, str]
    """Path → SHA-256 by the manifest; empty for a file that it lacks."""
    signature: bytes | None


def fetch_files(
    store: Objects, uri: str, folder: Path, *, most_bytes: int = MOST_BYTES
) -> dict[str, str]:
    """Download a folder of the store into `folder`; return path → SHA-256 but of the signature.

    Raises:
        NotFoundError: it is empty.
        ConfigurationError: the disk has too little space for it.
        IntegrityError: a key leads out of the folder, or it has a manifest that does not match.
    """
    bucket, prefix = split(uri)
    sizes = store.sizes(bucket, prefix)
    if not sizes:
        raise NotFoundError(f"found no objects below {uri}; check whether the model exists")
    if reason := describe_excess(sum(sizes.values()), folder, most=most_bytes):
        raise ConfigurationError(f"could not read {uri}: {reason}")
    inside = folder.resolve()
    for key in sizes:
        target = (folder / key.removeprefix(prefix)).resolve()
        if not target.is_relative_to(inside):
            raise IntegrityError(f"the object {key!r} below {uri} would be written outside of it")
        store.download(bucket, key, target)
    return files_of(folder, uri)


def sign_folder(folder: Path, signing: Signing, *, name: str, into: Path | None = None) -> None:
    """Sign a folder of this machine; the signature goes into it, or into the file `into`.

    Raises:
        ConfigurationError: the key cannot be used, or the file cannot be written.
        IntegrityError: the folder has a manifest that does not match its files.
    """
    bundle = signing.sign(files_of(folder, name), name=name)
    write_atomically(into or folder / SIGNATURE, bundle)


def files_of(folder: Path, what: str) -> dict[str, str]:
    """Return path → SHA-256 of everything in a folder that a signature covers.

    Raises:
        IntegrityError: it has a manifest that does not match its files, or symbolic links.
    """
    if found_links := links(folder):
        raise IntegrityError(
            f"could not use {what}: {', '.join(found_links[:5])} are symbolic links, and only "
            "files are signed; copy the folder with `cp -rL`"
        )
    files = hash_files(folder)
    if not (folder / MANIFEST).exists():
        return files
    content = (folder / MANIFEST).read_bytes()
    try:
        manifest = signed_files(parse_manifest(content), content)
    except ArtifactError as error:
        raise IntegrityError(f"could not use {what}: {error}") from error
    found = files | {MANIFEST: hashlib.sha256(content).hexdigest()}
    if found != manifest:
        differing = sorted(path for path, _ in found.items() ^ manifest.items())
        raise IntegrityError(
            f"could not use {what}: {', '.join(dict.fromkeys(differing))} differ from its "
            f"{MANIFEST}; publish the model again"
        )
    return found


def _files(ref: ModelRef, content: bytes) -> Mapping[str, str]:
    """Return path → SHA-256 of what the signature of an artifact covers.

    Raises:
        IntegrityError: the manifest is damaged, or that of another artifact.
    """
    try:
        manifest = parse_manifest(content)
    except ArtifactError as error:
        raise IntegrityError(f"could not verify the artifact {ref.uri}: {error}") from error
    if (manifest.name, manifest.digest) != (ref.name, ref.digest):
        raise IntegrityError(
            f"the manifest at {ref.uri} belongs to the artifact {manifest.name} "
            f"{manifest.digest}; somebody moved files in the object store"
        )
    return signed_files(manifest, content)


def _key(ref: ModelRef, path: str) -> str:
    return f"{ref.name}/{ref.digest}/{path}"


def _name(ref: ModelRef) -> str:
    return f"{ref.name}/{ref.digest}"


def _target(ref: ModelRef) -> str:
    """Return what `mlops-pipeline sign` takes."""
    return f"{ref.name}/{ref.digest[:12]}"
