import asyncio
import threading
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import tensorflow_serving_pb2 as tf
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.grpc_operations import OPERATIONS, V2
from mlops_pipeline.serving.grpc_server import Calls, code_of
from mlops_pipeline.serving.memory import LARGE, WORKERS, LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import ask
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit


class Context:
    """A call with a deadline, in seconds; keeps the status with which it ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.status: tuple[grpc.StatusCode, str] | None = None

    def time_remaining(self) -> float:
        return self._seconds

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code, details
        raise ConnectionAbortedError


def request_of(rows: int) -> bytes:
    request = v2.ModelInferRequest(model_name="classifier")
    request.inputs.add(name="features", datatype="FP64", shape=[rows, 4])
    request.raw_input_contents.append(np.ones((rows, 4)).tobytes())
    written: bytes = request.SerializeToString()
    return written


@pytest.mark.parametrize("rows", [1, LARGE // 16])
def test_a_call_whose_deadline_passes_while_it_waits_is_not_computed(rows: int) -> None:
    computed: list[int] = []
    released = threading.Event()

    async def work() -> None:
        batcher, large = Batcher(lambda *_: None), LargeRequests()
        signature = toy_signature()

        def computing(values: Any, names: Any) -> Any:
            computed.append(len(values))
            return signature.compute(values, names)

        slow = replace(signature, compute=computing)
        calls = Calls(large, batcher, metrics=Metrics(CollectorRegistry()))
        calls.unit = toy_unit(replace(toy_model(slow), compute=batcher.compute))
        batcher._seconds[computing] = 1.0
        context, loop = Context(0.1), asyncio.get_running_loop()
        workers = [*[large._workers] * WORKERS, batcher._worker]
        occupied = [loop.run_in_executor(worker, released.wait) for worker in workers]
        first = asyncio.ensure_future(batcher.compute(ask(slow, np.ones((1, 4)))))
        await asyncio.sleep(0.01)
        asking = asyncio.ensure_future(
            calls._answer(OPERATIONS[V2]["ModelInfer"], request_of(rows), context)
        )
        await asyncio.sleep(0.2)
        released.set()
        with pytest.raises(ConnectionAbortedError):
            await asking
        await asyncio.gather(first, *occupied)
        assert context.status is not None
        assert context.status[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert computed == [1]

    asyncio.run(asyncio.wait_for(work(), 20))


TF_SERVING = "tensorflow.serving.PredictionService"
SPEC = {"name": "classifier", "version": {"value": 3}}


def answered(service: str, method: str, request: Message, *, loaded: bool) -> Message | Context:
    """Return the answer to a call, or the call with the status of its error."""

    async def work() -> Message | Context:
        context = Context(5.0)
        metrics = Metrics(CollectorRegistry())
        calls = Calls(LargeRequests(), Batcher(lambda *_: None), metrics=metrics)
        calls.unit = toy_unit() if loaded else None
        try:
            return await calls._answer(
                OPERATIONS[service][method], request.SerializeToString(), context
            )
        except ConnectionAbortedError:
            return context

    return asyncio.run(asyncio.wait_for(work(), 20))


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"name": "classifier", "signature_name": "x"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"name": "other"}, grpc.StatusCode.NOT_FOUND),
        (None, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_tf_servings_status_codes(spec: Any, code: grpc.StatusCode) -> None:
    call = answered(TF_SERVING, "Predict", tf.PredictRequest(model_spec=spec), loaded=True)
    assert isinstance(call, Context)
    assert call.status is not None
    assert call.status[0] is code


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("RepositoryIndex", v2.RepositoryIndexRequest(repository_name="other")),
        ("RepositoryModelLoad", Empty()),
    ],
)
def test_there_are_no_repositories(method: str, request_: Message) -> None:
    call = answered(V2, method, request_, loaded=True)
    assert isinstance(call, Context)
    assert call.status is not None
    assert call.status[0] is grpc.StatusCode.UNIMPLEMENTED


def test_the_status_says_that_the_model_is_being_loaded() -> None:
    asked = tf.GetModelStatusRequest(model_spec=SPEC)
    service = "tensorflow.serving.ModelService"
    answer = answered(service, "GetModelStatus", asked, loaded=False)
    assert isinstance(answer, tf.GetModelStatusResponse)
    (status,) = answer.model_version_status
    assert (status.version, status.state) == (3, tf.ModelVersionStatus.LOADING)
    refused = answered(TF_SERVING, "Predict", tf.PredictRequest(model_spec=SPEC), loaded=False)
    assert isinstance(refused, Context)
    assert refused.status is not None
    assert refused.status[0] is grpc.StatusCode.UNAVAILABLE


def test_every_status_of_a_class_has_a_code() -> None:
    found = {status: code_of(status).name for status in (404, 418, 500, 507)}
    assert found == {
        404: "NOT_FOUND",
        418: "INVALID_ARGUMENT",
        500: "INTERNAL",
        507: "INTERNAL",
    }
