import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_pipeline.clients.errors import IntegrityError, NotFoundError
from mlops_pipeline.delivery.answers import Wanted, read_answers
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.platforms.test_shipper import FEEDBACK, ROW


class CountingStore(FakeObjectStore):
    """Counts the files that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets.add("answers")
        self.read: list[str] = []
        self.listed: list[str] = []

    def get(self, bucket: str, key: str) -> bytes:
        self.read.append(key)
        return super().get(bucket, key)

    def sizes(self, bucket: str, prefix: str) -> dict[str, int]:
        self.listed.append(prefix)
        return super().sizes(bucket, prefix)

    def keep(self, name: str, *rows: dict[str, Any], day: str = "2026-11-30") -> None:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        self.objects["answers", f"iris/{day}/{name}.jsonl.gz"] = gzip.compress(content)


def answer(identifier: str, time: str = "12:00:00", **changed: Any) -> dict[str, Any]:
    return {**ROW, "id": identifier, "time": f"2026-11-30T{time}.000Z", **changed}


def feedback(identifier: str, time: str, **changed: Any) -> dict[str, Any]:
    return {**FEEDBACK, "id": identifier, "time": f"2026-11-30T{time}.000Z", **changed}


def test_feedback_joins_its_answer_by_the_id_and_the_last_one_counts() -> None:
    store = CountingStore()
    store.keep("120000-a", answer("a"), answer("b", "12:00:01"), answer("c", "12:00:02"))
    store.keep("130000-b", feedback("a", "13:00:00", truth=[[0]]), feedback("", "13:00:00"))
    store.keep("140000-c", feedback("a", "14:00:00", truth=[[2]], reward=0.5))
    found = read_answers(store, "iris", Wanted())
    assert [(row["id"], row["truth"], row["reward"]) for row in found] == [
        ("c", None, None),
        ("b", None, None),
        ("a", [[2]], 0.5),
    ]
    assert "kind" not in found[0]


def test_answers_are_filtered() -> None:
    store = CountingStore()
    refused = answer("r", status=400, reason="NO_DATA", input=None, output=None)
    store.keep("120000-a", answer("a"), refused, answer("o", "12:30:00", digest="e" * 64))

    def ids(**wanted: Any) -> list[str]:
        return [row["id"] for row in read_answers(store, "iris", Wanted(**wanted))]

    assert set(ids()) == {"a", "r", "o"}
    assert ids(status="error") == ids(status="400") == ["r"]
    assert set(ids(status="ok")) == {"a", "o"}
    assert ids(digest="eee") == ["o"]
    assert ids(since=datetime(2026, 11, 30, 12, 15, tzinfo=UTC)) == ["o"]
    assert ids(limit=1) == ["o"]


def test_only_the_newest_files_are_read_for_a_few_answers() -> None:
    store = CountingStore()
    for hour in range(10, 20):
        store.keep(f"{hour}0000-a", answer(f"h{hour}", f"{hour}:00:01"))
    store.keep("235959-z", answer("old", "09:00:00"), day="2026-11-29")
    found = read_answers(store, "iris", Wanted(limit=2))
    assert [row["id"] for row in found] == ["h19", "h18"]
    assert len(store.read) == 2
    store.read.clear()
    read_answers(store, "iris", Wanted(since=datetime(2026, 11, 30, 0, 30, tzinfo=UTC)))
    assert not [key for key in store.read if "2026-11-29" in key]


def test_only_the_days_since_then_are_listed() -> None:
    store, now = CountingStore(), datetime.now(UTC)
    today = f"{now:%Y-%m-%d}"
    store.keep("000000-a", {**ROW, "time": now.isoformat()}, day=today)
    store.keep("000000-a", answer("old"), day="2020-01-01")
    since = now - timedelta(seconds=30)
    assert len(read_answers(store, "iris", Wanted(since=since))) == 1
    assert f"iris/{today}/" in store.listed
    assert len(store.listed) <= 3
    assert all(len(prefix) == len("iris/2020-01-01/") for prefix in store.listed)
    del store.objects["answers", f"iris/{today}/000000-a.jsonl.gz"]
    assert read_answers(store, "iris", Wanted(since=since)) == []


def test_files_of_two_servers_overlap() -> None:
    store = CountingStore()
    store.keep("120000-a", answer("first", "12:00:04"))
    store.keep("120003-b", answer("second", "12:00:03"))
    assert [row["id"] for row in read_answers(store, "iris", Wanted(limit=1))] == ["first"]


def test_without_answers_it_says_how_to_record_them() -> None:
    for store in (CountingStore(), FakeObjectStore()):
        with pytest.raises(NotFoundError, match=r"answers\.enabled"):
            read_answers(store, "iris", Wanted())


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"[]\n"), gzip.compress(b"{}\n")])
def test_a_damaged_file_is_named(content: bytes) -> None:
    store = CountingStore()
    store.objects["answers", "iris/2026-11-30/1.jsonl.gz"] = content
    with pytest.raises(IntegrityError, match=r"iris/2026-11-30/1\.jsonl\.gz"):
        read_answers(store, "iris", Wanted())
