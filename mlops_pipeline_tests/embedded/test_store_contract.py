"""What the fake object store promises, the real one keeps."""

import uuid
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConflictError, NotFoundError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform
from mlops_pipeline_tests.command_line import CommandLine
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore

BUCKET = "datasets"
FIRST_PART_AND_MORE = (8 << 20) + 5


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.embedded, pytest.mark.timeout(600)])]
)
def store(request: pytest.FixtureRequest) -> Objects:
    if request.param == "fake":
        return FakeObjectStore()
    command_line: CommandLine = request.getfixturevalue("command_line")
    return EmbeddedPlatform(command_line.home / "embedded", EmbeddedOptions()).object_store()


@pytest.fixture
def prefix() -> str:
    return f"contract/{uuid.uuid4()}"


def test_what_is_put_comes_back_and_goes(store: Objects, prefix: str) -> None:
    store.put(BUCKET, f"{prefix}/a", b"one")
    store.put(BUCKET, f"{prefix}/a", b"other")
    store.put(BUCKET, f"{prefix}/b/c", b"")
    assert store.get(BUCKET, f"{prefix}/a") == b"other"
    assert store.sizes(BUCKET, prefix) == {f"{prefix}/a": 5, f"{prefix}/b/c": 0}
    store.delete(BUCKET, f"{prefix}/a")
    store.delete(BUCKET, f"{prefix}/a")
    assert store.find(BUCKET, f"{prefix}/a") is None
    assert list(store.sizes(BUCKET, prefix)) == [f"{prefix}/b/c"]


def test_an_existing_object_that_must_be_absent_is_not_replaced(
    store: Objects, prefix: str
) -> None:
    store.put(BUCKET, f"{prefix}/a", b"first", if_absent=True)
    with pytest.raises(ConflictError, match=f"{prefix}/a"):
        store.put(BUCKET, f"{prefix}/a", b"second", if_absent=True)
    assert store.get(BUCKET, f"{prefix}/a") == b"first"


def test_a_large_file_goes_in_parts_and_comes_back(
    store: Objects, prefix: str, tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(range(256)) * (FIRST_PART_AND_MORE // 256) + b"12345")
    store.upload(BUCKET, f"{prefix}/large", sent)
    store.download(BUCKET, f"{prefix}/large", tmp_path / "new" / "received")
    assert (tmp_path / "new" / "received").read_bytes() == sent.read_bytes()
    store.delete(BUCKET, f"{prefix}/large")


def test_other_content_of_the_same_size_has_another_tag(
    store: Objects, prefix: str, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    seen: list[dict[str, str]] = []
    for first in (b"x", b"y", b"x"):
        store.put(BUCKET, f"{prefix}/small", first)
        large.write_bytes(first + b"x" * (FIRST_PART_AND_MORE - 1))
        store.upload(BUCKET, f"{prefix}/large", large)
        seen.append(store.etags(BUCKET, prefix))
    assert list(seen[0]) == [f"{prefix}/large", f"{prefix}/small"]
    assert not set(seen[0].values()) & set(seen[1].values())
    assert seen[0] == seen[2]
    store.delete(BUCKET, f"{prefix}/large")


def test_what_is_absent_is_not_found(store: Objects, prefix: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"{prefix}/a"):
        store.get(BUCKET, f"{prefix}/a")
    with pytest.raises(NotFoundError, match=f"{prefix}/a"):
        store.download(BUCKET, f"{prefix}/a", tmp_path / "a")
    with pytest.raises(NotFoundError, match="nobucket"):
        store.sizes("nobucket", prefix)
    assert store.sizes(BUCKET, prefix) == {}


def test_a_folder_marker_is_not_listed_as_an_object(store: Objects, prefix: str) -> None:
    store.put(BUCKET, f"{prefix}/folder/", b"")
    assert store.sizes(BUCKET, prefix) == {}
    store.put(BUCKET, f"{prefix}/folder/a", b"one")
    assert store.sizes(BUCKET, f"{prefix}/folder/") == {f"{prefix}/folder/a": 3}
    store.delete(BUCKET, f"{prefix}/folder/a")
    store.delete(BUCKET, f"{prefix}/folder/")


def test_a_bucket_is_made_once(store: Objects) -> None:
    assert store.ensure_bucket(BUCKET) is False
