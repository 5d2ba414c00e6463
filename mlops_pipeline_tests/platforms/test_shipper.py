"""The process that uploads rows, on a spool that a real recorder wrote."""

import errno
import gzip
import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.cloud_events import EventSender
from mlops_pipeline.clients.errors import InvalidManifestError, NotFoundError
from mlops_pipeline.platforms import shipper as shipping
from mlops_pipeline.platforms.answers import (
    ANNOTATION,
    expired,
    recording_of,
    write_annotation,
)
from mlops_pipeline.platforms.seldon_events import events_of
from mlops_pipeline.platforms.shipper import Config, Shipper, read_state, rows_in, ship_rest
from mlops_pipeline.platforms.store_access import identities, new_key
from mlops_pipeline.serving.recording.format import OPEN, parse
from mlops_pipeline.serving.recording.spool import Spool
from mlops_pipeline.settings.answers import AnswersSettings
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore

ROW: dict[str, Any] = {
    "kind": "answer",
    "id": "a-1",
    "time": "2026-11-30T12:00:00.000Z",
    "model": "iris",
    "namespace": "seldon",
    "deployment": "iris-model",
    "predictor": "default",
    "digest": "d" * 64,
    "protocol": "seldon",
    "transport": "rest",
    "status": 200,
    "reason": "",
    "latency_ms": 1.5,
    "columns": ["height", "width"],
    "input": [[1.0, 2.0]],
    "output": {"scores": [[0.25, 0.75]]},
    "omitted": None,
}
ERROR = {**ROW, "id": "a-2", "status": 400, "reason": "NO_DATA", "input": None, "output": None}
FEEDBACK = {**{key: ROW[key] for key in list(ROW)[:10]}, "kind": "feedback"} | {
    "reward": 1.0,
    "truth": [[1]],
    "omitted": None,
}


def spooled(folder: Path, *rows: dict[str, Any], model: str = "iris") -> Spool:
    spool = Spool(folder / model, most_bytes=1 << 20, batch_seconds=60.0)
    spool.append([json.dumps(row).encode() + b"\n" for row in rows])
    return spool


def shipper_of(folder: Path, store: Any, sender: EventSender | None = None) -> Shipper:
    return Shipper(Config("http://x", "k", "s", str(folder)), store=store, sender=sender)


def a_store(**options: Any) -> FakeObjectStore:
    store = FakeObjectStore(**options)
    store.buckets.add("answers")
    return store


class Receiver:
    """A URL that keeps the events that are posted to it; `status` is what it answers."""

    def __init__(self, status: int = 200) -> None:
        self.events: list[tuple[dict[str, str], Any]] = []
        self.status = status

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): text for name, text in self.headers.items()}
                receiver.events.append((headers, json.loads(body)))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


# Uploads


def test_complete_files_are_uploaded_and_deleted_and_an_open_one_is_left(tmp_path: Path) -> None:
    store, spool = a_store(), tmp_path / "spool"
    done = spooled(spool, ROW, FEEDBACK)
    done.complete()
    being_written = spooled(spool, ERROR)
    shipper = shipper_of(spool, store)
    assert shipper.ship()
    ((bucket, key),) = store.objects
    assert (bucket, key.split("/")[0], key.count("/")) == ("answers", "iris", 2)
    lines = gzip.decompress(store.objects[bucket, key]).splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["answer", "feedback"]
    (left,) = spool.glob("*/*/*")
    assert left.name.endswith(OPEN)
    being_written.complete()
    assert shipper.ship()
    assert len(store.objects) == 2
    assert list(spool.glob("*/*/*")) == []
    assert read_state(spool).files == 2


def test_while_the_store_is_down_files_stay(tmp_path: Path) -> None:
    store, spool = a_store(fail_after=0), tmp_path / "spool"
    spooled(spool, ROW).complete()
    shipper = shipper_of(spool, store)
    assert not shipper.ship()
    assert len(list(spool.glob("*/*/*.gz"))) == 1
    assert read_state(spool).problem
    store.fail_after = None
    assert shipper.ship()
    assert len(store.objects) == 1
    assert read_state(spool).problem == ""


