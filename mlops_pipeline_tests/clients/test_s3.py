"""What an S3 client says when the store fails, refuses, or this machine's own disk does."""

import io
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

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
from mlops_pipeline.clients.s3 import (
    Credentials,
    ObjectStore,
    standard_credentials,
    users_store,
)

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
    return ObjectStore("http://127.0.0.1:1", KEYS, advise=lambda: "buy a disk", remedy="get others")


def answered(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "PutObject")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("NoSuchKey", NotFoundError, "it does not exist"),
        ("PreconditionFailed", ConflictError, "it already exists"),
        (
            "SignatureDoesNotMatch",
            AccessDeniedError,
            "rejected the keys (SignatureDoesNotMatch); get others",
        ),
        ("InternalError", UnavailableError, "the store answered InternalError; buy a disk"),
    ],
)
def test_the_stores_answers_are_translated(
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
    assert f"could not write {tmp_path}/x: No space left on device; free disk space" in (
        str(failure.value)
    )
    with pytest.raises(ConfigurationError, match="could not read"):
        store_failing_with(full, monkeypatch).upload("b", "k", tmp_path / "x")


class Writing:
    """A boto3 client that writes what it downloads, as boto3 does: beside it, then renamed."""

    def __init__(self, size: int) -> None:
        self._size = size

    def get_object(self, **asked: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(asked["Key"].encode()), "ContentLength": self._size}

    def download_file(self, _bucket: str, key: str, path: str) -> None:
        came = Path(f"{path}.part")
        came.write_text(key)
        came.rename(path)


@pytest.mark.parametrize("size", [20, 100 << 20])
def test_an_object_that_is_a_file_and_a_folder_is_named(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "_client", property(lambda _: Writing(size)))
    store = ObjectStore("http://127.0.0.1:1", KEYS)
    keys = ["iris/d/1", "iris/d/1/saved_model.pb", "iris/d/1/variables/index"]
    for order in (keys, keys[::-1]):
        folder = tmp_path / str(order[0].count("/"))
        store.download("models", order[0], folder / order[0])
        for key in order[1:]:
            if key == "iris/d/1/saved_model.pb" and order is not keys:
                store.download("models", key, folder / key)
                continue
            with pytest.raises(ConfigurationError) as failure:
                store.download("models", key, folder / key)
            said = str(failure.value)
            assert f"could not write {folder / key}: " in said
            assert "Delete the object models/iris/d/1, or those below it, and run the comm" in said
            assert "disk space" not in said


def test_a_file_of_somebody_in_the_place_of_a_folder_is_not_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "_client", property(lambda _: Writing(size=20)))
    (tmp_path / "models").write_text("mine")
    with pytest.raises(ConfigurationError, match="a file is in the place of a folder, or the rev"):
        ObjectStore("http://127.0.0.1:1", KEYS).download("models", "a/b", tmp_path / "models/a/b")


def test_a_key_does_not_show_its_secret() -> None:
    assert "the-secret" not in repr(KEYS)


@pytest.fixture
def no_keys_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let AWS's tools look nowhere but in a file that does not exist yet."""
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


@pytest.mark.usefixtures("no_keys_anywhere")
def test_the_users_own_service_is_that_of_awss_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set AWS_ACCESS_KEY_ID"):
        users_store()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    assert "amazonaws.com" in users_store().endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/s3")
    assert users_store().endpoint == "http://127.0.0.1:1/s3"


