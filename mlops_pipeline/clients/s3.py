"""S3 with timeouts. Failures of the network or the store (5xx) are retried."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.listening import other_users_on

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ClientError
    from mypy_boto3_s3.client import S3Client

_CONNECT_TIMEOUT = 5.0
_OUTAGE = 20.0
"""Seconds of retries if a store cannot be reached or answers 5xx."""
_PAUSE = 0.5
"""Seconds between two of these requests."""
_PART = 8 << 20
"""Bytes of a part of a multipart upload."""
_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_PRESENT = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
_REFUSED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@dataclass(frozen=True)
class Credentials:
    """An access key. Its representation does not show the secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    """Session token of a temporary key; empty for a permanent key."""


class Listed(NamedTuple):
    """What a list says of an object."""

    size: int
    """Bytes."""
    tag: str
    """Entity tag: changed content has another one."""


class Objects(Protocol):
    """Interface of an object store, which the real one and the fake in the tests implement."""

    def ensure_bucket(self, bucket: str) -> bool:
        """Create the bucket unless it exists; return whether it was created."""

    def put(self, bucket: str, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Store `data`; with `if_absent` only if no object exists."""

    def upload(self, bucket: str, key: str, path: Path) -> None:
        """Store a file."""

    def get(self, bucket: str, key: str) -> bytes:
        """Return the object's bytes."""

    def find(self, bucket: str, key: str) -> bytes | None:
        """Return the object's bytes, or None if it does not exist."""

    def download(self, bucket: str, key: str, path: Path) -> None:
        """Store the object as a file."""

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        """Return key → bytes of every object below `prefix`, without markers of folders."""

    def etags(self, bucket: str, prefix: str) -> dict[str, str]:
        """Return key → entity tag of every object below `prefix`. New content has a new tag."""

    def listing(self, bucket: str, prefix: str) -> dict[str, Listed]:
        """Return key → both of every object below `prefix`."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object if it exists."""


class ObjectStore:
    """An S3 endpoint. Keys are `/`-separated; buckets are addressed by path.

    `advise` finishes the message when the store fails, with its owner's knowledge of its state.
    `remedy` says what to do if it rejects the keys.
    A store that `is_ours` is a process of this user: a request is sent only while no other user's
    program listens on its port. `patience` is the read timeout in seconds. `attempts` is the
    maximum number of attempts; if it is more than one, a request is retried for 20 s during an
    outage. Proxies of the environment are used only with `uses_proxies`.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        *,
        region: str = "us-east-1",
        advise: Callable[[], str] = lambda: "see its log",
        remedy: str = "correct them, or let its owner give them the required rights",
        patience: float = 30.0,
        attempts: int = 4,
        is_ours: bool = False,
        uses_proxies: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._uses_proxies = uses_proxies
        self._is_ours = is_ours
        self._credentials = credentials
        self._region = region
        self._advise = advise
        self._remedy = remedy
        self._patience = patience
        self._attempts = attempts

    @property
    def _client(self) -> "S3Client":
        return _client(
            self.endpoint,
            self._credentials,
            self._region,
            self._patience,
            self._attempts,
            is_ours=self._is_ours,
            uses_proxies=self._uses_proxies,
        )

    def ensure_bucket(self, bucket: str) -> bool:
        """Create the bucket unless it exists; return whether it was created."""
        with self._errors(f"make the bucket {bucket}"):
            if any(b.get("Name") == bucket for b in self._client.list_buckets()["Buckets"]):
                return False
            self._client.create_bucket(Bucket=bucket)
            return True

    def put(self, bucket: str, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Store `data`; with `if_absent` only if no object exists (`If-None-Match: *`).

        Raises:
            ConflictError: with `if_absent`, if the object exists.
            UnavailableError: the store did not accept it.
        """
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        with self._errors(f"store {bucket}/{key}"):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except ClientError as error:
                if not (_was_repeated(error) and self._read(bucket, key) == data):
                    raise

    def upload(self, bucket: str, key: str, path: Path) -> None:
        """Store a file, in parts of 8 MiB if it is larger.

        Raises:
            ConfigurationError: the file cannot be read.
            UnavailableError: the store did not accept it.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4
        )
        with self._errors(f"store {path.name} as {bucket}/{key}"), _local_errors("read", path):
            self._client.upload_file(str(path), bucket, key, Config=config)

    def get(self, bucket: str, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            NotFoundError: no such object or bucket.
            UnavailableError: the store did not return it.
        """
        with self._errors(f"read {bucket}/{key}"):
            return self._read(bucket, key)

    def find(self, bucket: str, key: str) -> bytes | None:
        """Return the object's bytes, or None if it does not exist.

        Raises:
            UnavailableError: the store did not return it, or lists it and returns it not yet:
                SeaweedFS has names before it has their content.
        """
        try:
            return self.get(bucket, key)
        except NotFoundError:
            if not self._is_listed(bucket, key):
                return None
        try:
            return self.get(bucket, key)  # It may have been stored in between.
        except NotFoundError as error:
            raise UnavailableError(
                f"{error}, but the store lists it; {self._advise()}, and run the command again"
            ) from error

    def _is_listed(self, bucket: str, key: str) -> bool:
        try:
            return key in self.sizes(bucket, key)
        except NotFoundError:  # There is no such bucket.
            return False

    def download(self, bucket: str, key: str, path: Path) -> None:
        """Save the object as a file, and create its folder.

        Raises:
            NotFoundError: no such object or bucket.
            ConfigurationError: the file cannot be written, or its disk is full.
            UnavailableError: the store did not return it.
        """
        local = _local_errors("write", path, name=f"{bucket}/{key}")
        with self._errors(f"read {bucket}/{key}"), local:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (content := self._read_small(bucket, key)) is not None:
                path.write_bytes(content)
            else:
                self._client.download_file(bucket, key, str(path))

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        """Return key → bytes of every object below `prefix`; may be empty.

        S3 consoles store an object whose key ends in `/` for a folder. It cannot be a file, so it
        is skipped, as rclone does.

        Raises:
            NotFoundError: no such bucket.
            UnavailableError: the store did not answer.
        """
        return {key: found.size for key, found in self.listing(bucket, prefix).items()}

    def etags(self, bucket: str, prefix: str) -> dict[str, str]:
        """Return key → entity tag of every object below `prefix`, without reading an object.

        Changed content has another tag, because the tag is the MD5 of the content, or is derived
        from the MD5s of an upload's parts.

        Raises:
            NotFoundError: no such bucket.
            UnavailableError: the store did not answer.
        """
        return {key: found.tag for key, found in self.listing(bucket, prefix).items()}

    def listing(self, bucket: str, prefix: str) -> dict[str, Listed]:
        """Return key → size and entity tag of every object below `prefix`; see `sizes`, `etags`.

        Raises:
            NotFoundError: no such bucket.
            UnavailableError: the store did not answer.
        """
        with self._errors(f"list {bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            )
            return {
                found["Key"]: Listed(found["Size"], found.get("ETag", "").strip('"'))
                for page in pages
                for found in page.get("Contents", [])
                if not found["Key"].endswith("/")
            }

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object if it exists."""
        with self._errors(f"delete {bucket}/{key}"):
            self._client.delete_object(Bucket=bucket, Key=key)

    def _read(self, bucket: str, key: str) -> bytes:
        """Read an object. botocore retries requests, but not answers that are interrupted."""
        from botocore.exceptions import (
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        for left in reversed(range(self._attempts)):
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
            try:
                return body.read()
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                if not left:
                    raise
        raise AssertionError("an object is read at least once")

    def _read_small(self, bucket: str, key: str) -> bytes | None:
        """Return an object of at most one part; None for a larger or interrupted one.

        boto3 makes two requests for it, and starts threads.
        """
        from botocore.exceptions import (
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        found = self._client.get_object(Bucket=bucket, Key=key)
        with (
            closing(found["Body"]) as body,
            suppress(IncompleteReadError, ReadTimeoutError, ResponseStreamingError),
        ):
            return body.read() if found["ContentLength"] <= _PART else None
        return None

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"could not {what} at {self.endpoint}"
        try:
            yield
        except ClientError as error:
            raise self._translated(where, error) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            # boto3 wraps the store's answer to a part of a transfer.
            if isinstance(answered := error.__context__, ClientError):
                raise self._translated(where, answered) from error
            raise UnavailableError(
                f"{where}: {type(error).__name__}: {error}; is the object store up? "
                "See `mlops-pipeline status`"
            ) from error

    def _translated(self, where: str, error: "ClientError") -> PipelineError:
        code = str(error.response.get("Error", {}).get("Code", "?"))
        if code in _ABSENT:
            return NotFoundError(f"{where}: it does not exist")
        if code in _PRESENT:
            return ConflictError(f"{where}: it already exists")
        if code in _REFUSED:
            return AccessDeniedError(
                f"{where}: the object store rejected the keys ({code}); {self._remedy}"
            )
        return UnavailableError(f"{where}: the store answered {code}; {self._advise()}")


def _was_repeated(error: "ClientError") -> bool:
    """Say whether the store answered "already exists" to a retry.

    The first request may have succeeded although its answer was lost.
    """
    code = error.response.get("Error", {}).get("Code", "")
    repeats = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
    return code in _PRESENT and repeats > 0


def standard_credentials(profile: str = "") -> Credentials:
    """Return the key that AWS's tools would use: from variables, ~/.aws, or this machine.

    With `profile`, only this profile is used.

    Raises:
        ConfigurationError: the profile does not exist, or no key was found.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    where = f"the profile {profile} of ~/.aws" if profile else "the usual AWS sources"
    try:
        found = boto3.session.Session(profile_name=profile or None).get_credentials()
        key = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        raise ConfigurationError(
            f"could not read a key from {where}: {error}; correct it"
        ) from error
    if key is None or not key.access_key or not key.secret_key:
        raise ConfigurationError(
            f"could not find a key in {where}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or write it into ~/.aws/credentials"
        )
    return Credentials(key.access_key, key.secret_key, key.token or "")


def users_store() -> ObjectStore:
    """Return the S3 service that AWS's tools would use: its address, key and region.

    They come from AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID … and ~/.aws.

    Raises:
        ConfigurationError: there is no key, or the configuration is invalid.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    key = standard_credentials()
    try:
        session = boto3.session.Session()
        endpoint = session.client("s3").meta.endpoint_url
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"could not read the configuration of AWS: {error}; correct AWS_ENDPOINT_URL, "
            "AWS_PROFILE or ~/.aws/config"
        ) from error
    return ObjectStore(
        endpoint,
        key,
        region=session.region_name or "us-east-1",
        advise=lambda: "check AWS_ENDPOINT_URL and AWS_REGION",
        uses_proxies=True,
    )


@contextmanager
def _local_errors(verb: str, path: Path, *, name: str = "") -> Iterator[None]:
    """Translate errors of local files; network errors, which are OSErrors too, are unchanged.

    `name` is the object that is written there.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        seen = f"could not {verb} {path}: {error.strerror or error}"
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            remedy = "free disk space there, or make it accessible"
        elif both := _find_both(path, name):
            remedy = (
                f"the store has an object {both} and objects below {both}/, but a file cannot be a "
                f"folder. Delete the object {both}, or those below it"
            )
        else:
            remedy = "a file is in the place of a folder, or the reverse; move it away"
        raise ConfigurationError(f"{seen}; {remedy}, and run the command again") from error


def _find_both(path: Path, name: str) -> str:
    """Return the object, `name` or one above it, that is a file and a folder; empty if none is."""
    if not name or path.is_dir():
        return name
    above = zip(path.parents, PurePosixPath(name).parents, strict=False)
    return next((str(key) for folder, key in above if folder.is_file() and key.parts[1:]), "")


@cache
def _client(
    endpoint: str,
    credentials: Credentials,
    region: str,
    patience: float,
    attempts: int,
    *,
    is_ours: bool,
    uses_proxies: bool,
) -> "S3Client":
    """Return one client per endpoint and key in this process: the first one takes 0.1 s."""
    from botocore.config import Config

    with _session_lock:  # Sessions are not safe for threads, clients are.
        client = _session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token or None,
            config=Config(
                connect_timeout=_CONNECT_TIMEOUT,
                read_timeout=patience,
                retries={"mode": "standard", "total_max_attempts": attempts},
                s3={"addressing_style": "path"},
                proxies=None if uses_proxies else {},
            ),
        )
    if is_ours:
        client.meta.events.register("before-send.s3", partial(_require_ours, endpoint))
    if attempts > 1:
        # Its return value counts: https://github.com/boto/botocore/blob/1.40.0/botocore/endpoint.py
        outlast: Callable[..., Any] = _outlast
        client.meta.events.register_first("needs-retry.s3", outlast)
    return client


@cache
def _session() -> "Session":
    """Return the session of all clients: a second one would read botocore's descriptions again."""
    import boto3

    return boto3.session.Session()


_session_lock = threading.Lock()


def _require_ours(endpoint: str, **_: object) -> None:
    """Refuse to ask another user's program: what it returns could be code that this user runs."""
    port = urlsplit(endpoint).port or 80
    if users := other_users_on(port):
        raise UnavailableError(
            f"could not use the object store at {endpoint}: a program of another user (id "
            f"{', '.join(map(str, sorted(users)))}) listens on its port; run `mlops-pipeline up "
            "object_store`, which uses another port"
        )


def _outlast(
    *,
    response: "tuple[AWSResponse, Any] | None",
    caught_exception: Exception | None,
    request_dict: dict[str, Any],
    **_: object,
) -> float | None:
    """Return the pause before a retry during an outage, or None for botocore's own behaviour.

    botocore's own pauses are random and may all be short: four attempts can be over within a
    second, and a restart of the store takes three.
    """
    from botocore.exceptions import (
        ConnectionClosedError,
        ConnectTimeoutError,
        EndpointConnectionError,
    )

    broken = (ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError)
    failed = response is not None and response[0].status_code >= 500
    if not (failed or isinstance(caught_exception, broken)):
        return None
    first = request_dict["context"].setdefault("mlops_pipeline_outage", time.monotonic())
    return _PAUSE if time.monotonic() - first < _OUTAGE else None
