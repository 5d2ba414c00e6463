"""Custom components behave as in Seldon's wrapper, in one process that these tests share."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.artifact import MANIFEST, Manifest, hash_files
from mlops_pipeline.serving.custom import health
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.offline import predict_file
from mlops_pipeline.serving.protocols import seldon_component
from mlops_pipeline_tests.serving.components import Caller, loaded, run, write

pytestmark = pytest.mark.embedded

ECHO = """
    import numpy as np
    import os
    from seldon_core.user_model import SeldonComponent, SeldonNotImplementedError

    class Echo:
        feature_names = ["a", "b"]

        def predict(self, X, names, meta=None):
            if isinstance(X, list):
                return {"list": X}
            if isinstance(X, dict):
                with open("written", "w") as file:
                    file.write("beside the artifact")
                what = X["what"]
                if what == "where":
                    return {"cwd": os.getcwd(), "env": os.environ["PYTHONDONTWRITEBYTECODE"]}
                if what == "big-endian":
                    return np.array([[1.5]], ">f8")
                if what == "nan":
                    return {"deep": [{"x": float("nan")}]}
                if what == "long":
                    return {"number": 2**53 + 1}
                if what == "data":
                    return {"data": {"ndarray": [[1]]}}
                if what == "large":
                    return bytes(2 << 20)
            if X.dtype == bool:
                return {"dtype": str(X.dtype), "rows": X.tolist()}
            return [[f"{name}={value}" for name, value in zip(names, row)] for row in X]

        def predict_raw(self, msg):
            if "strData" in msg:
                code = int(msg["strData"])
                return {"strData": "x", "status": {"code": code, "info": "said", "reason": "R"}}
            raise SeldonNotImplementedError("predict is enough")

        def health_status(self):
            raise SeldonNotImplementedError("not needed")

        def tags(self):
            return {"own": "class", "model_name": "mine"}
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = write(tmp_path_factory.mktemp("echo"), ECHO, name="Echo")
    # So much memory for the class leaves the server little for an answer.
    with loaded(folder, max_memory="9999Gi") as model:
        yield model
    assert {path.name for path in folder.iterdir()} == {"Echo.py"}


