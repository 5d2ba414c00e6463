"""`model.sig`: a Sigstore bundle (v0.3) with a DSSE envelope, signed by an ECDSA key.

DSSE signs `DSSEv1 <length> <type> <length> <payload>`:
https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md. The format is that of OpenSSF
model-signing 1.0 (https://github.com/sigstore/model-transparency), whose program verifies our
bundles, and whose bundles are verified here if a key made them. Certificates and keyless
signatures, which need a network, are refused.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.serving.signing import keys
from mlops_pipeline.serving.signing.errors import Problem, SignatureError
from mlops_pipeline.serving.signing.statement import (
    Statement,
    damaged,
    parse_statement,
)

MOST_BYTES = 16 << 20
"""Maximum size of a bundle: that of an artifact with 10,000 files has about 8 MiB."""
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """What a bundle holds, before anything of it is believed."""

    hint: str
    """Fingerprint of the key that the bundle claims; empty: none."""
    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Signed:
    """A statement, and the trusted key that signed it."""

    statement: Statement
    fingerprint: str


def make_bundle(files: Mapping[str, str], *, name: str, private_key: bytes) -> bytes:
    """Return the bundle that signs `files` (path → SHA-256) with a private key in PEM.

    Raises:
        KeyFileError: the key cannot be used.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    key = keys.load_private(private_key)
    payload = Statement(name, files).to_json()
    signature = key.sign(_pre_authentication(payload), ec.ECDSA(keys.hash_of(key.public_key())))
    hint = keys.fingerprint(keys.public_pem(private_key))
    bundle = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode()


def parse_bundle(bundle: bytes) -> Envelope:
    """Read a bundle without verifying it.

    Raises:
        SignatureError: it is too large, or none that a key signed.
    """
    if len(bundle) > MOST_BYTES:
        raise damaged(f"it has {len(bundle)} bytes or more, and the maximum is {MOST_BYTES}")
    try:
        return _read(json.loads(bundle))
    except (
        *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
        binascii.Error,
    ) as error:
        raise damaged(f"it is not a bundle of model-signing: {error!r}"[:300]) from error


def _read(fields: Mapping[str, Any]) -> Envelope:
    if (found := fields["mediaType"]) != _MEDIA_TYPE:
        raise damaged(f"expected the media type {_MEDIA_TYPE}, got {str(found)[:200]!r}")
    material, envelope = fields["verificationMaterial"], fields["dsseEnvelope"]
    if "publicKey" not in material:
        raise damaged("it was made with a certificate or without a key, and only keys are used")
    if (found := envelope["payloadType"]) != _PAYLOAD_TYPE:
        raise damaged(f"expected the payload type {_PAYLOAD_TYPE}, got {str(found)[:200]!r}")
    (signature,) = envelope["signatures"]
    return Envelope(
        hint=str(material["publicKey"].get("hint") or ""),
        payload=base64.b64decode(envelope["payload"], validate=True),
        signature=base64.b64decode(signature["sig"], validate=True),
    )


def verify_bundle(bundle: bytes, *, trusted: Mapping[str, str], revoked: frozenset[str]) -> Signed:
    """Return what a bundle says, if a trusted key signed it.

    `trusted` is fingerprint → public key in PEM. A bundle without a hint is tried with each of
    them. Whether the files are those that were signed is not known after this.

    Raises:
        SignatureError: it cannot be read, or no trusted key signed it.
    """
    envelope = parse_bundle(bundle)
    if envelope.hint in revoked:
        raise SignatureError(
            f"the key {envelope.hint[:16]} that signed it is revoked", problem=Problem.REVOKED_KEY
        )
    candidates = [envelope.hint] if envelope.hint else sorted(trusted)
    usable = [known for known in candidates if known in trusted and known not in revoked]
    for known in usable:
        if _is_signed_by(envelope, trusted[known]):
            return Signed(parse_statement(envelope.payload), known)
    if usable and envelope.hint:
        raise SignatureError(
            f"its text is not the one that the key {envelope.hint[:16]} signed",
            problem=Problem.ALTERED,
        )
    claimed = f"the key {envelope.hint[:16]}" if envelope.hint else "a key that it does not name"
    raise SignatureError(
        f"it is signed by {claimed}, which is not trusted here", problem=Problem.UNKNOWN_KEY
    )


def _is_signed_by(envelope: Envelope, pem: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    key = keys.load_public(pem)
    content = _pre_authentication(envelope.payload)
    try:
        key.verify(envelope.signature, content, ec.ECDSA(keys.hash_of(key)))
    except InvalidSignature:
        return False
    return True


def _pre_authentication(payload: bytes) -> bytes:
    """Return DSSE's encoding of a payload, which is what the key signs."""
    head = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} "
    return head.encode() + payload
