"""Custom components in their real process: what they get and answer, and how they fail."""

import asyncio
import json
import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

from mlops_pipeline.catalog import saving
from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_serving_pb2 as tf
from mlops_pipeline.serving.batching import run_at_once
from mlops_pipeline.serving.custom import process
from mlops_pipeline.serving.custom import rows as calling
from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols import seldon_component, tensorflow_grpc, v2_grpc
from mlops_pipeline.serving.schema import Column, Schema
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.components import ROW, Caller, loaded, run, write

pytestmark = pytest.mark.embedded

EVERYTHING = """
    import os
    from seldon_core.user_model import SeldonComponent, SeldonResponse
    from seldon_core.metrics import create_counter, create_timer

    class Doubler(SeldonComponent):
        def __init__(self, factor=2, word="no"):
            self.factor, self.word, self.calls, self.is_loaded = factor, word, 0, False

        def load(self):
            self.is_loaded = os.path.exists("Doubler.py")
            print("printing is harmless")

        def predict(self, X, names, meta=None):
            assert self.is_loaded
            self.calls += 1
            if isinstance(X, str):
                return X * int(self.factor)
            if isinstance(X, bytes):
                return X[::-1]
            if isinstance(X, dict):
                return {"given": X, "puid": meta["puid"], "word": self.word}
            if X.dtype == object:
                return [[str(value), "text"] for value in X.ravel()]
            answer = X * float(self.factor)
            return SeldonResponse(answer, tags={"names": list(names)}, metrics=[
                {"key": "rows", "type": "GAUGE", "value": len(X)}])

        def class_names(self):
            return ["a", "b"]

        def tags(self):
            return {"calls": self.calls, "model_name": "mine"}

        def metrics(self):
            return [create_counter("calls", 1), create_timer("took", 20.0)]

        def init_metadata(self):
            return {"name": "doubler", "versions": ["7"], "custom": {"author": "me"}}

        def health_status(self):
            return ["fine", self.calls]
"""


@pytest.fixture(scope="module")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = write(tmp_path_factory.mktemp("doubler"), EVERYTHING)
    with loaded(folder, factor=3) as model:
        yield model
    assert {path.name for path in folder.iterdir()} == {"Doubler.py"}


