"""What is signed: an in-toto statement with the SHA-256 of each file.

Statement v1 (https://github.com/in-toto/attestation) with the predicate of OpenSSF model-signing
v1.0: `resources` has every file, and the subject's digest is the SHA-256 over their digests in
order.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mlops_pipeline.serving.signing.errors import Problem, SignatureError

SIGNATURE = "model.sig"
"""Where the signature of a folder is, in the folder; it does not cover itself."""
_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 5


@dataclass(frozen=True)
class Statement:
    """Files, and the name that the signer gave to them."""

    name: str
    """Informative: a folder may be renamed."""
    files: Mapping[str, str]
    """Path below the folder, with `/` → SHA-256 in hexadecimal."""

    def to_json(self) -> bytes:
        """Return the text that is signed."""
        ordered = sorted(self.files.items(), key=lambda item: PurePosixPath(item[0]).parts)
        resources = [
            {"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered
        ]
        subject = {"name": self.name, "digest": {"sha256": _root([d for _, d in ordered])}}
        serialization = {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [SIGNATURE],
        }
        return json.dumps(
            {
                "_type": _TYPE,
                "subject": [subject],
                "predicateType": _PREDICATE,
                "predicate": {"serialization": serialization, "resources": resources},
            },
            indent=2,
        ).encode()

    def describe_difference(self, files: Mapping[str, str]) -> str:
        """Say how `files` differ from those that were signed; empty if they do not."""
        told = [
            *_named("missing", sorted(self.files.keys() - files.keys())),
            *_named("not signed", sorted(files.keys() - self.files.keys())),
            *_named(
                "altered",
                sorted(
                    path
                    for path in files.keys() & self.files.keys()
                    if files[path] != self.files[path]
                ),
            ),
        ]
        return "; ".join(told)


def parse_statement(payload: bytes) -> Statement:
    """Read a statement.

    Raises:
        SignatureError: it is another one than of SHA-256 over whole files, is not consistent, or
            names a file outside of the folder.
    """
    try:
        return _read(json.loads(payload))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise damaged(f"its statement cannot be read: {error!r}") from error


def _read(fields: Mapping[str, Any]) -> Statement:
    _require(fields["_type"], _TYPE, "a statement of the type")
    _require(fields["predicateType"], _PREDICATE, "a predicate of the type")
    (subject,) = fields["subject"]
    serialization, resources = (fields["predicate"][key] for key in ("serialization", "resources"))
    _require(serialization["method"], "files", "digests of")
    _require(serialization["hash_type"], "sha256", "the hash")
    files: dict[str, str] = {}
    for resource in resources:
        _require(resource["algorithm"], "sha256", "the hash")
        path, digest = str(resource["name"]), str(resource["digest"])
        if not _is_inside(path) or path == SIGNATURE or path in files:
            raise damaged(f"it names the file {path[:200]!r}, which no model's folder can have")
        if not _DIGEST.fullmatch(digest):
            raise damaged(f"it has no SHA-256 of {path}")
        files[path] = digest
    _require(subject["digest"]["sha256"], _root(files.values()), "the digest of all files")
    return Statement(str(subject.get("name", "")), files)


def _is_inside(path: str) -> bool:
    """Say whether a path is one of a file below a folder, written in the only way."""
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in path or "\0" in path)


def _root(digests: Any) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _require(found: object, wanted: str, what: str) -> None:
    if found != wanted:
        raise damaged(f"expected {what} {wanted}, got {str(found)[:200]!r}")


def damaged(sentence: str) -> SignatureError:
    """Return the error of a signature that cannot be read."""
    return SignatureError(f"{SIGNATURE} cannot be used: {sentence}", problem=Problem.DAMAGED)


def _named(what: str, paths: list[str]) -> list[str]:
    if not paths:
        return []
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return [f"{what}: {', '.join(paths[:_SHOWN])}{more}"]
