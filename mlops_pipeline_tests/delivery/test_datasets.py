"""Snapshots whose objects somebody changes in the store. The worker runs in this process."""

from pathlib import Path

import pytest

from mlops_pipeline.catalog import worker
from mlops_pipeline.clients.errors import IntegrityError
from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.delivery.datasets import DatasetStore, Snapshot
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.toy import REGISTERED


class CountingStore(FakeObjectStore):
    """Counts the downloads."""

    downloads = 0

    def download(self, bucket: str, key: str, path: Path) -> None:
        self.downloads += 1
        super().download(bucket, key, path)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def snapshot(store: CountingStore, worker_here: None) -> Snapshot:
    return DatasetStore(store).ensure(REGISTERED, file=None)


def _overwrite(store: FakeObjectStore, snapshot: Snapshot, name: str, content: bytes) -> None:
    store.put("datasets", f"toy/{snapshot.ref.digest}/{name}", content)


def test_changed_data_is_not_handed_out(
    store: CountingStore, snapshot: Snapshot, tmp_path: Path
) -> None:
    DatasetStore(store).download(snapshot.ref, tmp_path / "whole.npz")
    assert sha256_of(tmp_path / "whole.npz") == snapshot.ref.digest
    _overwrite(store, snapshot, worker.DATA, b"other rows")
    with pytest.raises(
        IntegrityError,
        match=rf"data\.npz of the snapshot s3://datasets/toy/{snapshot.ref.digest} was changed in "
        "the object store: its SHA-256 is .*; run `mlops-pipeline up toy` to load the data again",
    ):
        DatasetStore(store).download(snapshot.ref, tmp_path / "changed.npz")


def test_changed_data_is_loaded_again(
    store: CountingStore, snapshot: Snapshot, tmp_path: Path
) -> None:
    _overwrite(store, snapshot, worker.DATA, b"other rows")
    assert DatasetStore(store).find(REGISTERED, file=None) is None
    again = DatasetStore(store).ensure(REGISTERED, file=None)
    assert (again.ref, again.change) == (snapshot.ref, "repaired")
    DatasetStore(store).download(again.ref, tmp_path / "whole.npz")
    assert DatasetStore(store).ensure(REGISTERED, file=None).change == "unchanged"


def test_data_is_read_only_where_its_tag_is_another(
    store: CountingStore, snapshot: Snapshot
) -> None:
    assert DatasetStore(store).find(REGISTERED, file=None) == DatasetStore(store).ensure(
        REGISTERED, file=None
    )
    assert store.downloads == 0
    (index,) = (key for _, key in store.objects if key.startswith("toy/inputs/"))
    store.put("datasets", index, f'{{"digest": "{snapshot.ref.digest}"}}'.encode())
    found = DatasetStore(store).find(REGISTERED, file=None)
    assert found is not None
    assert (found.ref, store.downloads) == (snapshot.ref, 1)


@pytest.mark.parametrize("damage", [b"", b'{"train": ', b"\xff", b"[]"])
def test_damaged_records_of_a_snapshot_are_written_again(
    store: CountingStore, snapshot: Snapshot, damage: bytes
) -> None:
    (index,) = (key for _, key in store.objects if key.startswith("toy/inputs/"))
    store.put("datasets", index, damage)
    assert DatasetStore(store).ensure(REGISTERED, file=None).ref == snapshot.ref
    _overwrite(store, snapshot, worker.PROFILE, damage)
    with pytest.raises(IntegrityError, match=r"profile\.json of the snapshot .* is missing or dam"):
        DatasetStore(store).profile(snapshot.ref)
    assert DatasetStore(store).ensure(REGISTERED, file=None).profile == snapshot.profile
    assert DatasetStore(store).profile(snapshot.ref) == snapshot.profile
    _overwrite(store, snapshot, "description.json", damage)
    assert DatasetStore(store).find_description(snapshot.ref) is None