def test_what_a_killed_server_left_is_uploaded_without_its_broken_end(tmp_path: Path) -> None:
    store, spool = a_store(), tmp_path / "spool"
    folder = spool / "iris" / "2026-11-30"
    folder.mkdir(parents=True)
    whole, broken = (
        gzip.compress(json.dumps(row).encode() + b"\n") for row in (ROW, {**ROW, "id": "lost"})
    )
    (folder / f"120000-aa.jsonl.gz{OPEN}").write_bytes(whole + broken[:-12])
    (folder / f"120001-bb.jsonl.gz{OPEN}").write_bytes(b"")
    assert shipper_of(spool, store).ship()
    ((_, key),) = store.objects
    assert key == "iris/2026-11-30/120000-aa.jsonl.gz"
    found = [json.loads(x) for x in gzip.decompress(store.objects["answers", key]).splitlines()]
    assert found[0]["id"] == "a-1"
    assert list(folder.iterdir()) == []


def test_an_upload_makes_room_before_files_of_killed_servers_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spool = a_store(), tmp_path / "spool"
    spooled(spool, ROW).complete()
    folder = next(spool.glob("iris/*"))
    whole = gzip.compress(json.dumps(ROW).encode() + b"\n")
    parts = [folder / f"12000{number}-aa.jsonl.gz{OPEN}" for number in range(2)]
    parts[0].mkdir()  # It cannot be opened.
    parts[1].write_bytes(whole)
    uploaded_before: list[int] = []
    completed = shipping._complete

    def complete(path: Path) -> bool:
        uploaded_before.append(len(store.objects))
        return completed(path)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shipping, "_complete", complete)
    monkeypatch.setattr(shipping, "write_atomically", no_room)
    assert shipper_of(spool, store).ship()
    assert uploaded_before == [1, 1]
    assert len(store.objects) == 2
    assert [path.name for path in folder.iterdir()] == [parts[0].name]
    key = next(key for _, key in store.objects if key.endswith("120001-aa.jsonl.gz"))
    assert store.objects["answers", key] == whole


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_slow_url_does_not_stop_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stopped: bool
) -> None:
    store, spool, receiver = a_store(), tmp_path / "spool", Receiver()
    monkeypatch.setattr(shipping, "POST_SECONDS", 60.0 if is_stopped else -1.0)
    spooled(spool, ROW).complete()
    stopped = threading.Event()
    if is_stopped:
        stopped.set()
    with receiver.listening() as url, closing(EventSender(url)) as sender:
        shipper = shipper_of(spool, store, sender)
        if is_stopped:
            shipper.run(stopped)
        else:
            assert shipper.ship()
    assert (len(store.objects), receiver.events, shipper.state.lost_events) == (1, [], 2)


def test_rows_of_a_file_are_read_up_to_where_it_breaks_off() -> None:
    members = [gzip.compress(json.dumps({"n": n}).encode() + b"\n") for n in range(3)]
    assert [row["n"] for row in rows_in(b"".join(members))] == [0, 1, 2]
    assert [row["n"] for row in rows_in(members[0] + members[1][:7])] == [0]
    assert list(rows_in(b"no gzip")) == []


def test_the_rest_of_a_spool_is_uploaded_after_recording_is_disabled(tmp_path: Path) -> None:
    store, spool = a_store(), tmp_path / "spool"
    ship_rest(spool, store)
    spooled(spool, ROW).complete()
    ship_rest(spool, store)
    assert len(store.objects) == 1
    assert list(spool.glob("*/*/*")) == []


def test_the_key_is_in_no_text_of_the_configuration() -> None:
    config = Config("http://x", "k", "a secret", "spool")
    assert "a secret" not in repr(config)
    assert "a secret" in config.to_json()


# CloudEvents


def test_rows_are_posted_as_seldons_events(tmp_path: Path) -> None:
    receiver, spool = Receiver(), tmp_path / "spool"
    spooled(spool, ROW, ERROR, FEEDBACK).complete()
    with receiver.listening() as url, closing(EventSender(url)) as sender:
        shipper = shipper_of(spool, a_store(), sender)
        assert shipper.ship()
    kinds = [headers["ce-type"] for headers, _ in receiver.events]
    assert kinds == [
        "io.seldon.serving.inference.request",
        "io.seldon.serving.inference.response",
        "io.seldon.serving.feedback",
    ]
    (headers, request), (_, response), (_, feedback) = receiver.events
    assert {name: headers[f"ce-{name}"] for name in ("specversion", "requestid", "modelid")} == {
        "specversion": "1.0",
        "requestid": "a-1",
        "modelid": "iris",
    }
    assert (headers["ce-inferenceservicename"], headers["ce-namespace"]) == ("iris-model", "seldon")
    assert (headers["ce-endpoint"], headers["ce-protocol"]) == ("default", "seldon")
    assert headers["content-type"] == "application/json"
    assert request["data"] == {"names": ["height", "width"], "ndarray": [[1.0, 2.0]]}
    assert response["data"]["ndarray"] == [[0.25, 0.75]]
    assert response["meta"] == {"puid": "a-1"}
    assert (feedback["reward"], feedback["truth"]) == (1.0, [[1]])
    assert shipper.state.events == 3


