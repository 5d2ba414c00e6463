"""Whether SeaweedFS can store: what a full disk leaves it unable to do, also afterwards."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore

LEAST_FREE = 64
"""MiB of its disk below which SeaweedFS is told to store nothing more."""
_DATABASES = 8


def describe_lack_of_space(data: Path) -> str:
    """Say what the disk of the folder `data` lacks and what to do; empty when there is room."""
    free = shutil.disk_usage(data).free >> 20
    sentence = (
        f"the disk of {data} has {free} MiB free, but {LEAST_FREE} MiB are required; "
        "free disk space there, then run `mlops-pipeline up` again"
    )
    return sentence if free < LEAST_FREE else ""


def probe_writes(store: "ObjectStore", bucket: str) -> None:
    """Store and remove an object in each database that SeaweedFS keeps names in.

    Raises:
        UnavailableError: one of them takes none.
    """
    for key in probe_keys(bucket):
        store.put(bucket, key, b"written")
        store.delete(bucket, key)


def probe_keys(bucket: str) -> tuple[str, ...]:
    """Return a key for each database in which SeaweedFS keeps names: the folder decides which.

    By `hashToBytes` in weed/filer/leveldb2/leveldb2_store.go.
    """
    found: dict[int, str] = {}
    for folder in (f".written/{number}" for number in range(256)):
        digest = hashlib.md5(f"/buckets/{bucket}/{folder}".encode(), usedforsecurity=False)
        found.setdefault(digest.digest()[-1] % _DATABASES, f"{folder}/probe")
    return tuple(found.values())
