"""Custom components that answer in unusual ways: each has a clear answer, by REST and by gRPC."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols import seldon_component, v2_grpc
from mlops_pipeline_tests.serving.components import Caller, loaded, run, write

pytestmark = pytest.mark.embedded

ODD = """
    import numpy as np
    import pandas as pd
    from seldon_core.flask_utils import SeldonMicroserviceException

    class Odd:
        def predict(self, X, names):
            self.what = int(X[0, 0])
            return [
                lambda: pd.DataFrame({"p": [0.5], "q": [2]}),
                lambda: pd.DataFrame({"p": [0.5], "q": ["red"]}),
                lambda: ["red"],
                lambda: {"deep": {"a": 1}},
                lambda: np.float64(1.5),
                lambda: (row for row in X),
                lambda: [[float("nan")]],
                lambda: pd.DataFrame({"p": [float("nan")]}),
                self._refuse,
                lambda: X,
                lambda: X,
                lambda: 1.5,
            ][self.what]()

        def _refuse(self):
            raise SeldonMicroserviceException("wrong weekday", status_code=422, reason="WEEKDAY")

        def tags(self):
            return {"a": 1 / (self.what - 9)}

        def metrics(self):
            1 / (self.what - 10)
            return []

        def health_status(self):
            raise ValueError("not well")
"""
UNREADABLE = "one item per row, text, bytes or a dict"
Case = tuple[int, Any, str]
"""(number of the answer, `data.ndarray` or `jsonData` if it is served, part of its error)"""
CASES: list[Case] = [
    (0, [[0.5, 2.0]], ""),
    (1, [[0.5, "red"]], ""),
    (2, ["red"], ""),
    (3, {"deep": {"a": 1}}, ""),
    (
        4,
        None,
        f"Odd.predict returned a single value of type float64; .*{UNREADABLE}",
    ),
    (5, None, f"Odd.predict returned a generator; it must return .*{UNREADABLE}"),
    (6, None, "the answer of Odd.predict has NaN or Infinity"),
    (7, None, "the answer of Odd.predict has NaN or Infinity"),
    (8, None, "wrong weekday"),
    (9, None, r"Odd.tags raised ZeroDivisionError: .* \(Odd.py, line 28\)"),
    (10, None, r"Odd.metrics raised ZeroDivisionError: .* \(Odd.py, line 31\)"),
    (11, None, f"Odd.predict returned a float; it must return .*{UNREADABLE}"),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with loaded(write(tmp_path_factory.mktemp("odd"), ODD, name="Odd")) as model:
        yield model


@pytest.mark.parametrize(("number", "value", "said"), CASES)
def test_each_answer_is_served_or_refused_with_what_is_wrong(
    odd: Model, number: int, value: Any, said: str
) -> None:
    document = {"data": {"ndarray": [[number, 0]]}}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2]}
    message = ParseDict(document, pb.SeldonMessage())
    by_v2: Any = v2.ModelInferRequest(model_name="unit")
    by_v2.inputs.add(**tensor).contents.fp64_contents.extend([number, 0])

    async def using(caller: Caller) -> None:
        status, answer = await caller.post(document)
        inputs = {"inputs": [{**tensor, "data": [number, 0]}]}
        v2_status, v2_answer = await caller.post(inputs, "/v2/models/unit/infer")
        if not said:
            assert status == 200
            assert answer.get("jsonData", answer.get("data", {}).get("ndarray")) == value
            if number < 2:
                assert answer["data"]["names"] == ["p", "q"]
            reply = MessageToDict(await seldon_component.predict(caller.unit, message))
            assert reply.get("jsonData", reply.get("data", {}).get("ndarray")) == value
            assert v2_status == (500 if number == 3 else 200)
            return
        expected = {8: 422}.get(number, 500)
        assert (status, v2_status) == (expected, expected)
        for text in (answer["status"]["info"], v2_answer["error"]):
            assert re.search(said, text), text
        for call in (
            seldon_component.predict(caller.unit, message),
            v2_grpc.infer(odd, by_v2),
        ):
            with pytest.raises(RequestError, match=said) as caught:
                await call
            assert caught.value.status == expected

    run(odd, using)


def test_32_clients_and_a_class_that_is_not_well(odd: Model) -> None:
    async def using(caller: Caller) -> None:
        documents = [{"data": {"ndarray": [[number % 12, 0]]}} for number in range(32)]
        found = await asyncio.gather(*map(caller.post, documents))
        usual = {8: 422, **dict.fromkeys((4, 5, 6, 7, 9, 10, 11), 500)}
        assert [status for status, _ in found] == [usual.get(n % 12, 200) for n in range(32)]
        status, answer = await caller.get("/v2/health/ready")
        assert status == 503
        assert "Odd.health_status raised ValueError: not well" in answer["error"]
        assert (await caller.post({}, "/v2/repository/index"))[1][0]["state"] == "UNAVAILABLE"  # type: ignore[index]
        request = v2.ModelReadyRequest(name="unit")
        assert not (await v2_grpc.ready(odd, request)).ready

    run(odd, using)
