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
from mlops_pipeline.clients.s3 import Credentials, ObjectStore, standard_credentials

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


@pytest.fixture
def no_keys_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let AWS's tools look nowhere but in a file that is not there yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "credentials"


def test_keys_come_from_where_aws_tools_look(
    no_keys_anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "[lab]\naws_access_key_id = of-lab\naws_secret_access_key = the-secret-of-lab\n"
    no_keys_anywhere.write_text(content)
    assert standard_credentials("lab") == Credentials("of-lab", "the-secret-of-lab")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-variables")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token")
    assert standard_credentials() == Credentials("of-variables", "the-secret", "the-token")
    assert standard_credentials("lab").access_key_id == "of-lab"


@pytest.mark.usefixtures("no_keys_anywhere")
def testno_keys_anywhere_says_where_to_put_them() -> None:
    with pytest.raises(ConfigurationError, match="set AWS_ACCESS_KEY_ID"):
        standard_credentials()
    with pytest.raises(ConfigurationError, match=r"the profile lab of ~/\.aws"):
        standard_credentials("lab")