def test_rows_that_are_not_all_numbers_are_ordered_by_their_names(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        for names, row in ((["a", "b"], ["x", 1]), (["b", "a"], [1, "x"])):
            data = {"data": {"names": names, "ndarray": [row]}}
            assert (await caller.post(data))[1]["data"]["ndarray"] == [["a=x", "b=1"]]
        for wrong in (["a"], ["a", "z"], ["a", 1]):
            status, answer = await caller.post({"data": {"names": wrong, "ndarray": [["x", 1]]}})
            assert (status, answer["status"]["reason"]) == (400, "WRONG_NAMES")
        ragged = {"data": {"names": ["a", "b"], "ndarray": [["x", 1], ["x"]]}}
        assert (await caller.post(ragged))[1]["status"]["reason"] == "RAGGED"
        _, answer = await caller.post({"data": {"ndarray": [[True, False]]}})
        assert answer["jsonData"] == {"dtype": "bool", "rows": [[True, False]]}

    run(echo, using)


def test_json_stays_json_and_an_answer_is_exact_or_refused(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        _, answer = await caller.post({"jsonData": [1, {"a": None}]})
        assert answer["jsonData"] == {"list": [1, {"a": None}]}
        _, answer = await caller.post({"jsonData": {"what": "big-endian"}})
        assert answer["data"]["tensor"] == {"shape": [1, 1], "values": [1.5]}
        for what, reason in (("nan", "NOT_FINITE"), ("large", "CRASHED")):
            _, answer = await caller.post({"jsonData": {"what": what}})
            assert answer["status"]["reason"] == reason
        assert "1048576 are allowed" in answer["status"]["info"]
        _, answer = await caller.post({"jsonData": {"what": "long"}})
        assert answer["jsonData"] == {"number": 2**53 + 1}
        message = pb.SeldonMessage()
        message.jsonData.struct_value.update({"what": "long"})
        with pytest.raises(RequestError, match="beyond 2\\^53"):
            await seldon_component.predict(caller.unit, message)

    run(echo, using)


def test_a_missing_value_by_grpc_is_one_in_a_tensor_and_refused_in_a_list(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        tensor = pb.Tensor(shape=[1, 2], values=[1, float("nan")])
        message = pb.SeldonMessage(data=pb.DefaultData(tensor=tensor))
        reply = await seldon_component.predict(caller.unit, message)
        (row,) = reply.data.ndarray.values
        assert [value.string_value for value in row.list_value.values] == ["a=1.0", "b=nan"]
        message.data.ndarray.append(float("nan"))
        with pytest.raises(RequestError, match="value that is not finite"):
            await seldon_component.predict(caller.unit, message)

    run(echo, using)


def test_an_offered_class_is_described_by_the_rows_that_it_answered(tmp_path: Path) -> None:
    source = """
        class Adder:
            def predict(self, X, names):
                return X.sum(axis=1, keepdims=True)
    """
    folder = write(tmp_path / "model", source, name="Adder")
    offered = Manifest("adder", "python", hash_files(folder), (), ())
    (folder / MANIFEST).write_text(offered.to_json())
    rows, output = tmp_path / "rows.npy", tmp_path / "scores.npy"
    np.save(rows, np.ones((3, 4)))
    predict_file(folder, rows=rows, output=output, implementation="PYTHON_SERVER", parameters={})
    assert np.load(output).tolist() == [[4.0]] * 3
    described = json.loads(output.with_suffix(".json").read_bytes())
    assert [tensor["shape"] for tensor in described["inputs"]] == [[-1, 4]]


def test_what_the_class_writes_is_not_in_the_artifact(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        _, answer = await caller.post({"jsonData": {"what": "where"}})
        scratch = Path(answer["jsonData"]["cwd"])
        assert answer["jsonData"]["env"] == "1"
        assert (scratch / "written").read_text() == "beside the artifact"
        assert (scratch / "Echo.py").is_symlink()

    run(echo, using)


def test_the_tags_of_the_class_replace_those_of_the_request_but_not_ours(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        given = {"own": "request", "kept": 1, "model_name": "no"}
        _, answer = await caller.post({"jsonData": [], "meta": {"tags": given}})
        tags = answer["meta"]["tags"]
        assert (tags["own"], tags["kept"], tags["model_name"]) == ("class", 1, "unit")

    run(echo, using)


def test_raw_methods_may_be_not_implemented_and_their_status_counts(echo: Model) -> None:
    async def using(caller: Caller) -> None:
        assert (await caller.get("/health/status"))[0] == 200
        for code, status in ((204, 200), (304, 200), (200, 200), (418, 418), (599, 599)):
            found, answer = await caller.post({"strData": str(code)})
            assert (found, answer["strData"]) == (status, "x")
        with pytest.raises(RequestError, match="said") as caught:
            await seldon_component.predict(caller.unit, pb.SeldonMessage(strData="418"))
        assert (caught.value.reason, caught.value.status) == ("R", 418)
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
        _, answer = await caller.post({"inputs": [tensor]}, "/v2/models/unit/infer")
        assert answer["outputs"][0]["data"] == ["a=1.0", "b=2.0"]
        _, answer = await caller.post({"jsonData": {"what": "data"}})
        assert answer["jsonData"] == {"data": {"ndarray": [[1]]}}

    run(echo, using)


SHARING = """
    import time

    class Sharing:
        is_rowwise = True

        def predict(self, X, names, meta):
            self.names = ["small" if len(meta["puid"]) else "none"]
            if (X == 14).any():
                time.sleep(60)
            return X.sum(axis=1, keepdims=True)

        def class_names(self):
            return self.names

        def health_status(self):
            time.sleep(0.3)
            return "well"
"""


def test_a_shared_call_answers_as_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.1)
    answers = []

    async def using(caller: Caller) -> None:
        document = {"data": {"ndarray": [[1.0, 2.0]]}}
        found = await asyncio.gather(*(caller.post(document) for _ in range(3)))
        meta = {"meta": {"puid": "p", "tags": {"k": 1}}}
        named = {"data": {"names": ["x", "y"], **document["data"]}}
        found += [await caller.post({**document, **meta}), await caller.post(named)]
        assert found[3][1]["meta"]["puid"] == "p"
        answers.append([answer["data"] for _, answer in found])
        if model.default.batch.rows == 1:
            return
        # Several rows that hang: the others are computed nevertheless.
        posts = [caller.post({"data": {"ndarray": [[n, 0]]}}) for n in (14, 14, 14, 1, 2)]
        results = await asyncio.gather(*posts)
        assert [status for status, _ in results] == [504, 504, 504, 200, 200]
        # A slow health_status delays a check shortly, and others not at all.
        begin = time.monotonic()
        assert (await caller.get("/health/status"))[0] == 200
        assert time.monotonic() - begin < 0.25
        await asyncio.sleep(0.4)
        begin = time.monotonic()
        _, said = await caller.get("/health/status")
        assert (said["health"], time.monotonic() - begin < 0.1) == ("well", True)

    for size in (1, 64):
        folder = write(tmp_path / str(size), SHARING, name="Sharing", example=[[1.0, 2.0]])
        with loaded(folder, max_batch_size=size, timeout=0.5) as model:
            run(model, using)
    assert answers[0] == answers[1]
    assert answers[0][0] == {"names": ["small"], "ndarray": [[3.0]]}


STARTING = """
    import subprocess
    import sys

    class Starting:
        def load(self):
            self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])

        def predict(self, X, names):
            return [[self.child.pid]]
"""


def test_what_the_class_started_ends_with_the_server(tmp_path: Path) -> None:
    with loaded(write(tmp_path, STARTING, name="Starting")) as model:
        component = model.default.component
        assert component is not None
        child = component._child
        assert child is not None
        found: list[Any] = []

        async def using(caller: Caller) -> None:
            found.append((await caller.post({"data": {"ndarray": [[1]]}}))[1])

        run(model, using)
        ((pid,),) = found[0]["data"]["ndarray"]
        os.kill(pid, 0)
        assert child.process.stdin is not None
        child.process.stdin.close()  # As if the server were killed.
        child.process.wait(10)
        assert child._scratch is not None
        assert not child._scratch.exists()
        assert (tmp_path / "Starting.py").exists()
        end = time.monotonic() + 10
        while _runs(pid):
            assert time.monotonic() < end
            threading.Event().wait(0.02)


def _runs(pid: int) -> bool:
    """Say whether a process runs; a zombie, which nobody has reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
