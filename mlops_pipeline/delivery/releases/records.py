"""How releases ended: a record of each, kept beside the artifacts for good.

::

    models/<model>/releases/<platform>/<namespace>/<deployment>/<release id>.json
    models/<model>/releases/<platform>/<namespace>/<deployment>/<release id>.json.sig

The document is `{"format": 1, "sha256": …, "record": …}`. `sha256` is that of `record` as JSON with
sorted keys and without spaces. A record is written once (`If-None-Match: *`) and never changed. The
signature is a bundle like `model.sig` of an artifact and covers the bytes of the document. The
record names its model and place, so that it does not count elsewhere.
"""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from typing import Any

from pydantic import TypeAdapter

from mlops_pipeline.catalog.releasing import faults
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import DAMAGES, ConflictError, IntegrityError, NotFoundError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.references import MODELS_BUCKET, ModelRef
from mlops_pipeline.delivery.releases.evidence import Evidence
from mlops_pipeline.delivery.releases.state import UNDONE, Decision, Release
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.serving.signing.errors import SignatureError

_FORMAT = 1
_NAME = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]+({UNDONE})?")
"""Of a record, without `.json`."""
_SIGNATURE = ".sig"
_MOST_BYTES = 4 << 20
"""Maximum size of a record that is read."""
_READERS = 8
"""Records that are read at once."""
_MOST = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleaseRecord:
    """A release that has ended."""

    release: Release
    """Its state before the end."""
    decision: Decision
    evidence: Evidence
    place: str = field(default="", compare=False)
    """`<platform> <namespace>/<deployment>`; given when the record is kept."""
    key: str = field(default="", compare=False)
    """Fingerprint of the trusted key that signed it; empty if no signature counts. Not stored."""
    doubt: str = field(default="", compare=False)
    """Why no signature counts; empty if one does, or if signing is off. Not stored."""


def keep(record: ReleaseRecord, spec: ModelSpec, platform: Platform) -> str:
    """Store a record and its signature, and return the `s3://` URI of the record.

    A release has one record: if one with the same decision is stored, it stays as it is, and only
    gets a signature that is missing.

    Raises:
        ConflictError: a record of this release with another decision is stored; it stays.
        ConfigurationError: the key that signs cannot be used; nothing was stored.
        UnavailableError: the object store did not accept it.
    """
    store, key = platform.object_store(), f"{_prefix(spec, platform)}{record.release.id}.json"
    placed = replace(record, place=place_for(spec, platform))
    document = _document(placed, model=spec.name)
    bundle = _sign(key, document, signing=platform.signing)
    try:
        store.put(MODELS_BUCKET, key, document, if_absent=True)
    except ConflictError as error:
        stored = store.get(MODELS_BUCKET, key)
        if not _is_same(stored, placed, model=spec.name, key=key):
            raise ConflictError(
                f"could not keep the record of the release {record.release.id} "
                f"({record.decision.outcome}): {MODELS_BUCKET}/{key} holds another record of it, "
                "which stays. Two processes ended the release, or somebody wrote that object; "
                f"`mlops-pipeline provenance {spec.name} {record.release.candidate[:12]}` shows it"
            ) from error
        bundle = _sign(key, stored, signing=platform.signing)
    if bundle:
        with suppress(ConflictError):  # An earlier call has signed it.
            store.put(MODELS_BUCKET, key + _SIGNATURE, bundle, if_absent=True)
    return f"s3://{MODELS_BUCKET}/{key}"


def history(spec: ModelSpec, platform: Platform, *, most: int = _MOST) -> list[ReleaseRecord]:
    """Return the newest `most` records of a deployment, the newest first.

    A damaged record is skipped with a warning in the log.

    Raises:
        NotFoundError: the platform has no object store yet.
        ConfigurationError: a file of keys cannot be read.
        UnavailableError: the object store did not answer.
    """
    return _read(spec.name, platform, prefix=_prefix(spec, platform), most=most)


def releases_of(ref: ModelRef, platform: Platform) -> list[ReleaseRecord]:
    """Return the records of the releases of an artifact at every place, the newest first.

    A damaged record is skipped with a warning in the log.

    Raises:
        NotFoundError: the platform has no object store yet.
        ConfigurationError: a file of keys cannot be read.
        UnavailableError: the object store did not answer.
    """
    found = _read(ref.name, platform, prefix=f"{ref.name}/releases/", most=None)
    return [record for record in found if record.release.candidate == ref.digest]


def _prefix(spec: ModelSpec, platform: Platform) -> str:
    server = spec.server
    return f"{spec.name}/releases/{platform.name}/{server.namespace}/{server.deployment}/"