def test_an_answer_has_the_tags_metrics_and_names_of_the_class(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        rows = {"names": ["x", "y"], "ndarray": [[1, 2], [3, 4]]}
        status, answer = await caller.post({"data": rows, "meta": {"puid": "p", "tags": {"k": 1}}})
        assert status == 200
        assert answer["data"] == {"names": ["a", "b"], "ndarray": [[3, 6], [9, 12]]}
        tags = answer["meta"].pop("tags")
        assert tags.pop("calls") > 0
        assert tags == {
            "k": 1,
            "names": ["x", "y"],
            "model_name": "unit",
            "model_digest": doubler.digest,
        }
        assert answer["meta"] == {
            "puid": "p",
            "requestPath": {"unit": "image:1"},
            "metrics": [
                {"key": "calls", "type": "COUNTER", "value": 1},
                {"key": "took", "type": "TIMER", "value": 20},
                {"key": "rows", "type": "GAUGE", "value": 2},
            ],
        }

    run(doubler, using)


def test_a_class_gets_the_payload_of_a_request_and_answers_in_kind(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        tensor = {"shape": [1, 2], "values": [1, 2]}
        _, answer = await caller.post({"data": {"tensor": tensor}})
        assert answer["data"]["tensor"] == {"shape": [1, 2], "values": [3, 6]}
        _, answer = await caller.post({"data": {"ndarray": [["red", 1], ["blue", None]]}})
        assert answer["data"]["ndarray"][2:] == [["blue", "text"], ["None", "text"]]
        assert (await caller.post({"strData": "ab"}))[1]["strData"] == "ababab"
        assert (await caller.post({"binData": "AQI="}))[1]["binData"] == "AgE="
        document = {"jsonData": {"deep": [1, {"x": None}]}, "meta": {"puid": "q"}}
        _, answer = await caller.post(document)
        given = {"given": {"deep": [1, {"x": None}]}, "puid": "q", "word": "no"}
        assert answer["jsonData"] == given
        assert (await caller.post({"binData": "?"}))[1]["status"]["reason"] == "WRONG_TYPE"
        assert (await caller.post({"meta": {}}))[1]["status"]["reason"] == "NO_DATA"

    run(doubler, using)


def test_metrics_health_and_metadata_of_the_class_are_shown(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        await caller.post(_data(1, 2))
        await caller.post({"strData": "ab"})
        shown = (await caller.get("/metrics"))[1]["text"].splitlines()
        (line,) = (line for line in shown if line.startswith("calls_total"))
        assert 'method="predict"' in line
        assert line.endswith(" 2.0")
        assert [line.split()[-1] for line in shown if line.startswith("took_sum")] == ["0.04"]
        _, described = await caller.get("/metadata")
        assert (described["name"], described["versions"]) == ("doubler", ["7"])
        assert described["custom"]["author"] == "me"
        assert described["custom"]["model_digest"] == doubler.digest
        status, health = await caller.get("/health/status")
        assert (status, health["health"][0]) == (200, "fine")
        assert type(health["health"][1]) is int

    run(doubler, using)


def test_every_protocol_asks_the_class(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        values = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}
        _, answer = await caller.post({"inputs": [values]}, "/v2/models/unit/infer")
        assert answer["outputs"][0]["data"] == [3, 6, 9, 12]
        _, answer = await caller.post({"instances": [[1, 1]]}, "/v1/models/unit:predict")
        assert answer == {"predictions": [[3, 3]]}
        tensor = pb.Tensor(shape=[1, 2], values=[1, 2])
        message = pb.SeldonMessage(data=pb.DefaultData(tensor=tensor))
        reply = await seldon_component.predict(caller.unit, message)
        assert list(reply.data.tensor.values) == [3, 6]
        assert reply.meta.tags["model_name"].string_value == "unit"
        assert [(m.key, m.type, m.value) for m in reply.meta.metrics][1:] == [
            ("took", pb.Metric.TIMER, 20),
            ("rows", pb.Metric.GAUGE, 1),
        ]
        reply = await seldon_component.predict(caller.unit, pb.SeldonMessage(strData="x"))
        assert reply.strData == "xxx"
        reply = await seldon_component.predict(caller.unit, pb.SeldonMessage(binData=b"12"))
        assert reply.binData == b"21"

    run(doubler, using)


def test_a_tftensor_is_answered_with_a_tftensor(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        tensor = tensor_proto.to_json(np.array([[1, 2]], dtype=np.int64))
        status, answer = await caller.post({"data": {"tftensor": tensor}})
        assert status == 200
        found = tensor_proto.from_json(answer["data"]["tftensor"], where="the answer")
        assert tensor_proto.read(found, where="the answer").tolist() == [[3.0, 6.0]]
        texts = {"dtype": "DT_STRING", "tensorShape": {"dim": [{"size": 1}]}, "stringVal": ["eA=="]}
        _, answer = await caller.post({"data": {"tftensor": texts}})
        assert answer["data"]["ndarray"] == [["x", "text"]]
        message = pb.SeldonMessage()
        tensor_proto.write(message.data.tftensor, np.array([[1.5, 2]]))
        reply = await seldon_component.predict(caller.unit, message)
        assert tensor_proto.read(reply.data.tftensor, where="").tolist() == [[4.5, 6.0]]
        for data in (
            {"data": {"tftensor": {**tensor, "tensorContent": "A A="}}},
            {"binData": "AQI"},
        ):
            status, answer = await caller.post(data)
            assert (status, "is not base64" in answer["status"]["info"]) == (400, True)

    run(doubler, using)


COLUMNS = Schema((Column("low", range=(0, 10)), Column("high", range=(0, 10))), form="array")
DIFFERENCE = """
    class Difference:
        def predict(self, X, names, meta=None):
            assert list(names) == ["low", "high"], names
            rows = [list(row.values()) for row in X["instances"]] if isinstance(X, dict) else X
            return [[float(row[1] - row[0])] for row in rows]
"""
RAW_DIFFERENCE = """
    class Difference:
        def predict_raw(self, msg):
            if "data" not in msg:
                return {"jsonData": msg.get("jsonData", msg.get("strData"))}
            assert msg["data"]["names"] == ["low", "high"], msg
            data = msg["data"]
            rows = data["ndarray"] if "ndarray" in data else [data["tensor"]["values"]]
            return {"data": {"ndarray": [[row[1] - row[0]] for row in rows]}}
"""


def _tensor(name: str, *data: float) -> dict[str, Any]:
    return {"name": name, "datatype": "FP64", "shape": [1, len(data)], "data": list(data)}


def _numbers(low: float, high: float) -> list[tuple[str, dict[str, Any]]]:
    """Return the path and the document of every way to send a row of numbers."""
    seldon, v2, v1 = "/api/v1.0/predictions", "/v2/models/unit/infer", "/v1/models/unit:predict"
    turned = {"names": ["high", "low"]}
    return [
        (seldon, {"data": {"ndarray": [[low, high]]}}),
        (seldon, {"data": {**turned, "ndarray": [[high, low]]}}),
        (seldon, {"data": {**turned, "tensor": {"shape": [1, 2], "values": [high, low]}}}),
        (v2, {"inputs": [_tensor("x", low, high)]}),
        (v2, {"inputs": [_tensor("high", high), _tensor("low", low)]}),
        (v1, {"instances": [[low, high]]}),
        (v1, {"instances": [{"high": high, "low": low}]}),
    ]


@pytest.mark.parametrize("code", [DIFFERENCE, RAW_DIFFERENCE], ids=["predict", "predict_raw"])
def test_a_schema_and_the_names_of_columns_are_those_of_every_protocol(
    tmp_path: Path, code: str
) -> None:
    async def using(caller: Caller) -> None:
        is_raw = code is RAW_DIFFERENCE
        in_json: dict[str, Any] = {"jsonData": {"instances": [{"low": 1, "high": 4}]}}
        for path, document in _numbers(1, 4):
            status, answer = await caller.post(document, path)
            assert (status, "3.0" in json.dumps(answer)) == (200, True), (document, answer)
        assert (await caller.post(in_json))[0] == 200
        for path, document in _numbers(1, 11):
            status, answer = await caller.post(document, path)
            assert (status, "'high'" in json.dumps(answer)) == (400, True), (document, answer)
        in_json["jsonData"]["instances"][0]["low"] = -1
        for document in (in_json, {"jsonData": [[-1, 4]]}):
            status, answer = await caller.post(document)
            assert (status, answer["status"]["reason"]) == (400, "OUT_OF_RANGE"), answer
        message = pb.SeldonMessage()
        ParseDict(_data(1, 11), message)
        with pytest.raises(RequestError, match="column 'high'"):
            await seldon_component.predict(caller.unit, message)
        # Only `predict_raw` can read another document itself.
        for document in ({"jsonData": {"free": 1}}, {"strData": "free"}):
            status, answer = await caller.post(document)
            assert status == (200 if is_raw else 400), answer

    with loaded(write(tmp_path, code, name="Difference"), inputs=(ROW,), schema=COLUMNS) as model:
        run(model, using)


def test_the_names_of_a_request_reach_a_class_without_any(doubler: Model) -> None:
    async def using(caller: Caller) -> None:
        scores = await doubler.predict(calling.named(doubler.default, ["x", "y"]), ROWS)
        assert scores.tags["names"] == ["x", "y"]
        both = {"inputs": [_tensor("x", 1), _tensor("y", 2)]}
        status, answer = await caller.post(both, "/v2/models/unit/infer")
        assert (status, answer["outputs"][0]["data"]) == (200, [3, 6])

    run(doubler, using)


ROWS = np.array([[1.0, 2.0]])

FAILING = """
    import ctypes, os, sys, time

    from seldon_core.flask_utils import SeldonMicroserviceException

    class TooMuch(SeldonMicroserviceException):
        def __init__(self):
            super().__init__("at most 9", status_code=422, reason="TOO_MUCH")

    class Failing:
        def predict(self, X, names):
            what = X[0, 0]
            if what == 1:
                raise ValueError("one is wrong.")
            if what == 2:
                return None
            if what == 3:
                time.sleep(60)
            if what == 4:
                return bytearray(1 << 33)
            if what == 5:
                os.kill(os.getpid(), 9)
            if what == 6:
                sys.exit(3)
            if what == 7:
                return [[1], [1, 2]]
            if what == 8:
                return {1, 2}
            if what == 9:
                return [[float("nan")]]
            if what == 10:
                raise TooMuch
            if what == 11:
                ctypes.PyDLL(None).sleep(60)
            if what == 12:
                os._exit(7)
            return X
"""


def _data(*row: object) -> dict[str, Any]:
    return {"data": {"ndarray": [list(row)]}}


def test_each_failure_has_a_reason_and_the_next_request_is_answered(tmp_path: Path) -> None:
    folder = write(tmp_path, FAILING, name="Failing")
    expected = {
        1: (500, "RAISED", "Failing.predict raised ValueError: one is wrong (Failing.py, line 14)"),
        2: (500, "NO_ANSWER", "Failing.predict returned nothing; it must return"),
        3: (504, "TIMEOUT", "Failing.predict did not return within 0.5 s; its process is replaced"),
        4: (500, "OUT_OF_MEMORY", "Failing.predict needs more memory than it may have"),
        5: (500, "CRASHED", "its process was ended by SIGKILL"),
        6: (500, "RAISED", "Failing.predict raised SystemExit: 3"),
        7: (500, "UNWRITABLE", "returned rows of different lengths"),
        8: (500, "UNWRITABLE", "returned a set; it must return"),
        9: (500, "NOT_FINITE", "has NaN or Infinity"),
        10: (422, "TOO_MUCH", "at most 9"),
        11: (504, "TIMEOUT", "did not return within 0.5 s"),
        12: (500, "CRASHED", "its process ended with exit code 7"),
    }

    async def using(caller: Caller) -> None:
        for what, (status, reason, sentence) in expected.items():
            given, other = await asyncio.gather(
                caller.post(_data(what, 0)), caller.post(_data(0, what))
            )
            said = given[1]["status"]
            assert (given[0], said["code"], said["reason"]) == (status, status, reason), said
            assert sentence in said["info"]
            assert other[0] == 200, other
            assert other[1]["data"]["ndarray"] == [[0, what]]

    with loaded(folder, timeout=0.5, max_memory="700Mi") as model:
        run(model, using)


def test_a_large_request_is_answered_in_its_worker_thread(tmp_path: Path) -> None:
    folder = write(tmp_path, FAILING, name="Failing")

    async def using(caller: Caller) -> None:
        rows = {"data": {"ndarray": [[0, 1]] * 20_000}}
        status, answer = await asyncio.to_thread(lambda: run_at_once(caller.post(rows)))
        assert status == 200
        assert answer["data"]["ndarray"] == [[0, 1]] * 20_000

    with loaded(folder) as model:
        run(model, using)


def test_requests_behind_a_hanging_one_end_and_health_stays_fast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, FAILING, name="Failing")

    async def using(caller: Caller) -> None:
        begin = time.monotonic()
        hanging = [asyncio.ensure_future(caller.post(_data(3, n))) for n in range(2)]
        await asyncio.sleep(0.1)
        assert (await caller.get("/health/status"))[0] == 200
        assert time.monotonic() - begin < 0.4
        gone = asyncio.ensure_future(caller.post(_data(5, 0)))  # Would end the process.
        await asyncio.sleep(0)
        gone.cancel()
        statuses = [status for status, _ in await asyncio.gather(*hanging)]
        assert statuses == [504, 504]
        assert (await caller.post(_data(0, 1)))[0] == 200
        assert time.monotonic() - begin < 8
        replaced = [line for line in caplog.messages if "is replaced" in line]
        assert len(replaced) == 2, "nobody waited for the request that was cancelled"

    with loaded(folder, timeout=0.5) as model:
        run(model, using)


def test_a_request_waits_for_its_turn_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.7)
    monkeypatch.setattr(process, "MOST_WAITING", 4)
    folder = write(tmp_path, FAILING, name="Failing")

    async def using(caller: Caller) -> None:
        answers = await asyncio.gather(*(caller.post(_data(3, n)) for n in range(5)))
        reasons = [answer["status"]["reason"] for _, answer in answers]
        assert (reasons[0], reasons[3], reasons[4]) == ("TIMEOUT", "LATE", "TOO_BUSY")
        assert "Failing was busy with other requests for " in answers[3][1]["status"]["info"]

    with loaded(folder, timeout=0.5) as model:
        run(model, using)


def test_the_last_of_many_requests_waits_no_longer_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.6)
    folder = write(tmp_path, FAILING, name="Failing")

    async def using(caller: Caller) -> None:
        async def timed(number: int) -> tuple[str, float]:
            begin = time.monotonic()
            _, answer = await caller.post(_data(3, number))
            return answer["status"]["reason"], time.monotonic() - begin

        answers = await asyncio.gather(*(timed(n) for n in range(40)))
        assert {reason for reason, _ in answers[1:]} == {"LATE"}
        assert max(seconds for _, seconds in answers[1:]) < 1.2

    with loaded(folder, timeout=2) as model:
        run(model, using)


def test_a_process_that_is_closed_while_it_is_replaced_leaves_none(tmp_path: Path) -> None:
    folder = write(
        tmp_path, "import time\ntime.sleep(0.5)\n" + textwrap.dedent(FAILING), name="Failing"
    )
    with loaded(folder) as model:
        component = model.default.component
        assert component is not None
        _kill(component)
        assert "is being loaded again" in component.problem
        component.close()
        end = time.monotonic() + 10
        while not component.is_free():
            assert time.monotonic() < end
            threading.Event().wait(0.02)
        assert component._child is None
        assert "is closed" in component.problem


def test_the_process_ends_with_the_server(tmp_path: Path) -> None:
    folder = write(tmp_path, FAILING, name="Failing")
    with loaded(folder) as model:
        component = model.default.component
        assert component is not None
        child = component._child
        assert child is not None
        assert child.process.stdin is not None
        child.process.stdin.close()  # As if the server were killed.
        assert child.process.wait(10) == -signal.SIGKILL  # With all that it has started.


def _kill(component: process.ComponentProcess) -> None:
    """End the process between two requests, and leave it unreaped."""
    assert component._child is not None
    pid = component._child.process.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def _check_states(caller: Caller, model: Model, *, is_ready: bool) -> None:
    """Require that V2's index and TF Serving's status say whether the class is loaded."""
    why = "" if is_ready else "FileNotFoundError"
    _, listed = await caller.post({}, "/v2/repository/index")
    (by_grpc,) = (await v2_grpc.index(model, v2.RepositoryIndexRequest())).models
    state = "READY" if is_ready else "UNAVAILABLE"
    for found, reason in (
        (listed[0]["state"], listed[0]["reason"]),  # type: ignore[index]
        (by_grpc.state, by_grpc.reason),
    ):
        assert (found, why in reason, bool(reason)) == (state, True, not is_ready)
    _, document = await caller.get("/v1/models/unit")
    (version,) = document["model_version_status"]
    said = (version["state"], version["status"]["error_code"])
    assert said == (("AVAILABLE", "OK") if is_ready else ("LOADING", "UNAVAILABLE"))
    asked = tf.GetModelStatusRequest(model_spec=tf.ModelSpec(name="unit"))
    (status,) = (await tensorflow_grpc.status(model, asked)).model_version_status
    states = tf.ModelVersionStatus
    code = (status.state, status.status.error_code)
    assert code == ((states.AVAILABLE, 0) if is_ready else (states.LOADING, 14))


def test_a_class_that_no_longer_loads_says_so_and_is_tried_again(tmp_path: Path) -> None:
    code = "class C:\n    def load(self):\n        open('there').close()\n"
    code += "    def predict(self, X, names):\n        return X\n"
    folder = write(tmp_path, code, name="C")
    (folder / "there").touch()

    async def using(caller: Caller) -> None:
        component = model.default.component
        assert component is not None
        _kill(component)
        # It ended without a request: none of them is at fault.
        assert (await caller.post(_data(1, 2)))[0] == 200
        (folder / "there").unlink()
        _kill(component)
        status, answer = await caller.post(_data(1, 2))
        assert status == 503
        assert "C.load raised FileNotFoundError" in answer["status"]["info"]
        ready = ("/health/status", "/v2/health/ready", "/v2/models/unit/ready")
        for path in (*ready, "/api/v1.0/status/unit"):
            assert (await caller.get(path))[0] == 503
        assert not (await v2_grpc.ready(model, v2.ModelReadyRequest(name="unit"))).ready
        await _check_states(caller, model, is_ready=False)
        (folder / "there").touch()
        end = time.monotonic() + 20
        while (await caller.get(ready[0]))[0] != 200:  # A pod that is not ready gets no requests.
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert (await caller.post(_data(1, 2)))[0] == 200
        for path in ready:
            assert (await caller.get(path))[0] == 200
        assert (await v2_grpc.ready(model, v2.ModelReadyRequest(name="unit"))).ready
        await _check_states(caller, model, is_ready=True)

    with loaded(folder) as model:
        run(model, using)


def test_a_parameter_of_the_artifact_is_the_class_s_alone(tmp_path: Path) -> None:
    code = "class C:\n    def __init__(self, timeout=1):\n        self.timeout = timeout\n"
    code += "    def predict(self, X, names):\n        return X * self.timeout\n"
    folder = write(tmp_path, code, name="C")
    described = {"class": "C:C", "parameters": {"timeout": 100}}
    (folder / "component.json").write_text(json.dumps(described))

    async def using(caller: Caller) -> None:
        assert (await caller.post(_data(1, 2)))[1]["data"]["ndarray"] == [[100, 200]]

    with loaded(folder) as model:
        assert model.default.component is not None
        assert model.default.component.options.seconds == 5
        run(model, using)


@pytest.mark.parametrize("arguments", ["", "self, factor=1", "self, **options"])
def test_a_limit_that_the_class_does_not_take_is_the_server_s(
    tmp_path: Path, arguments: str
) -> None:
    code = f"class C:\n    def __init__({arguments or 'self'}):\n"
    code += "        assert not locals().get('options')\n"
    code += "    def predict(self, X, names):\n        return X\n    is_rowwise = True\n"
    folder = write(tmp_path, code, name="C")
    given = {"timeout": 7, "max_memory": "700Mi", "load_timeout": 20, "max_batch_size": 9}
    described = {"class": "C:C", "parameters": given}
    (folder / "component.json").write_text(json.dumps(described))
    with loaded(folder, inputs=(ROW,), load_timeout=30) as model:
        assert model.default.component is not None
        limits = model.default.component.options
        assert (limits.seconds, limits.load_seconds) == (7, 30)
        assert limits.max_memory == 700 << 20
        assert model.default.batch.rows == 9
    described["parameters"] = {"timeout": 100}
    (folder / "component.json").write_text(json.dumps(described))
    with pytest.raises(StartError, match="timeout must be a number of seconds"), loaded(folder):
        pass


def test_a_class_is_saved_with_the_parameters_of_its_server(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    source = write(tmp_path / "source", EVERYTHING, name="Doubler") / "Doubler.py"
    token = saving.SERVING.set(saving.Serving({"factor": "5", "timeout": "3"}))
    try:
        trained = saving.save_python(source, folder, rows=ROWS, parameters={"factor": 2})
    finally:
        saving.SERVING.reset(token)
    assert trained.predict(ROWS).tolist() == [[5.0, 10.0]]
    described = json.loads((folder / "component.json").read_text())
    assert described["parameters"] == {"factor": 2}


BATCHING = """
    import time

    class Batching:
        is_rowwise = True

        def predict(self, X, names):
            self.size = len(X)
            if (X == 13).any():
                raise ValueError("thirteen")
            if (X == 14).any():
                time.sleep(60)
            return X.sum(axis=1, keepdims=True)

        def class_names(self):
            return ["sum"]

        def tags(self):
            return {"size": self.size}
"""


def test_a_class_shares_calls_only_if_it_says_so(tmp_path: Path) -> None:
    async def using(caller: Caller) -> None:
        answers = await asyncio.gather(*(caller.post(_data(n, 0)) for n in range(12, 20)))
        sums = [answer["data"]["ndarray"] for status, answer in answers if status == 200]
        assert sums == [[[float(n)]] for n in range(12, 20) if n not in (13, 14)]
        assert answers[0][1]["data"]["names"] == ["sum"]
        assert answers[1][1]["status"]["reason"] == "RAISED"
        assert answers[2][1]["status"]["reason"] == "TIMEOUT"
        again = await asyncio.gather(*(caller.post(_data(n, 0)) for n in range(20, 28)))
        sizes.append(max(answer["meta"]["tags"]["size"] for _, answer in again))

    sizes: list[int] = []
    for number, code in enumerate((BATCHING, BATCHING.replace("is_rowwise = True", ""))):
        folder = write(tmp_path / str(number), code, name="Batching", example=[[1.0, 2.0]])
        with loaded(folder, inputs=(ROW,), timeout=0.5) as model:
            run(model, using)
    assert sizes[0] > 1
    assert sizes[1] == 1


RAW = """
    class Raw:
        def predict_raw(self, msg):
            if "strData" in msg:
                return {"status": {"code": 418, "info": "teapot", "status": "FAILURE"}}
            rows = msg["data"]["ndarray"]
            return {"data": {"ndarray": [[sum(row)] for row in rows]},
                    "meta": {"tags": {"puid": msg["meta"].get("puid")},
                             "metrics": [{"key": "raw", "type": "COUNTER", "value": 2}]}}
"""


def test_predict_raw_gets_the_message_and_answers_with_one(tmp_path: Path) -> None:
    async def using(caller: Caller) -> None:
        _, answer = await caller.post(_data(1, 2) | {"meta": {"puid": "p"}})
        assert answer["data"] == {"ndarray": [[3]]}
        assert answer["meta"]["tags"]["puid"] == answer["meta"]["puid"] == "p"
        assert answer["meta"]["metrics"] == [{"key": "raw", "type": "COUNTER", "value": 2}]
        assert "raw_total" in (await caller.get("/metrics"))[1]["text"]
        status, answer = await caller.post({"strData": "x"})
        assert (status, answer["status"]["info"]) == (418, "teapot")
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
        _, answer = await caller.post({"inputs": [tensor]}, "/v2/models/unit/infer")
        assert answer["outputs"][0]["data"] == [3]
        message = pb.SeldonMessage()
        ParseDict(_data(4, 5), message)
        reply = await seldon_component.predict(caller.unit, message)
        assert reply.data.ndarray.values[0].list_value.values[0].number_value == 9

    with loaded(write(tmp_path, RAW, name="Raw")) as model:
        run(model, using)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class C:\n    pass", "C has no method predict or predict_raw"),
        ("class C:\n    def predict(self):\n        pass", r"C.predict takes \(\); it must take"),
        ("import nowhere\nclass C:\n    pass", "ModuleNotFoundError: No module named 'nowhere'"),
        (
            "class C:\n    def load(self):\n        1 / 0\n    def predict(self, X, names): ...",
            r"C.load raised ZeroDivisionError: division by zero \(C.py, line 3\)",
        ),
        ("import os\nos._exit(3)\nclass C: ...", "its process ended with exit code 3"),
        (
            "class C:\n    def __init__(self, a=1): ...\n    def predict(self, X, names): ...",
            "unknown parameter 'speed'; C takes a, and the server timeout, load_timeout",
        ),
        (
            "class C:\n    def __init__(self, load_timeout=1, speed=2): ...\n"
            "    def predict(self, X, names): ...",
            "graph's parameter 'load_timeout' is the server's, and C has an argument of that name",
        ),
        (
            "class C:\n    def __init__(self, speed): ...\n    def predict(self, X, names): ...\n"
            "    def init_metadata(self):\n        return {'versions': 7}",
            "C.init_metadata must return name and platform as strings",
        ),
        ("import time\ntime.sleep(60)\nclass C: ...", "it is not loaded after 0.7 s"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, code: str, said: str
) -> None:
    folder = write(tmp_path, code, name="C")
    seconds = 0.7 if "sleep" in code else 30.0
    speed: Any = {"speed": "1"} if "speed" in said + code else {}
    with (
        pytest.raises(StartError, match=f"The component C:C does not load: .*{said}"),
        loaded(folder, load_timeout=seconds, **speed),
    ):
        pass


def test_rows_that_the_artifact_does_not_describe_are_refused_before_the_class(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, BATCHING.replace("is_rowwise = True", ""), name="Batching")

    async def using(caller: Caller) -> None:
        for row, reason in (((1, 2, 3), "WRONG_SHAPE"), (("a", 1), "WRONG_TYPE")):
            status, answer = await caller.post(_data(*row))
            assert (status, answer["status"]["reason"]) == (400, reason)
        assert json.dumps((await caller.post(_data(1, 2)))[1]["data"]) == (
            '{"names": ["sum"], "ndarray": [[3.0]]}'
        )

    with loaded(folder, inputs=(ROW,)) as model:
        run(model, using)


def test_a_server_in_a_pod_answers_and_ends_while_its_class_hangs(tmp_path: Path) -> None:
    folder = write(tmp_path / "models", FAILING, name="Failing")
    told = servers.parameters(model_uri=str(folder), timeout="4")
    environment: Any = {"PREDICTIVE_UNIT_ID": "failing", "PREDICTIVE_UNIT_PARAMETERS": told}
    with (
        servers.running(folder, tmp_path / "log", place="pod", **environment) as server,
        server.client() as client,
        ThreadPoolExecutor(1) as thread,
    ):
        answer = client.post("/predict", json=_data(0, 5))
        assert answer.json()["data"]["ndarray"] == [[0, 5]]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            predict = channel.unary_unary(
                "/seldon.protos.Model/Predict",
                request_serializer=pb.SeldonMessage.SerializeToString,
                response_deserializer=pb.SeldonMessage.FromString,
            )
            tensor = pb.Tensor(shape=[1, 2], values=[0, 7])
            reply = predict(pb.SeldonMessage(data=pb.DefaultData(tensor=tensor)), timeout=10)
            assert list(reply.data.tensor.values) == [0, 7]
        hanging = thread.submit(client.post, "/predict", json=_data(3, 0))
        threading.Event().wait(0.3)
        begin = time.monotonic()
        assert client.get("/live").status_code == 200
        assert time.monotonic() - begin < 1
        assert server.stop() == 0
        assert hanging.result().json()["status"]["reason"] == "TIMEOUT"