class Stuttering(BaseHTTPRequestHandler):
    """An S3 server that answers from `script`, one entry a request, the last one from then on."""

    script: ClassVar[list[tuple[int, str]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.command)
        status, body = self.script[0] if len(self.script) == 1 else self.script.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (7 if body == "breaks o" else 0)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stuttering(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr("random.random", lambda: 0.01)  # botocore's pauses, in part
    Stuttering.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Stuttering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ObjectStore(f"http://127.0.0.1:{server.server_port}", KEYS, patience=5)
        server.shutdown()
        thread.join()


def failure(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>x</Message></Error>"


@pytest.mark.parametrize(
    "script",
    [
        [(500, failure("InternalError")), (503, failure("SlowDown")), (200, "whole")],
        [(503, failure("ServiceUnavailable")), (502, ""), (200, "whole")],
        [(200, "breaks o"), (500, failure("InternalError")), (200, "whole")],
    ],
)
def test_a_store_that_fails_briefly_is_retried(
    stuttering: ObjectStore, script: list[tuple[int, str]]
) -> None:
    Stuttering.script = script
    assert stuttering.get("b", "k") == b"whole"
    assert len(Stuttering.asked) == 3


def test_a_restarting_store_is_retried_until_it_answers(
    stuttering: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_pipeline.clients.s3._PAUSE", 0.01)
    Stuttering.script = [(503, failure("ServiceUnavailable"))] * 30 + [(200, "whole")]
    assert stuttering.get("b", "k") == b"whole"
    assert len(Stuttering.asked) == 31


def test_a_store_that_refuses_connections_is_retried_until_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.01)
    Stuttering.script = [(200, "whole")]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stuttering, bind_and_activate=False)
    server.server_bind()  # Nobody gets the port meanwhile, and connections are refused.

    def come_up() -> None:
        server.server_activate()
        server.serve_forever()

    timer = threading.Timer(1.5, come_up)
    with server:
        timer.start()
        store = ObjectStore(f"http://127.0.0.1:{server.server_port}", KEYS)
        assert store.get("b", "k") == b"whole"
        server.shutdown()
        timer.join()


def test_a_store_that_keeps_failing_ends_the_retries(
    stuttering: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_pipeline.clients.s3._PAUSE", 0.05)
    monkeypatch.setattr("mlops_pipeline.clients.s3._OUTAGE", 0.5)
    Stuttering.script = [(500, failure("InternalError"))]
    with pytest.raises(UnavailableError, match="answered InternalError"):
        stuttering.get("b", "k")
    assert 4 < len(Stuttering.asked) < 20


def test_a_store_with_one_attempt_is_not_retried(stuttering: ObjectStore) -> None:
    Stuttering.script = [(500, failure("InternalError"))]
    with pytest.raises(UnavailableError, match="answered InternalError"):
        ObjectStore(stuttering.endpoint, KEYS, attempts=1).get("b", "k")
    assert len(Stuttering.asked) == 1


@pytest.mark.parametrize(("there", "stored"), [("mine", True), ("theirs", False)])
def test_a_retry_after_a_lost_answer_is_not_a_conflict(
    stuttering: ObjectStore, there: str, *, stored: bool
) -> None:
    """The first request is carried out and answered 500; the repeated one finds its own object."""
    conflict = (412, failure("PreconditionFailed"))
    Stuttering.script = [(500, failure("InternalError")), conflict, (200, there)]
    with nullcontext() if stored else pytest.raises(ConflictError):
        stuttering.put("b", "k", b"mine", if_absent=True)


def test_an_existing_object_is_a_conflict_at_once(stuttering: ObjectStore) -> None:
    Stuttering.script = [(412, failure("PreconditionFailed"))]
    with pytest.raises(ConflictError):
        stuttering.put("b", "k", b"mine", if_absent=True)
    assert Stuttering.asked == ["PUT"]


MISSING = (404, failure("NoSuchKey"))
LISTED = "<ListBucketResult><Contents><Key>k</Key><Size>5</Size></Contents></ListBucketResult>"


def test_an_object_that_is_listed_but_not_returned_is_not_taken_for_none(
    stuttering: ObjectStore,
) -> None:
    """SeaweedFS lists names before the volumes with their content are there."""
    Stuttering.script = [MISSING, (200, LISTED), MISSING]
    with pytest.raises(UnavailableError, match=r"b/k .* it does not exist, but the store lists it"):
        stuttering.find("b", "k")
    Stuttering.script = [MISSING, (200, LISTED), (200, "whole")]
    assert stuttering.find("b", "k") == b"whole"
    Stuttering.script = [MISSING, (200, LISTED.replace("<Key>k<", "<Key>kk<"))]
    assert stuttering.find("b", "k") is None
    Stuttering.script = [(404, failure("NoSuchBucket"))]
    assert stuttering.find("b", "k") is None
