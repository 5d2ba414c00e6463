"""Which signatures count: the mode, the trusted keys and the revoked ones."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mlops_pipeline.serving.signing.bundle import MOST_BYTES, Signed, verify_bundle
from mlops_pipeline.serving.signing.errors import Problem, SignatureError
from mlops_pipeline.serving.signing.keys import fingerprint
from mlops_pipeline.serving.signing.statement import SIGNATURE

logger = logging.getLogger(__name__)

TRUST = "MLOPS_TRUST"
"""The variable of a model server with `Policy.to_json`."""
TRUST_FILE = "MLOPS_TRUST_FILE"
"""The variable with the path of a file that contains it."""


class Mode(Enum):
    """What happens to an artifact without a signature that counts."""

    REQUIRED = "required"
    """It is refused."""
    WARN = "warn"
    """It is used, with a warning in the log."""
    OFF = "off"
    """Nobody looks."""


@dataclass(frozen=True)
class Policy:
    """Which signatures count. It holds no secret."""

    mode: Mode = Mode.OFF
    trusted: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint → public key in PEM."""
    revoked: frozenset[str] = frozenset()
    """Fingerprints."""

    def require(self, files: Mapping[str, str], signature: bytes | None, *, what: str) -> Signed:
        """Return what is signed, if a trusted key signed exactly `files` (path → SHA-256).

        `what` is the artifact or its folder, for the message. Does not look at the mode.

        Raises:
            SignatureError: it is unsigned, altered, or signed by another key.
        """
        if signature is None:
            raise SignatureError(f"{what} has no {SIGNATURE}", problem=Problem.MISSING)
        try:
            signed = verify_bundle(signature, trusted=self.trusted, revoked=self.revoked)
        except SignatureError as error:
            sentence = f"the signature of {what} does not count: {error}"
            raise SignatureError(sentence, problem=error.problem) from error
        if difference := signed.statement.describe_difference(files):
            raise SignatureError(
                f"{what} is not what the key {signed.fingerprint[:16]} signed ({difference})",
                problem=Problem.ALTERED,
            )
        return signed

    def check(
        self, files: Mapping[str, str], signature: bytes | None, *, what: str
    ) -> Signed | None:
        """Do what the mode says: `require`, warn, or nothing.

        Raises:
            SignatureError: signatures are required, and there is none that counts.
        """
        if self.mode is Mode.OFF:
            return None
        try:
            return self.require(files, signature, what=what)
        except SignatureError as error:
            if self.mode is Mode.REQUIRED:
                raise
            logger.warning("%s. It is used, because the setting signing.mode is warn", error)
            return None

    def to_json(self) -> str:
        """Return the policy for a model server: the mode and public keys."""
        return json.dumps(
            {
                "mode": self.mode.value,
                "trusted": [self.trusted[known] for known in sorted(self.trusted)],
                "revoked": sorted(self.revoked),
            }
        )


def parse_policy(text: str) -> Policy:
    """Read what `Policy.to_json` writes.

    Raises:
        ValueError: it is something else.
    """
    try:
        fields = json.loads(text)
        keys = [str(pem) for pem in fields["trusted"]]
        return Policy(
            Mode(fields["mode"]),
            {fingerprint(pem): pem for pem in keys},
            frozenset(str(known) for known in fields["revoked"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is not a signing policy: {error!r}") from error


def read_signature(folder: Path) -> bytes | None:
    """Return the signature in a folder, None if it has none; of a huge one, too many bytes."""
    try:
        with (folder / SIGNATURE).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError:
        return None


def remedy(problem: Problem, target: str) -> str:
    """Return what a person can do about a signature that does not count.

    `target` is what `mlops-pipeline sign` takes.
    """
    sign = f"`mlops-pipeline sign {target}`"
    if problem is Problem.UNKNOWN_KEY:
        return (
            "If you know whose key it is, run `mlops-pipeline keys trust FILE` with its public "
            f"key. If you trust the files, you may run {sign}: others who use them must then trust "
            "your key"
        )
    if problem is Problem.MISSING:
        return f"If you trust the files, run {sign}"
    if problem is Problem.REVOKED_KEY:
        return f"If you still trust the files, run {sign}, which signs with the current key"
    return (
        "Somebody changed it after it was signed: publish or train it again. Only if you made "
        f"the change, run {sign}"
    )
