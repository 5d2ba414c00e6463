"""Counters of answers, and rows: from a request by any protocol to lines in the spool."""

import asyncio
import errno
import gzip
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import routes
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tf
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.custom.calls import Answered, Call
from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.grpc_operations import OPERATIONS, V2
from mlops_pipeline.serving.grpc_server import Calls
from mlops_pipeline.serving.memory import LARGE, LargeRequests
from mlops_pipeline.serving.metrics import MOST_PREDICTORS, Metrics
from mlops_pipeline.serving.models import Signature, ask
from mlops_pipeline.serving.recording import recorder as recording_
from mlops_pipeline.serving.recording import spool as spool_
from mlops_pipeline.serving.recording.exchange import Exchange, Known, Source
from mlops_pipeline.serving.recording.format import OPEN, Recording, parse
from mlops_pipeline.serving.recording.recorder import Recorder, is_sampled
from mlops_pipeline.serving.recording.rows import Feedback, Lines, memory_of
from mlops_pipeline.serving.recording.spool import Spool, SpoolFull
from mlops_pipeline.serving.settings import read_settings
from mlops_pipeline_tests.serving.test_app import GOOD, call
from mlops_pipeline_tests.serving.test_grpc_server import Context
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit

COLUMNS = ("height", "width", "age", "income")
NOBODY = Known()
SOURCE = Source("default", "d" * 64, "seldon", "rest")
V2_BODY = b'{"id":"v2-1","inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4]}]}'


