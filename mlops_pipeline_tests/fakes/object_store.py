"""An S3 endpoint in memory."""

import hashlib
from pathlib import Path

from mlops_pipeline.clients.errors import ConflictError, NotFoundError, UnavailableError
from mlops_pipeline.clients.s3 import Listed


class FakeObjectStore:
    """An S3 endpoint in memory; `fail_after` puts and uploads it stops answering.

    It does not answer what `silent` names: `get` (`find`, `download` too), `sizes` (`etags` too).
    """

    endpoint = "http://fake"

    def __init__(self, *, fail_after: int | None = None) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.buckets = {"models", "datasets"}
        self.fail_after = fail_after
        self.silent: set[str] = set()

    def ensure_bucket(self, bucket: str) -> bool:
        made = bucket not in self.buckets
        self.buckets.add(bucket)
        return made

    def put(self, bucket: str, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self._maybe_fail()
        self._require(bucket)
        if if_absent and (bucket, key) in self.objects:
            raise ConflictError(f"{bucket}/{key}: it already exists")
        self.objects[bucket, key] = data

    def upload(self, bucket: str, key: str, path: Path) -> None:
        self._maybe_fail()
        self._require(bucket)
        self.objects[bucket, key] = path.read_bytes()

    def get(self, bucket: str, key: str) -> bytes:
        self._answer("get")
        self._require(bucket)
        if (bucket, key) not in self.objects:
            raise NotFoundError(f"{bucket}/{key}: it does not exist")
        return self.objects[bucket, key]

    def find(self, bucket: str, key: str) -> bytes | None:
        try:
            return self.get(bucket, key)
        except NotFoundError:
            return None

    def download(self, bucket: str, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.get(bucket, key))

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        self._answer("sizes")
        self._require(bucket)
        return {
            key: len(data)
            for (b, key), data in sorted(self.objects.items())
            if b == bucket and key.startswith(prefix) and not key.endswith("/")
        }

    def etags(self, bucket: str, prefix: str) -> dict[str, str]:
        keys = self.sizes(bucket, prefix)
        return {key: hashlib.md5(self.objects[bucket, key]).hexdigest() for key in keys}

    def listing(self, bucket: str, prefix: str) -> dict[str, Listed]:
        tags = self.etags(bucket, prefix)
        return {key: Listed(len(self.objects[bucket, key]), tag) for key, tag in tags.items()}

    def delete(self, bucket: str, key: str) -> None:
        self._require(bucket)
        self.objects.pop((bucket, key), None)

    def _require(self, bucket: str) -> None:
        if bucket not in self.buckets:
            raise NotFoundError(f"{bucket}: it does not exist")

    def _answer(self, method: str) -> None:
        if method in self.silent:
            raise UnavailableError("the network went away")

    def _maybe_fail(self) -> None:
        if self.fail_after is None:
            return
        if self.fail_after == 0:
            raise UnavailableError("the network went away")
        self.fail_after -= 1
