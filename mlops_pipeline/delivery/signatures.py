"""Signatures of what is in the object store: who makes them, and where they are verified.

The signature of an artifact covers its files and its manifest. It is no part of the digest, so
another key may sign the artifact again, and its verdicts stay.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import write_atomically
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.references import MODELS_BUCKET, ModelRef
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    MOST_BYTES,
    ArtifactError,
    describe_excess,
    hash_files,
    parse_manifest,
    signed_files,
)
from mlops_pipeline.serving.signing.bundle import MOST_BYTES as MOST_SIGNATURE
from mlops_pipeline.serving.signing.bundle import Signed
from mlops_pipeline.serving.signing.errors import SignatureError
from mlops_pipeline.serving.signing.policy import read_signature
from mlops_pipeline.serving.signing.statement import SIGNATURE

_ATTEMPTS = 5
"""How often an artifact is signed while other publishers replace its manifest."""


class Signatures:
    """Signs and verifies artifacts of a store; without `signing` it does neither."""

    def __init__(self, store: Objects, signing: Signing | None) -> None:
        self._store = store
        self._signing = signing if signing is not None and not signing.is_off else None

    def sign(self, ref: ModelRef) -> None:
        """Sign the artifact as it is stored, unless a trusted key has signed just that.

        Its files are not read: the signature says which digests they must have. Publishers of one
        digest may come at once, with manifests that differ in time and run. The first manifest
        stays, and each signs the stored one.

        Raises:
            NotFoundError: there is no such artifact.
            IntegrityError: its manifest is damaged, or that of another artifact.
            ConfigurationError: the key cannot be used.
            UnavailableError: the store did not answer, or its manifest changes all the time.
        """
        if self._signing is None or self.find_signed(ref) is not None:
            return
        for _ in range(_ATTEMPTS):
            manifest = self._store.get(MODELS_BUCKET, _key(ref, MANIFEST))
            bundle = self._signing.sign(_files(ref, manifest), name=_name(ref))
            self._store.put(MODELS_BUCKET, _key(ref, SIGNATURE), bundle)
            if self._store.find(MODELS_BUCKET, _key(ref, MANIFEST)) == manifest:
                return
        raise UnavailableError(
            f"could not sign {ref.uri}: other processes replace its {MANIFEST} all the time; run "
            "the command again"
        )

    def find_signed(self, ref: ModelRef) -> Signed | None:
        """Return what a trusted key signed of the stored artifact, None if it does not match.

        Raises:
            UnavailableError: the store did not answer.
        """
        if self._signing is None:
            return None
        try:
            files = self._listed(ref)
            return self._signing.inspect(files, self.find(ref), what=ref.uri)
        except (SignatureError, NotFoundError, IntegrityError):
            return None

    def is_complete(self, ref: ModelRef) -> bool:
        """Say whether the signature is there, where one is required."""
        if self._signing is None or not self._signing.is_required:
            return True
        return self.find_signed(ref) is not None

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
        return self._signing.check(
            self._listed(ref), self.find(ref), what=ref.uri, target=_target(ref)
        )

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

    def check_place(self, uri: str) -> Signed | None:
        """Verify a folder of the object store that is not an artifact's own: reads every file.

        Raises:
            RefusedError: signatures are required, and there is none that counts; what to do.
            ConfigurationError: the disk has too little space for it.
        """
        if self._signing is None:
            return None
        with temporary_folder("signed") as folder:
            files = fetch_files(self._store, uri, folder)
            signature = read_signature(folder)
        return self._signing.check(files, signature, what=uri, target=uri)

    def sign_place(self, uri: str) -> None:
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
            bundle = self._signing.sign(fetch_files(self._store, uri, folder), name=uri)
        bucket, prefix = _split(uri)
        self._store.put(bucket, prefix + SIGNATURE, bundle)

    def exist(self) -> bool:
        """Say whether any artifact in the store has a signature, whoever made it."""
        return any(key.endswith(f"/{SIGNATURE}") for key in self._store.sizes(MODELS_BUCKET, ""))

    def find(self, ref: ModelRef) -> bytes | None:
        """Return the signature as it is stored, None if there is none."""
        return find_signature(self._store, ref.uri)

    def _listed(self, ref: ModelRef) -> dict[str, str]:
        """Return path → SHA-256 of what is stored; of a file that the manifest lacks, no digest."""
        manifest = self._store.get(MODELS_BUCKET, _key(ref, MANIFEST))
        files = _files(ref, manifest)
        there = self._store.sizes(MODELS_BUCKET, _key(ref, ""))
        paths = (key.removeprefix(_key(ref, "")) for key in there)
        return {path: files.get(path, "") for path in paths if path != SIGNATURE}


def find_signature(store: Objects, uri: str) -> bytes | None:
    """Return the signature in a folder of the store, None if there is none.

    Of one that is too large to be one, only its size is read: the result is as long, and empty.
    """
    bucket, prefix = _split(uri)
    key = prefix + SIGNATURE
    if (size := store.sizes(bucket, key).get(key)) is None:
        return None
    return bytes(MOST_SIGNATURE + 1) if size > MOST_SIGNATURE else store.find(bucket, key)


def fetch_files(store: Objects, uri: str, folder: Path) -> dict[str, str]:
    """Download a folder of the store into `folder`; return path → SHA-256 but of the signature.

    Raises:
        NotFoundError: it is empty.
        ConfigurationError: the disk has too little space for it.
        IntegrityError: a key leads out of the folder, or it has a manifest that does not match.
    """
    bucket, prefix = _split(uri)
    sizes = store.sizes(bucket, prefix)
    if not sizes:
        raise NotFoundError(f"found no objects below {uri}; check whether the model exists")
    if reason := describe_excess(sum(sizes.values()), folder, most=MOST_BYTES):
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
        IntegrityError: it has a manifest that does not match its files.
    """
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


def _split(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.rstrip("/") + "/"


def _key(ref: ModelRef, path: str) -> str:
    return f"{ref.name}/{ref.digest}/{path}"


def _name(ref: ModelRef) -> str:
    return f"{ref.name}/{ref.digest}"


def _target(ref: ModelRef) -> str:
    """Return what `mlops-pipeline sign` takes."""
    return f"{ref.name}/{ref.digest[:12]}"
