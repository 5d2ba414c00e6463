"""Artifacts from before signatures: signed once, when a state folder first uses a store.

Which artifacts these are is written down on this machine before the first of them is signed: the
complete ones without any signature. This record alone decides, so neither a signature by hand nor
somebody else's upgrade ends it. Nothing that is put into the store later is ever signed this way,
and an interrupted upgrade continues where it stopped.
"""

import json
import logging
from collections.abc import Sequence

from mlops_pipeline.clients.errors import (
    DAMAGES,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    RefusedError,
)
from mlops_pipeline.clients.files import (
    PRIVATE,
    make_private,
    write_atomically,
    write_once,
    writing,
)
from mlops_pipeline.delivery.artifacts import ArtifactStore, artifact_store, ref_to
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.platforms.platform import Platform

_log = logging.getLogger(__name__)


def adopt(platform: Platform) -> Sequence[ModelRef]:
    """Sign the artifacts that existed before this project signed them; return those.

    Their verdicts stay: a signature is no part of the digest. Later calls look at one file.

    Raises:
        ConfigurationError: the key cannot be used, or the state folder cannot be written.
        UnavailableError: the object store did not answer; the next call continues.
    """
    if platform.signing.is_off:
        return ()
    folder = platform.signing.keyring.folder
    store = f"-{platform.store_id}" if platform.store_id else ""
    record = folder / f"adopted-{platform.name}{store}.json"
    if not record.exists():
        found = [[ref.name, ref.digest] for ref in _find_unsigned(artifact_store(platform))]
        with writing(record):
            make_private(folder)
        write_once(record, json.dumps({"artifacts": found, "done": False}), mode=PRIVATE)
    try:
        content = json.loads(record.read_text())
        refs = [ref_to(str(name), str(digest)) for name, digest in content["artifacts"]]
        is_done = content["done"] is True
    except (OSError, *DAMAGES) as error:
        raise ConfigurationError(
            f"could not read which artifacts were signed at the upgrade from {record}: {error!r}. "
            'Write {"artifacts": [], "done": true} into it, and sign what you trust with '
            "`mlops-pipeline sign MODEL`"
        ) from error
    if is_done:
        return ()
    artifacts = artifact_store(platform)
    signed = tuple(ref for ref in refs if _sign(ref, artifacts))
    write_atomically(record, json.dumps({**content, "done": True}), mode=PRIVATE)
    return signed


def _find_unsigned(artifacts: ArtifactStore) -> list[ModelRef]:
    """Return the complete artifacts of a store that have no signature, whoever made it."""
    stored = (found for name in artifacts.models() for found in artifacts.list(name))
    return [f.ref for f in stored if f.complete and artifacts.signatures.find(f.ref) is None]


def _sign(ref: ModelRef, artifacts: ArtifactStore) -> bool:
    if artifacts.signatures.find(ref) is not None:  # Somebody signed it since, perhaps for others.
        return False
    try:
        artifacts.signatures.sign(ref)
        _log.info("signed %s, which existed before artifacts were signed", ref.uri)
    except (NotFoundError, IntegrityError, RefusedError) as error:  # Pruned or changed since.
        _log.warning("could not sign %s: %s", ref.uri, error)
        return False
    return True
