"""Manifests as they are stored, read once per content in a process.

A step of a run looks at an artifact a dozen times. A list of its folder says whether its manifest
is what was read before: changed content has another entity tag.
"""

import hashlib

from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.references import MODELS_BUCKET, ModelRef
from mlops_pipeline.serving.artifact import MANIFEST

_MOST = 1_000
_read: dict[tuple[str, str], bytes] = {}
"""(key, MD5) → content. S3's entity tag of an object that was stored in one request is its MD5."""


def manifest_key(ref: ModelRef) -> str:
    """Return the key of an artifact's manifest."""
    return f"{ref.name}/{ref.digest}/{MANIFEST}"


def read_manifest(store: Objects, ref: ModelRef, *, tag: str = "") -> bytes:
    """Return the manifest. `tag` is its entity tag, if its folder was listed just now.

    Raises:
        NotFoundError: there is no such artifact.
        UnavailableError: the store did not answer.
    """
    key = manifest_key(ref)
    if (known := _read.get((key, tag))) is not None:
        return known
    try:
        content = store.get(MODELS_BUCKET, key)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no artifact {ref.uri}; see `mlops-pipeline models {ref.name}`"
        ) from error
    if len(_read) >= _MOST:
        _read.clear()
    _read[key, hashlib.md5(content, usedforsecurity=False).hexdigest()] = content
    return content
