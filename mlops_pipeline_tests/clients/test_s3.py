"""What an S3 client says when the store fails, refuses, or this machine's own disk does."""

from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.s3 import Credentials, ObjectStore

KEYS = Credentials("id", "the-secret-itself")


class Failing:
    """A boto3 client all of whose calls fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise self._error

        return fail


def store_failing_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(ObjectStore, "_client", property(lambda _: Failing(error)))
    return ObjectStore("http://127.0.0.1:1", KEYS, advise=lambda: "buy a disk")


def answered(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "PutObject")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("NoSuchKey", NotFoundError, "it does not exist"),
        ("PreconditionFailed", ConflictError, "there is one already"),
        ("SignatureDoesNotMatch", AccessDeniedError, "refuses our keys (SignatureDoesNotMatch); `"),
        ("InternalError", UnavailableError, "the store answered InternalError; buy a disk"),
    ],
)
def test_what_the_store_answers_becomes_one_of_our_errors(
    code: str, kind: type[PipelineError], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind) as failure:
        store_failing_with(answered(code), monkeypatch).put("b", "k", b"")
    assert type(failure.value) is kind
    assert sentence in str(failure.value)
    assert "the-secret" not in str(failure.value)


def test_the_answer_inside_a_failed_transfer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = S3UploadFailedError("Failed to upload")
    wrapped.__context__ = answered("InternalError")
    with pytest.raises(UnavailableError, match="answered InternalError; buy a disk"):
        store_failing_with(wrapped, monkeypatch).upload("b", "k", tmp_path / "x")


@pytest.mark.parametrize(
    "error", [EndpointConnectionError(endpoint_url="http://x"), ConnectionResetError("gone")]
)
def test_a_broken_connection_asks_whether_the_store_is_up(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_failing_with(error, monkeypatch)
    for transfer in (store.upload, store.download):
        with pytest.raises(UnavailableError, match="is the object store up"):
            transfer("b", "k", tmp_path / "x")


def test_a_full_disk_here_is_not_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(ConfigurationError) as failure:
        store_failing_with(full, monkeypatch).download("b", "k", tmp_path / "x")
    assert f"could not write {tmp_path}/x: No space left on device; free space" in (
        str(failure.value)
    )
    with pytest.raises(ConfigurationError, match="could not read"):
        store_failing_with(full, monkeypatch).upload("b", "k", tmp_path / "x")


def test_a_key_does_not_show_its_secret() -> None:
    assert "the-secret" not in repr(KEYS)