@pytest.mark.parametrize("status", [500, None])
def test_events_that_nobody_takes_are_counted_and_rows_are_stored(
    tmp_path: Path, status: int | None
) -> None:
    store, spool, receiver = a_store(), tmp_path / "spool", Receiver(status or 200)
    spooled(spool, ROW).complete()
    with receiver.listening() as url, closing(EventSender(url)) as sender:
        if status:
            assert shipper_of(spool, store, sender).ship()
    if not status:  # Nobody listens there any more.
        with closing(EventSender(url)) as sender:
            assert shipper_of(spool, store, sender).ship()
    assert len(store.objects) == 1
    assert read_state(spool).lost_events == 2


def test_events_have_the_format_of_the_rows_protocol() -> None:
    def data(**changed: Any) -> list[Any]:
        return [data for _, data, _ in events_of({**ROW, **changed})]

    request, response = data(protocol="v2")
    assert request["inputs"] == [
        {"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}
    ]
    assert response["outputs"][0]["name"] == "scores"
    assert data(protocol="tensorflow") == [
        {"instances": [[1.0, 2.0]]},
        {"predictions": [[0.25, 0.75]]},
    ]
    assert data(protocol="v2", input={"a": [["x"]]})[0]["inputs"][0]["datatype"] == "BYTES"
    assert data(input="a text")[0]["strData"] == "a text"
    assert data(input=None, omitted="masked") == []


# Settings, annotation, retention


def test_a_server_records_what_the_settings_and_the_annotation_say(tmp_path: Path) -> None:
    settings = AnswersSettings(enabled=True, mask=("age",), sample=0.5)

    def of(annotation: dict[str, str], chosen: AnswersSettings = settings) -> Any:
        text = recording_of(chosen, annotation, namespace="ns", folder=tmp_path)
        return parse(text) if text else None

    usual = of({})
    assert (usual.sample, usual.mask, usual.namespace) == (0.5, ("age",), "ns")
    own = write_annotation(
        is_recorded=True, sample=1.0, per_second=7, mask=["income"], columns=["age", "income"]
    )
    found = of(own)
    assert (found.sample, found.per_second, found.mask) == (1.0, 7, ("age", "income"))
    assert found.columns == ("age", "income")
    off = write_annotation(is_recorded=False, sample=None, per_second=None, mask=(), columns=["a"])
    assert of(off) is None
    assert of(own, AnswersSettings()) is None
    nothing = write_annotation(
        is_recorded=True, sample=None, per_second=None, mask=(), columns=["a"]
    )
    assert nothing == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"masks":["age"]}', '{"mask":"age"}'])
def test_an_annotation_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    settings = AnswersSettings(enabled=True)
    with pytest.raises(InvalidManifestError, match="annotation"):
        recording_of(settings, {ANNOTATION: text}, namespace="ns", folder=tmp_path)


def test_rows_expire_after_the_retention_and_other_objects_do_not() -> None:
    store = a_store()
    kept = ("iris/2026-11-01/1.jsonl.gz", ".there", "iris/notes.txt", "iris/2026-13-01/1.jsonl.gz")
    for key in ("iris/2026-10-31/1.jsonl.gz", *kept):
        store.put("answers", key, b"x")
    old = expired(store, retention_days=29, today=date(2026, 11, 30))
    assert old == ["iris/2026-10-31/1.jsonl.gz"]
    with pytest.raises(NotFoundError):
        expired(FakeObjectStore(), retention_days=29, today=date(2026, 11, 30))


def test_the_second_identity_can_only_write_answers() -> None:
    alone = json.loads(identities(new_key()))["identities"]
    assert [one["name"] for one in alone] == ["mlops-pipeline"]
    _, writer = json.loads(identities(new_key(), writer=new_key()))["identities"]
    assert writer["actions"] == ["Write:answers"]