class Bench:
    """A server's REST and gRPC, in this process, that records to a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        is_recording: bool = True,
        signature: Signature | None = None,
        **chosen: Any,
    ) -> None:
        self.registry = CollectorRegistry()
        self.recording = Recording(str(folder), "ns", **chosen)
        self.folder = folder
        self.recorder = None
        if is_recording:
            self.recorder = Recorder(
                self.recording, model="toy", deployment="toy-model", registry=self.registry
            )
        metrics = Metrics(self.registry, recorder=self.recorder)
        signature = signature or replace(toy_signature(), columns=COLUMNS)
        unit = toy_unit(toy_model(signature))
        unit = replace(unit, predictor="default")
        large = LargeRequests()
        self.app = App(
            routes.routes_of(unit, metrics),
            missing=routes.missing(unit),
            max_body_bytes=1 << 22,
            large=large,
        )
        self.calls = Calls(large, Batcher(lambda *_: None), metrics=metrics)
        self.calls.unit = unit

    def post(self, path: str, body: bytes, *headers: tuple[bytes, bytes]) -> Any:
        return call(self.app, "POST", path, body, headers=headers)

    def ask(self, service: str, method: str, message: Any, **metadata: str) -> Any:
        context = Told(5.0, metadata)

        async def work() -> Any:
            return await self.calls._answer(
                OPERATIONS[service][method], message.SerializeToString(), context
            )

        return asyncio.run(asyncio.wait_for(work(), 20)), context

    def rows(self) -> list[dict[str, Any]]:
        """Return what is in the spool after the writer has ended."""
        assert self.recorder is not None
        self.recorder.start()
        self.recorder.stop()
        return rows_below(self.folder)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


class Told(Context):
    """A call with metadata, which keeps the trailing metadata of its answer."""

    def __init__(self, seconds: float, metadata: dict[str, str]) -> None:
        super().__init__(seconds)
        self._metadata = tuple((k.replace("_", "-"), text) for k, text in metadata.items())
        self.trailing: tuple[tuple[str, str], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.trailing = metadata


def rows_below(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/*/*.jsonl.gz"))
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    return [json.loads(line) for line in lines]


def request_of_v2(**fields: Any) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name="classifier", **fields)
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[1, 4])
    tensor.contents.fp64_contents.extend([1, 2, 3, 4])
    return request


def request_of_tensorflow() -> tf.PredictRequest:
    request = tf.PredictRequest(model_spec={"name": "classifier"})
    request.inputs["features"].dtype = 2
    request.inputs["features"].tensor_shape.dim.add(size=1)
    request.inputs["features"].tensor_shape.dim.add(size=4)
    request.inputs["features"].double_val.extend([1, 2, 3, 4])
    return request


def message_of_seldon(puid: str) -> pb.SeldonMessage:
    message = pb.SeldonMessage(meta=pb.Meta(puid=puid))
    message.data.tensor.shape.extend([1, 4])
    message.data.tensor.values.extend([1, 2, 3, 4])
    return message


# Counters


def test_answers_are_counted_without_recording(tmp_path: Path) -> None:
    bench = Bench(tmp_path, is_recording=False)
    bench.post("/api/v1.0/predictions", GOOD)
    bench.post("/v2/models/classifier/infer", V2_BODY)
    bench.post("/v2/models/classifier/infer", b"{}")
    bench.post("/predict", GOOD, (b"content-length", b"999999999"))
    bench.ask(V2, "ModelInfer", request_of_v2())
    with pytest.raises(ConnectionAbortedError):
        bench.ask(V2, "ModelInfer", v2.ModelInferRequest(model_name="classifier"))
    digest = toy_unit().model.digest
    counted = {
        (protocol, transport, outcome): bench.count(
            "mlops_answers_total",
            predictor="default",
            digest=digest,
            protocol=protocol,
            transport=transport,
            outcome=outcome,
        )
        for protocol in ("seldon", "v2")
        for transport in ("rest", "grpc")
        for outcome in ("answered", "refused", "failed", "abandoned")
    }
    assert {key: count for key, count in counted.items() if count} == {
        ("seldon", "rest", "answered"): 1.0,
        ("seldon", "rest", "refused"): 1.0,
        ("v2", "rest", "answered"): 1.0,
        ("v2", "rest", "refused"): 1.0,
        ("v2", "grpc", "answered"): 1.0,
        ("v2", "grpc", "refused"): 1.0,
    }
    assert b"mlops_answer_rows" not in generate_latest(bench.registry)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_nobody_waits_for_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, is_recording=False)
    assert call(bench.app, "POST", "/predict", GOOD[:5], GOOD[5:9], broken_off=True) is None
    text = generate_latest(bench.registry).decode()
    assert 'outcome="abandoned",predictor="default",protocol="seldon",transport="rest"} 1.0' in text


def test_a_defect_of_the_server_is_counted_as_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    route = bench.app.routes["/predict"]

    async def broken(_: object) -> Any:
        raise ZeroDivisionError

    bench.app.serve(
        {"/predict": replace(route, methods={"POST": broken})}, missing=bench.app._missing
    )
    assert bench.post("/predict", GOOD).status == 500
    (row,) = bench.rows()
    assert (row["status"], row["reason"], row["input"]) == (500, "DEFECT", None)


# One hook for all protocols


def test_every_protocol_gives_the_same_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.post("/api/v1.0/predictions", GOOD, (b"seldon-puid", b"s-1"))
    bench.post("/v2/models/classifier/infer", V2_BODY)
    body = b'{"instances":[[1,2,3,4]]}'
    said = bench.post("/v1/models/classifier:predict", body, (b"x-request-id", b"t-1"))
    assert said.headers[b"seldon-puid"] == b"t-1"
    bench.ask(V2, "ModelInfer", request_of_v2(id="v2-2"))
    bench.ask("seldon.protos.Seldon", "Predict", message_of_seldon("s-2"))
    _, context = bench.ask(
        "tensorflow.serving.PredictionService",
        "Predict",
        request_of_tensorflow(),
        seldon_puid="t-2",
    )
    assert context.trailing == (("seldon-puid", "t-2"),)
    rows = bench.rows()
    assert [(row["id"], row["protocol"], row["transport"]) for row in rows] == [
        ("s-1", "seldon", "rest"),
        ("v2-1", "v2", "rest"),
        ("t-1", "tensorflow", "rest"),
        ("v2-2", "v2", "grpc"),
        ("s-2", "seldon", "grpc"),
        ("t-2", "tensorflow", "grpc"),
    ]
    for row in rows:
        assert row["input"] == [[1.0, 2.0, 3.0, 4.0]]
        assert row["columns"] == list(COLUMNS)
        assert row["output"]["scores"] == [[10.0, -10.0]]
        assert (row["kind"], row["status"], row["reason"]) == ("answer", 200, "")
        assert (row["model"], row["namespace"], row["deployment"]) == ("toy", "ns", "toy-model")
        assert (row["predictor"], row["digest"]) == ("default", toy_unit().model.digest)
        assert row["latency_ms"] > 0
    assert bench.count("mlops_answer_rows_total", fate="recorded") == 6


def test_a_large_request_is_recorded_or_only_its_body_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for rows in (LARGE // 16, 20_000):
        body = json.dumps({"data": {"ndarray": [[1, 2, 3, 4]] * rows}}).encode()
        assert bench.post("/predict", body).status == 200
    first, second = bench.rows()
    assert len(first["input"]) == LARGE // 16
    assert (second["input"], second["output"], second["omitted"]) == (None, None, "too large")


def test_an_error_is_recorded_without_its_body_and_whatever_the_sample_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sample=0.0)
    bench.post("/predict", GOOD)
    bench.post("/predict", b'{"data":{"ndarray":[["secret"]]}}')
    with pytest.raises(ConnectionAbortedError):
        bench.ask(V2, "ModelInfer", v2.ModelInferRequest(model_name="other", id="secret"))
    rest, call_ = bench.rows()
    assert (rest["status"], rest["reason"], rest["input"]) == (400, "WRONG_TYPE", None)
    assert (call_["status"], call_["transport"], call_["output"]) == (404, "grpc", None)
    assert "secret" not in json.dumps(rest)
    assert bench.count("mlops_answer_rows_total", fate="not_sampled") == 1


def test_a_client_can_ask_not_to_be_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.post("/predict", GOOD, (b"seldon-skip-logging", b"true"))
    bench.ask(V2, "ModelInfer", request_of_v2(), seldon_skip_logging="True")
    assert bench.rows() == []
    counted = {
        (sample.labels["transport"], sample.labels["outcome"])
        for metric in bench.registry.collect()
        for sample in metric.samples
        if sample.name == "mlops_answers_total" and sample.value
    }
    assert counted == {("rest", "unlogged"), ("grpc", "answered")}


# Sample and caps


def test_a_sample_is_chosen_by_the_id() -> None:
    names = [f"request-{number}" for number in range(4000)]
    chosen = {name for name in names if is_sampled(name, 0.25)}
    assert 850 < len(chosen) < 1150
    assert chosen == {name for name in names if is_sampled(name, 0.25)}
    assert chosen <= {name for name in names if is_sampled(name, 0.5)}
    assert not any(is_sampled(name, 0.0) for name in names)


def test_the_cap_holds_within_a_second_and_errors_have_their_own(tmp_path: Path) -> None:
    now = [100.0]
    registry = CollectorRegistry()
    recorder = Recorder(
        Recording(str(tmp_path), "ns", per_second=2),
        model="toy",
        deployment="d",
        registry=registry,
        now=lambda: now[0],
    )
    for _ in range(5):
        recorder.record(exchange())
    recorder.record(exchange(status=500, reason="DEFECT"))
    now[0] = 101.0
    recorder.record(exchange())
    recorder.start()
    recorder.stop()
    assert registry.get_sample_value("mlops_answer_rows_total", {"fate": "over_cap"}) == 3
    assert len(rows_below(tmp_path)) == 4


def exchange(*, status: int = 200, reason: str = "", source: Source = SOURCE) -> Exchange:
    made = Exchange(source, 0.0)
    made.identifier, made.status, made.reason = "id", status, reason
    signature = replace(toy_signature(), columns=COLUMNS)
    made.question = ask(signature, np.array([[1.0, 2.0, 3.0, 4.0]]))
    made.scores = [("scores", np.array([[10.0, -10.0]]))]
    return made


# What cannot be kept


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_, "MOST_WAITING", 3)
    bench = Bench(tmp_path)
    statuses = [bench.post("/predict", GOOD).status for _ in range(5)]
    assert statuses == [200] * 5
    assert len(bench.rows()) == 3
    assert bench.count("mlops_answer_rows_total", fate="queue_full") == 2


def test_the_queue_is_bounded_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_, "MOST_WAITING_BYTES", 2 * (len(GOOD) + 16))
    bench = Bench(tmp_path)
    for _ in range(5):
        bench.post("/predict", GOOD)
    assert len(bench.rows()) == 2
    assert bench.count("mlops_answer_rows_total", fate="queue_full") == 3


def test_a_full_spool_drops_and_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, spool_bytes=10)
    assert bench.post("/predict", GOOD).status == 200
    assert bench.rows() == []
    assert bench.count("mlops_answer_rows_total", fate="spool_full") == 1


def test_a_spool_that_cannot_be_written_drops_and_counts(tmp_path: Path) -> None:
    (tmp_path / "toy").write_text("a file in the place of the folder")
    bench = Bench(tmp_path)
    assert bench.post("/predict", GOOD).status == 200
    assert bench.rows() == []
    assert bench.count("mlops_answer_rows_total", fate="spool_full") == 1


def test_an_answer_that_json_cannot_represent_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.recorder is not None
    made = exchange()
    made.question, made.call, made.answered = None, Call({1, 2}), Answered("x")
    bench.recorder.record(made)
    assert bench.rows() == []
    assert bench.count("mlops_answer_rows_total", fate="unwritable") == 1


# Masks


def content(made: Exchange, *mask: str, columns: Sequence[str] = ()) -> dict[str, Any]:
    recording = Recording("spool", "ns", mask=mask, columns=tuple(columns))
    lines = Lines(recording, model="toy", deployment="d")
    found: dict[str, Any] = json.loads(lines.of_exchange(made))
    return {key: found[key] for key in ("columns", "input", "output", "omitted")}


def test_a_masked_column_is_not_in_the_row() -> None:
    found = content(exchange(), "age", "unknown")
    assert found["columns"] == ["height", "width", "income"]
    assert found["input"] == [[1.0, 2.0, 4.0]]
    assert found["output"] == {"scores": [[10.0, -10.0]]}
    assert content(exchange(), "scores")["output"] == {}


def test_columns_that_the_model_does_not_name_are_left_out_unless_the_settings_do() -> None:
    made = exchange()
    made.question = ask(toy_signature(), np.array([[1.0, 2.0, 3.0, 4.0]]))
    found = content(made, "age")
    assert (found["input"], found["omitted"]) == (None, "masked")
    named = content(made, "age", columns=COLUMNS)
    assert (named["columns"], named["input"]) == (["height", "width", "income"], [[1.0, 2.0, 4.0]])
    assert content(made)["input"] == [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize("value", ["a secret", b"a secret", {"age": "a secret"}, [["a secret"]]])
def test_what_a_class_gets_as_it_is_cannot_be_masked(value: Any) -> None:
    made = exchange()
    made.question, made.call, made.answered = None, Call(value), Answered({"echo": "a secret"})
    assert "a secret" in json.dumps(content(made))
    found = content(made, "age")
    assert found == {"columns": None, "input": None, "output": None, "omitted": "masked"}


def test_a_truth_with_a_masked_column_is_not_in_the_row() -> None:
    def truth(message: object, *mask: str) -> Any:
        lines = Lines(Recording("spool", "ns", mask=mask), model="toy", deployment="d")
        return json.loads(lines.of_feedback(Feedback(SOURCE, "1", 0.0, 1.0, message)))["truth"]

    named = {"data": {"names": ["age"], "ndarray": [[7]]}}
    assert truth(named) == [[7]]
    assert truth(named, "age") is None
    assert truth({"jsonData": {"age": 7}}) == {"age": 7}
    assert truth({"jsonData": {"age": 7}}, "age") is None
    assert truth({"data": {"names": ["kind"], "ndarray": [["a"]]}}, "age") == [["a"]]
    tensor = {"shape": [1, 2], "values": [1, 2]}
    assert truth({"data": {"tensor": tensor}}) == [[1, 2]]
    assert truth({"data": {"names": ["a", "b"], "tensor": tensor}}, "age") == [[1, 2]]
    doubtful: list[Any] = [
        {"tensor": tensor},
        {"names": "age", "ndarray": [[7]]},
        {"names": ["kind"], "ndarray": [{"age": 7}]},
        {"names": ["kind"], "ndarray": [[{"age": 7}]]},
        {"names": ["kind"], "ndarray": [[1, 7]]},
        {"names": [], "ndarray": []},
        {"names": ["kind"], "tftensor": {"dtype": "DT_FLOAT"}},
        [7],
    ]
    for data in doubtful:
        assert truth({"data": data}, "age") is None


def of_class(names: tuple[str, ...], answered: Answered, known: Known = NOBODY) -> Exchange:
    made = exchange()
    made.question, made.known = None, known
    made.call, made.answered = Call(np.array([[1.0, 7.0]]), names=names), answered
    return made


NUMBERS = np.array([[0.25, 0.75]])


def test_names_that_only_the_client_chose_do_not_unmask_a_column() -> None:
    sent = of_class(("height", "x"), Answered(NUMBERS, ("a", "b")))
    assert content(sent)["columns"] == ["height", "x"]
    for columns in ((), ("height", "age"), ("height", "width", "age")):
        found = content(sent, "age", columns=columns)
        assert (found["input"], found["output"], found["omitted"]) == (None, None, "masked")
    own = of_class(("height", "age"), Answered(NUMBERS, ("a", "b")), Known(("height", "age")))
    for made, columns in ((own, ()), (of_class((), Answered(NUMBERS, ("a", "b"))), ("h", "age"))):
        found = content(made, "age", columns=columns)
        assert (found["input"], found["output"]) == ([[1.0]], NUMBERS.tolist())


def test_names_of_a_client_do_not_unmask_a_column_of_a_class_that_shares_calls() -> None:
    made = exchange()
    assert made.question is not None
    process: Any = object()
    of_client = replace(made.question.signature, component=process)
    made.question = replace(made.question, signature=of_client)
    assert content(made, "age")["omitted"] == "masked"
    made.known = Known(COLUMNS, ("a", "b"))
    found = content(made, "age", "b")
    assert (found["columns"], found["output"]) == (
        ["height", "width", "income"],
        {"scores": [[10.0]]},
    )


def test_a_client_that_names_the_columns_of_a_nameless_model_is_not_trusted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mask=("age",), columns=COLUMNS, signature=toy_signature())
    for names in (COLUMNS, COLUMNS[::-1]):
        document = {"data": {"names": names, "ndarray": [[1, 2, 3, 4]]}}
        assert bench.post("/predict", json.dumps(document).encode()).status == 200
    known, other = bench.rows()
    assert (known["input"], known["omitted"]) == ([[1.0, 2.0, 4.0]], None)
    assert (other["input"], other["omitted"]) == (None, "masked")


def test_the_answer_of_a_class_is_left_out_unless_its_columns_are_known() -> None:
    own = Known(("height", "age"), ("a", "b"))
    for answered in (Answered(NUMBERS, ("a", "b")), Answered(NUMBERS)):
        assert content(of_class((), answered, own), "b")["output"] == [[0.25]]
    for answered in (Answered(NUMBERS, ("a",)), Answered(NUMBERS[0]), Answered([[7]])):
        found = content(of_class((), answered, own), "age")
        assert (found["output"], found["omitted"]) == (None, "masked")


def test_masked_scores_of_a_model_are_left_out() -> None:
    made = exchange()
    made.known = Known(COLUMNS, ("low", "high"))
    assert content(made, "low")["output"] == {"scores": [[-10.0]]}
    made.scores = [*made.scores, ("other", np.array([[1.0, 2.0, 3.0]]))]
    assert content(made, "low")["output"] == {"scores": [[-10.0]]}


def test_the_text_of_a_class_is_no_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    told = "the age is 77"

    async def refuse(_: object) -> Any:
        raise RequestError(told, "no")

    route = replace(bench.app.routes["/predict"], methods={"POST": refuse})
    bench.app.serve({"/predict": route}, missing=bench.app._missing)
    assert bench.post("/predict", GOOD).status == 400
    (row,) = bench.rows()
    assert row["reason"] == "FAILURE"
    assert told not in generate_latest(bench.registry).decode()


# Feedback


def test_feedback_is_recorded_by_document_by_id_and_by_header(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sample=0.0)
    truth = {"data": {"ndarray": [[2]]}}
    path = "/api/v1.0/feedback"
    document = {"response": {"meta": {"puid": "a"}}, "reward": 1, "truth": truth}
    assert bench.post(path, json.dumps(document).encode()).status == 200
    assert bench.post(path, json.dumps({"id": "b", "truth": truth}).encode()).status == 200
    body = b'{"reward":0.5,"id":7,"response":{"meta":{"puid":9}}}'
    assert bench.post(path, body, (b"seldon-puid", b"c")).status == 200
    message = pb.Feedback(reward=1.0)
    message.response.meta.puid = "d"
    message.truth.data.tensor.shape.extend([1, 1])
    message.truth.data.tensor.values.extend([2])
    bench.ask("seldon.protos.Seldon", "SendFeedback", message)
    bench.ask("seldon.protos.Model", "SendFeedback", pb.Feedback(reward=0.25), seldon_puid="e")
    rows = bench.rows()
    assert [(row["kind"], row["id"], row["reward"], row["truth"]) for row in rows] == [
        ("feedback", "a", 1, [[2]]),
        ("feedback", "b", None, [[2]]),
        ("feedback", "c", 0.5, None),
        ("feedback", "d", 1.0, [[2.0]]),
        ("feedback", "e", 0.25, None),
    ]
    digest = toy_unit().model.digest
    for transport, count in (("rest", 3), ("grpc", 2)):
        labels = {"predictor": "default", "digest": digest, "transport": transport}
        assert bench.count("mlops_feedback_total", **labels) == count


def test_feedback_that_json_cannot_represent_is_answered_and_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    message = pb.Feedback(reward=1.0)
    message.truth.data.ndarray.values.add().number_value = float("nan")
    bench.ask("seldon.protos.Seldon", "SendFeedback", message)
    bench.ask("seldon.protos.Seldon", "SendFeedback", pb.Feedback(reward=0.5))
    assert [row["reward"] for row in bench.rows()] == [0.5]
    assert bench.count("mlops_answer_rows_total", fate="unwritable") == 1
    digest = toy_unit().model.digest
    labels = {"predictor": "default", "digest": digest, "transport": "grpc"}
    assert bench.count("mlops_feedback_total", **labels) == 2


def test_a_large_feedback_keeps_no_truth_and_many_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    large, small = (
        json.dumps({"reward": 1, "truth": {"data": {"ndarray": [[1]] * rows}}}).encode()
        for rows in (60_000, 1000)
    )
    monkeypatch.setattr(recording_, "MOST_WAITING_BYTES", 50 * len(small))
    for body in (large, small, small, small):
        assert bench.post("/api/v1.0/feedback", body).status == 200
    first, *others = bench.rows()
    assert (first["reward"], first["truth"], first["omitted"]) == (1, None, "too large")
    assert len(others) == 2
    assert bench.count("mlops_answer_rows_total", fate="queue_full") == 1


def test_rows_and_answers_of_lists_are_counted_as_memory() -> None:
    made = exchange()
    made.question = ask(toy_signature(), np.zeros((100, 4)))
    made.scores = [("scores", np.zeros((100, 2)))]
    assert memory_of(made) >= 100 * 6 * 8
    made.question, made.scores = None, ()
    made.call, made.answered, made.answer_size = Call("x"), Answered([[1]] * 1000), 4000
    assert memory_of(made) >= 1000 * 72
    made.call = made.answered = None  # It was too large to be recorded.
    made.size = 1 << 20
    assert memory_of(made) == 0


def test_the_writer_goes_on_after_what_it_does_not_expect(tmp_path: Path) -> None:
    class Broken:
        def __len__(self) -> int:
            raise ZeroDivisionError

    bench = Bench(tmp_path, mask=("age",))
    assert bench.recorder is not None
    made = exchange()
    names: Any = Broken()
    made.question, made.known = None, Known(("age", "b"))
    made.call, made.answered = Call(NUMBERS), Answered(NUMBERS, names)
    bench.recorder._queue.append((made, 0))
    bench.post("/predict", GOOD)
    assert len(bench.rows()) == 1
    assert bench.count("mlops_answer_rows_total", fate="unwritable") == 1


def test_a_wrong_method_is_no_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    said = call(bench.app, "PUT", "/predict", GOOD)
    assert said is not None
    assert said.status == 405
    assert bench.rows() == []
    assert bench.count("mlops_prediction_seconds_count", protocol="seldon") == 0


def test_an_error_tells_its_id(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    said = bench.post("/predict", b'{"meta":{"puid":"e-1"},"data":{"ndarray":[["x"]]}}')
    assert (said.status, said.headers[b"seldon-puid"]) == (400, b"e-1")
    said = bench.post("/predict", b'{"meta":{"puid":"e\\n2"},"data":{"ndarray":[["x"]]}}')
    assert (said.status, said.headers.get(b"seldon-puid")) == (400, None)
    context = Told(5.0, {"seldon_puid": "e-3"})
    content = v2.ModelInferRequest(model_name="other").SerializeToString()
    with pytest.raises(ConnectionAbortedError):
        asyncio.run(bench.calls._answer(OPERATIONS[V2]["ModelInfer"], content, context))
    assert context.trailing == (("seldon-puid", "e-3"),)


def test_predictors_of_headers_have_a_bounded_number_of_labels() -> None:
    metrics = Metrics(registry := CollectorRegistry())
    for number in range(100):
        unit = replace(toy_unit(), predictor=f"p{number}")
        metrics.watch(unit, "seldon")
        metrics.count_feedback(unit, "rest")
    text = generate_latest(registry).decode()
    assert text.count("mlops_feedback_total{") == MOST_PREDICTORS + 1


# The spool


def test_files_are_fewer_while_earlier_ones_wait(tmp_path: Path) -> None:
    now = [1_767_225_600.0]
    spool = Spool(tmp_path / "toy", most_bytes=1 << 20, batch_seconds=5.0, now=lambda: now[0])
    for _ in range(3600):
        now[0] += 1.0
        spool.append([b'{"a":1}\n'])
    spool.complete()
    assert len(rows_below(tmp_path)) == 3600
    assert len(list(tmp_path.glob("*/*/*"))) < 90


def test_a_disk_that_is_full_leaves_no_half_written_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "toy", most_bytes=1 << 20, batch_seconds=60.0)
    spool.append([b'{"a":1}\n'])
    with monkeypatch.context() as patched:
        patched.setattr(spool_, "_write", _half_of)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                spool.append([b'{"a":2}\n'])
    spool.append([b'{"a":3}\n'])
    spool.complete()
    assert [row["a"] for row in rows_below(tmp_path)] == [1, 3]
    assert len(list(tmp_path.glob("*/*/*"))) == 1


def _half_of(file: int, content: bytes) -> None:
    os.write(file, content[:9])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_written_batch_is_no_loss_if_its_file_cannot_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "toy", most_bytes=1 << 20, batch_seconds=0.0)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(spool, "complete", refuse)
    spool.append([b'{"a":1}\n'])
    (part,) = tmp_path.glob("*/*/*")
    assert gzip.decompress(part.read_bytes()) == b'{"a":1}\n'


def test_files_are_complete_after_a_time_and_at_the_end_of_a_day(tmp_path: Path) -> None:
    now = [1_767_225_590.0]  # 2025-12-31T23:59:50Z
    spool = Spool(tmp_path / "toy", most_bytes=1 << 20, batch_seconds=30.0, now=lambda: now[0])
    spool.append([b'{"a":1}\n'])
    (part,) = (tmp_path / "toy" / "2025-12-31").iterdir()
    assert part.name.endswith(OPEN)
    assert part.stat().st_mode & 0o777 == 0o600
    assert gzip.decompress(part.read_bytes()) == b'{"a":1}\n'
    now[0] += 20  # The next day.
    spool.append([b'{"a":2}\n'])
    now[0] += 31
    spool.append([b'{"a":3}\n'])
    spool.complete()
    assert [path.parent.name for path in sorted(tmp_path.glob("*/*/*.gz"))] == [
        "2025-12-31",
        "2026-01-01",
    ]
    assert [row["a"] for row in rows_below(tmp_path)] == [1, 2, 3]


def test_the_spool_takes_rows_again_after_an_upload(tmp_path: Path) -> None:
    now = [0.0]
    spool = Spool(tmp_path / "toy", most_bytes=60, batch_seconds=0.001, now=lambda: now[0])
    line = [b'{"a":1}\n']
    spool.append(line)
    spool.append(line)
    with pytest.raises(SpoolFull):
        spool.append(line)
    spool.complete()
    for path in tmp_path.glob("*/*/*"):
        path.unlink()
    now[0] += 1.0
    spool.append(line)


def test_the_writer_ends_with_what_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.recorder is not None
    bench.recorder.start()
    bench.post("/predict", GOOD)
    bench.recorder.stop()
    assert len(rows_below(tmp_path)) == 1
    assert not any(thread.name == "answers" for thread in threading.enumerate())


def test_pandas_reads_a_file(tmp_path: Path) -> None:
    import pandas

    bench = Bench(tmp_path)
    bench.post("/predict", GOOD, (b"seldon-puid", b"a"))
    bench.post("/predict", b"{}")
    bench.rows()
    (file,) = tmp_path.glob("*/*/*.jsonl.gz")
    frame = pandas.read_json(file, lines=True)
    assert list(frame["status"]) == [200, 400]
    assert frame["input"][0] == [[1.0, 2.0, 3.0, 4.0]]


# The variable


def test_the_variable_is_read_and_a_wrong_one_is_refused() -> None:
    given = Recording("spool", "ns", sample=0.5, mask=("age",), columns=COLUMNS)
    assert parse(given.to_json()) == given
    assert read_settings({"MLOPS_RECORDING": given.to_json()}, model=".").recording == given
    assert read_settings({}, model=".").recording is None
    for text in ("{", "[]", '{"folder":"x"}', '{"folder":"x","namespace":"n","masks":["a"]}'):
        with pytest.raises(StartError, match="MLOPS_RECORDING"):
            read_settings({"MLOPS_RECORDING": text}, model=".")
