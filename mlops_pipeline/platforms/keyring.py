"""The keys of a state folder: one that signs, those that are trusted, those that are revoked.

`keys/` in the state folder, accessible only to this user::

    signing.pem               the private key, made when it is first needed
    trusted/<fingerprint>.pem public keys; that of every key that ever signed here too
    revoked/<fingerprint>     revoked keys: this wins over everything
    adopted-<platform>.json   which artifacts from before signatures were signed; of `kubernetes`,
                              one for each store: adopted-kubernetes-<digest>.json
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.files import (
    PRIVATE,
    make_private,
    write_atomically,
    write_once,
    writing,
)
from mlops_pipeline.serving.signing.errors import KeyFileError
from mlops_pipeline.serving.signing.keys import fingerprint, public_pem
from mlops_pipeline.serving.signing.keys import make_private as new_key

KEYS = "keys"
"""The folder's name in the state folder."""
_SHORTEST = 8
"""Least characters of a fingerprint that name a key."""


class Keyring:
    """The folder `keys` below `home`, which need not exist."""

    def __init__(self, home: Path) -> None:
        self.folder = home / KEYS

    @property
    def signing_file(self) -> Path:
        """The private key."""
        return self.folder / "signing.pem"

    def private(self) -> bytes:
        """Return the private key in PEM, which is made at first use and is trusted here.

        Raises:
            ConfigurationError: the folder cannot be written, the file has no usable key, or the key
                is revoked.
        """
        if not self.signing_file.exists():
            self._make()
        pem = _read(self.signing_file)
        known = fingerprint(_public(pem, self.signing_file))
        if known in self.revoked():
            raise ConfigurationError(
                f"could not sign: the key {known[:16]} in {self.signing_file} is revoked; run "
                "`mlops-pipeline keys rotate`"
            )
        if not (self._trusted / f"{known}.pem").exists():
            self.trust(pem)
        return pem

    def rotate(self) -> str:
        """Make another private key and return its fingerprint. The previous one stays trusted.

        Raises:
            ConfigurationError: the folder cannot be written, or the file has no usable key.
        """
        if self.signing_file.exists():
            with suppress(ConfigurationError):  # A damaged or revoked key is replaced too.
                self.trust(_read(self.signing_file))
        key = new_key()
        known = self.trust(key)
        write_atomically(self.signing_file, key, mode=PRIVATE)
        return known

    def trust(self, pem: bytes) -> str:
        """Trust the public key of a PEM text, and return its fingerprint.

        Raises:
            ConfigurationError: it has no usable key, the key is revoked, or the folder cannot be
                written.
        """
        try:
            public = public_pem(pem)
        except KeyFileError as error:
            raise ConfigurationError(f"could not trust a key: {error}") from error
        known = fingerprint(public)
        if known in self.revoked():
            raise ConfigurationError(
                f"could not trust the key {known[:16]}: it is revoked. If that was a mistake, "
                f"delete {self._revoked / known}"
            )
        self._prepare()
        write_atomically(self._trusted / f"{known}.pem", public)
        return known

    def revoke(self, known: str, *, among: Collection[str]) -> str:
        """Revoke a key by its fingerprint, or by the beginning of one of those in `among`.

        Returns the fingerprint.

        Raises:
            NotFoundError: no trusted key, or more than one, begins so.
            ConfigurationError: it is not a fingerprint, or the folder cannot be written.
        """
        known = known.lower()
        if set(known) - set("0123456789abcdef") or not _SHORTEST <= len(known) <= 64:
            raise ConfigurationError(
                f"expected {_SHORTEST} to 64 hexadecimal digits of a key's fingerprint, got "
                f"{known!r}; see `mlops-pipeline keys list`"
            )
        if len(known) < 64:
            found = [one for one in among if one.startswith(known)]
            if len(found) != 1:
                raise NotFoundError(
                    f"{len(found) or 'no'} trusted keys begin with {known}; give more digits of "
                    "one from `mlops-pipeline keys list`"
                )
            (known,) = found
        self._prepare()
        write_atomically(self._revoked / known, "")
        return known

    def trusted(self) -> dict[str, tuple[str, Path]]:
        """Return fingerprint → public key in PEM and its file, also of revoked ones.

        Raises:
            ConfigurationError: a file cannot be read, or has no usable key.
        """
        keys = ((_stored(path), path) for path in sorted(self._trusted.glob("*.pem")))
        return {fingerprint(pem): (pem, path) for pem, path in keys}

    def revoked(self) -> frozenset[str]:
        """Return the fingerprints of the revoked keys.

        Raises:
            ConfigurationError: the folder cannot be read, so that nobody knows which are revoked.
        """
        try:
            return frozenset(path.name for path in self._revoked.iterdir())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise ConfigurationError(
                f"could not read the revoked keys in {self._revoked}: {error.strerror}"
            ) from error

    @property
    def _trusted(self) -> Path:
        return self.folder / "trusted"

    @property
    def _revoked(self) -> Path:
        return self.folder / "revoked"

    def _prepare(self) -> None:
        with writing(self.folder):
            make_private(self.folder)

    def _make(self) -> None:
        """Make the private key, unless another process is faster: everyone signs with one key."""
        self._prepare()
        write_once(self.signing_file, new_key(), mode=PRIVATE)


def read_public(path: Path) -> str:
    """Return the public key (PEM, as `public_pem` writes it) of a file with a key.

    Raises:
        ConfigurationError: the file cannot be read, or has no usable key.
    """
    return _public(_read(path), path)


def read_private(path: Path) -> bytes:
    """Return the content of a file with a private key.

    Raises:
        ConfigurationError: the file cannot be read, or has no usable private key.
    """
    pem = _read(path)
    if b"PRIVATE KEY" not in pem:
        raise ConfigurationError(f"could not sign: expected a private key in PEM in {path}")
    _public(pem, path)
    return pem


def _stored(path: Path) -> str:
    """Return a key that `trust` wrote; only one that somebody else put there is parsed."""
    text = _read(path).decode(errors="replace")
    return text if fingerprint(text) == path.stem else read_public(path)


def _public(pem: bytes, path: Path) -> str:
    try:
        return public_pem(pem)
    except KeyFileError as error:
        raise ConfigurationError(f"could not use the key in {path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"could not read the key in {path}: {error.strerror or error}"
        ) from error
