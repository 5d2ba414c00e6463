"""Signs artifacts and says whose signatures count, by the settings and the keys on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients.errors import ConfigurationError, RefusedError
from mlops_pipeline.clients.files import PRIVATE, write_if_changed
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.platforms.keyring import Keyring, read_private, read_public
from mlops_pipeline.serving.signing.bundle import MOST_BYTES, Signed, make_bundle, verify_bundle
from mlops_pipeline.serving.signing.errors import SignatureError
from mlops_pipeline.serving.signing.keys import fingerprint
from mlops_pipeline.serving.signing.policy import Mode, Policy, remedy
from mlops_pipeline.serving.signing.statement import SIGNATURE
from mlops_pipeline.settings.signing import SigningSettings


@dataclass(frozen=True)
class KnownKey:
    """A key, and what it is here."""

    fingerprint: str
    state: Literal["signs", "trusted", "revoked"]
    source: str
    """The file that names it; empty if a revoked one is nowhere else."""


class Signing:
    """The keys below `home` and in the settings. Creating it reads nothing."""

    def __init__(self, home: Path, settings: SigningSettings) -> None:
        self.keyring = Keyring(home)
        self._settings = settings

    @classmethod
    def off(cls) -> "Signing":
        """Return one that signs nothing and looks at no signature."""
        return cls(Path(), SigningSettings(mode="off"))

    @property
    def is_off(self) -> bool:
        """Whether nobody signs or looks."""
        return self.mode is Mode.OFF

    @property
    def is_required(self) -> bool:
        """Whether an artifact without a signature that counts is refused."""
        return self.mode is Mode.REQUIRED

    @property
    def mode(self) -> Mode:
        """What happens to an artifact without a signature that counts."""
        return Mode(self._settings.mode)

    def policy(self) -> Policy:
        """Return which signatures count now. It holds public keys only.

        Raises:
            ConfigurationError: a file of keys cannot be read, or has no usable key.
        """
        return Policy() if self.is_off else self._policy()

    def sign(self, files: Mapping[str, str], *, name: str) -> bytes:
        """Return the signature of `files` (path → SHA-256), which `name` describes.

        Raises:
            ConfigurationError: the key cannot be read or created, is not usable, or is revoked.
        """
        return make_bundle(files, name=name, private_key=self._private())

    def check(
        self, files: Mapping[str, str], signature: bytes | None, *, what: str, target: str
    ) -> Signed | None:
        """Do with an artifact what the mode says.

        `what` names it in the message, and `target` for `mlops-pipeline sign`.

        Raises:
            RefusedError: signatures are required, and there is none that counts.
        """
        try:
            return self.policy().check(files, signature, what=what)
        except SignatureError as error:
            raise RefusedError(f"{error}. {remedy(error.problem, target)}") from error

    def inspect(self, files: Mapping[str, str], signature: bytes | None, *, what: str) -> Signed:
        """Return what is signed and by whom, whatever the mode.

        Raises:
            SignatureError: there is no signature that counts.
        """
        return self._policy().require(files, signature, what=what)

    def check_key(self, signature: bytes, *, what: str, target: str) -> None:
        """Require that a trusted key made a signature, whatever its files are.

        Raises:
            RefusedError: another key did, or it is damaged.
        """
        policy = self._policy()
        try:
            verify_bundle(signature, trusted=policy.trusted, revoked=policy.revoked)
        except SignatureError as error:
            raise RefusedError(
                f"the signature of {what} does not count: {error}. {remedy(error.problem, target)}"
            ) from error

    def known_keys(self) -> list[KnownKey]:
        """Return every known key: first the one that signs, then by fingerprint.

        Raises:
            ConfigurationError: a file of keys cannot be read, or has no usable key.
        """
        revoked, signs = self.keyring.revoked(), self._signing_fingerprint()
        found = {known: path for known, (_, path) in self._trusted().items()}
        keys = [
            KnownKey(
                known,
                "revoked" if known in revoked else "signs" if known == signs else "trusted",
                str(found.get(known, "")),
            )
            for known in sorted({*found, *revoked})
        ]
        return sorted(keys, key=lambda key: key.state != "signs")

    def rotate(self) -> str:
        """Make another private key and return its fingerprint. The previous one stays trusted.

        Raises:
            ConfigurationError: the settings name the key that signs, or it cannot be written.
        """
        if self._settings.key_file is not None:
            raise ConfigurationError(
                f"could not make another key: the setting signing.key_file names "
                f"{self._settings.key_file}. Replace that file, and run `mlops-pipeline keys trust "
                "FILE` with the public key of the previous one"
            )
        return self.keyring.rotate()

    def revoke(self, known: str) -> str:
        """Revoke a key, unless it is the one that signs; return its fingerprint.

        Raises:
            ConfigurationError: it signs here, or it is not a fingerprint.
            NotFoundError: no trusted key, or more than one, begins so.
        """
        signs = self._signing_fingerprint()
        if signs and len(known) >= 8 and signs.startswith(known.lower()):
            raise ConfigurationError(
                f"could not revoke the key {signs[:16]}: it signs here. Run `mlops-pipeline keys "
                "rotate` first, or change the setting signing.key_file"
            )
        return self.keyring.revoke(known, among=self._trusted())

    def for_servers(self) -> str:
        """Return the policy as model servers read it; empty if they verify nothing.

        Raises:
            ConfigurationError: a file of keys cannot be read, or has no usable key.
        """
        return "" if self.is_off else self._policy().to_json()

    def write_for_servers(self, path: Path) -> str:
        """Write the policy for model servers, and return the file; empty if they verify nothing.

        Servers read it when they start, so the file follows the keys, and its name stays.

        Raises:
            ConfigurationError: a file of keys cannot be used, or the file cannot be written.
        """
        if not (text := self.for_servers()):
            return ""
        write_if_changed(path, text, mode=PRIVATE)
        return str(path)

    def _policy(self) -> Policy:
        trusted = {known: pem for known, (pem, _) in self._trusted().items()}
        return Policy(self.mode, trusted, self.keyring.revoked())

    def _private(self) -> bytes:
        path = self._settings.key_file
        if path is None:
            return self.keyring.private()
        pem = read_private(path)
        if (known := fingerprint(read_public(path))) in self.keyring.revoked():
            raise ConfigurationError(
                f"could not sign: the key {known[:16]} in {path} is revoked; set signing.key_file "
                "to another one"
            )
        return pem

    def _signing_fingerprint(self) -> str:
        """Return that of the key that signs; empty if it is not made yet."""
        path = self._settings.key_file or self.keyring.signing_file
        if path == self.keyring.signing_file and not path.exists():
            return ""
        return fingerprint(read_public(path))

    def _trusted(self) -> dict[str, tuple[str, Path]]:
        """Return fingerprint → public key in PEM, and the file."""
        trusted = self.keyring.trusted()
        given = [*self._settings.trusted]
        if self._settings.key_file is not None:
            given.append(self._settings.key_file)
        for path in given:
            pem = read_public(path)
            trusted[fingerprint(pem)] = pem, path
        return trusted


def find_signature(
    store: Objects, uri: str, *, sizes: Mapping[str, int] | None = None
) -> bytes | None:
    """Return the signature in a folder of the store, None if there is none.

    `sizes` is key → bytes of what the folder holds, if it was listed. Of a signature that is too
    large to be one, only its size is read: the result is as long, and empty.
    """
    bucket, prefix = split(uri)
    key = prefix + SIGNATURE
    sizes = store.sizes(bucket, key) if sizes is None else sizes
    if (size := sizes.get(key)) is None:
        return None
    return bytes(MOST_BYTES + 1) if size > MOST_BYTES else store.find(bucket, key)


def split(uri: str) -> tuple[str, str]:
    """Return the bucket of an `s3://` URI, and its prefix with a slash at the end."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.rstrip("/") + "/"
