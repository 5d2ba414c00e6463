"""Keys in PEM: ECDSA on the curves P-256, P-384 and P-521, as model-signing supports them."""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from mlops_pipeline.serving.signing.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

_KINDS = "an ECDSA key on P-256, P-384 or P-521 in PEM"


def fingerprint(pem: str) -> str:
    """Return the SHA-256 (64 hexadecimal characters) of a public key as `public_pem` writes it.

    It is the `hint` of model-signing's bundles.
    """
    return hashlib.sha256(pem.encode()).hexdigest()


def make_private() -> bytes:
    """Return a new private key on P-256, PEM (PKCS #8) without a password."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@lru_cache(maxsize=16)
def public_pem(pem: bytes) -> str:
    """Return the public key (SubjectPublicKeyInfo) of a PEM file with a public or private key.

    Raises:
        KeyFileError: it has none of a supported kind.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if b"PRIVATE KEY" in pem:
        return _as_pem(load_private(pem).public_key())
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"expected {_KINDS}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise KeyFileError(f"expected {_KINDS}, got {type(key).__name__}")
    hash_of(key)
    return _as_pem(key)


def load_private(pem: bytes) -> "ec.EllipticCurvePrivateKey":
    """Return the private key in a PEM file.

    Raises:
        KeyFileError: it has none of a supported kind, or it has a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Without the error's own text: nothing of a private key belongs in a message.
        raise KeyFileError(f"expected {_KINDS}, private and without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"expected {_KINDS}, got {type(key).__name__}")
    hash_of(key.public_key())
    return key


def load_public(pem: str) -> "ec.EllipticCurvePublicKey":
    """Return the public key in a text of `public_pem`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise KeyFileError(f"expected {_KINDS}, got {type(key).__name__}")
    return key


def hash_of(key: "ec.EllipticCurvePublicKey") -> "HashAlgorithm":
    """Return the hash with which signatures of a key are made: that of the curve's size.

    Raises:
        KeyFileError: another curve.
    """
    from cryptography.hazmat.primitives import hashes

    known = {
        "secp256r1": hashes.SHA256(),
        "secp384r1": hashes.SHA384(),
        "secp521r1": hashes.SHA512(),
    }
    if key.curve.name not in known:
        raise KeyFileError(f"expected {_KINDS}, got the curve {key.curve.name}")
    return known[key.curve.name]


def _as_pem(key: "ec.EllipticCurvePublicKey") -> str:
    from cryptography.hazmat.primitives import serialization

    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode()