def _read(model: str, platform: Platform, *, prefix: str, most: int | None) -> list[ReleaseRecord]:
    store = platform.object_store()
    sizes = store.sizes(MODELS_BUCKET, prefix)
    found = [key for key in sizes if _NAME.fullmatch(_name(key))]
    chosen = sorted(found, key=lambda key: (_name(key), key), reverse=True)[:most]
    with ThreadPoolExecutor(_READERS) as readers:
        read = partial(_read_one, model, platform, sizes=sizes)
        return [record for record in readers.map(read, chosen) if record is not None]


def _read_one(
    model: str, platform: Platform, key: str, *, sizes: dict[str, int]
) -> ReleaseRecord | None:
    store = platform.object_store()
    try:
        document = _fetch(store, key, size=sizes[key])
        record = _parse(document, model=model, key=key)
    except (*DAMAGES, IntegrityError, NotFoundError) as error:
        _log.warning("The record of a release in %s/%s is skipped: %s", MODELS_BUCKET, key, error)
        return None
    named = key + _SIGNATURE
    is_signed = 0 < sizes.get(named, 0) <= _MOST_BYTES
    signature = store.find(MODELS_BUCKET, named) if is_signed else None
    return _verified(record, key, document, signature, signing=platform.signing)


def _fetch(store: Objects, key: str, *, size: int) -> bytes:
    if size > _MOST_BYTES:
        raise IntegrityError(f"it has {size} bytes, and the maximum is {_MOST_BYTES}")
    return store.get(MODELS_BUCKET, key)


def _verified(
    record: ReleaseRecord, key: str, document: bytes, signature: bytes | None, *, signing: Signing
) -> ReleaseRecord:
    if signing.is_off:
        return record
    try:
        if signature is None:
            return replace(record, doubt="it is not signed")
        signed = signing.inspect(_signed(key, document), signature, what="the record")
    except SignatureError as error:
        return replace(record, doubt=str(error))
    return replace(record, key=signed.fingerprint)


def _sign(key: str, document: bytes, *, signing: Signing) -> bytes:
    """Return the signature of a document; empty if signing is off."""
    return b"" if signing.is_off else signing.sign(_signed(key, document), name=key)


def _signed(key: str, document: bytes) -> dict[str, str]:
    return {f"{_name(key)}.json": hashlib.sha256(document).hexdigest()}


def _name(key: str) -> str:
    """Return the id of the release whose record has the key."""
    return key.rpartition("/")[2].removesuffix(".json")


def _document(record: ReleaseRecord, *, model: str) -> bytes:
    content = _content(record, model=model)
    document = {"format": _FORMAT, "sha256": _sha256(content), "record": content}
    return json.dumps(document, indent=2, sort_keys=True).encode()


def _content(record: ReleaseRecord, *, model: str) -> dict[str, Any]:
    """Return what is stored of a record, as JSON has it: lists for tuples."""
    parts = {name: asdict(getattr(record, name)) for name in ("release", "decision", "evidence")}
    content: dict[str, Any] = json.loads(json.dumps(parts))
    return content | {"model": model, "place": record.place}


def _sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_same(document: bytes, record: ReleaseRecord, *, model: str, key: str) -> bool:
    try:
        stored = _parse(document, model=model, key=key)
    except (*DAMAGES, IntegrityError):
        return False
    return (stored.place, stored.decision) == (record.place, record.decision)


def _parse(document: bytes, *, model: str, key: str) -> ReleaseRecord:
    """Read a document; fields that a newer version added are ignored.

    Raises:
        IntegrityError: it was changed, or it is the record of another release or place.
        ValueError: it is none, as the other errors in `DAMAGES`.
    """
    fields = json.loads(document)
    content = fields["record"]
    if (found := _sha256(content)) != fields["sha256"]:
        raise IntegrityError(f"expected the SHA-256 {fields['sha256']} of its content, got {found}")
    names = ("release", "decision", "evidence", "place")
    record = _adapter().validate_python({name: content[name] for name in names})
    platform, _, deployment = record.place.partition(" ")
    own = f"{content['model']}/releases/{platform}/{deployment}/{record.release.id}.json"
    if own != key or content["model"] != model:
        raise IntegrityError(f"it belongs to {MODELS_BUCKET}/{own}")
    _require_usable(record.release)
    return record


def _require_usable(release: Release) -> None:
    problems: Sequence[str] = list(faults(release.plan))
    if not problems and not 0 <= release.step < len(release.plan.effective_steps()):
        problems = [f"step is {release.step}"]
    if problems:
        raise IntegrityError("; ".join(problems))


@cache
def _adapter() -> TypeAdapter[ReleaseRecord]:
    return TypeAdapter(ReleaseRecord)
