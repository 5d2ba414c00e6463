"""A client that goes away, by uvicorn's real connections."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import routes
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.http_server import SignalFreeServer, uvicorn_config
from mlops_pipeline.serving.memory import LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.scores import Array
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit


@dataclass(frozen=True)
class Limits:
    receive_seconds: float = 5.0
    drain_seconds: float = 1.0
    keep_alive_seconds: float = 5.0


def request(first: float) -> bytes:
    body = b'{"data":{"ndarray":[[%g,0,0,0]]}}' % first
    return b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def test_a_request_whose_client_disconnects_is_not_computed() -> None:
    computed: list[float] = []
    signature = toy_signature()

    def computing(rows: Array, names: Sequence[str]) -> Sequence[object]:
        computed.extend(rows[:, 0].tolist())
        return signature.compute(rows, names)

    slow = replace(signature, compute=computing, batch=BatchLimits(rows=4, seconds=0.3))

    async def work() -> bytes:
        metrics = Metrics(CollectorRegistry())
        unit = toy_unit(replace(toy_model(slow), compute=Batcher(metrics.called).compute))
        app = App(
            routes.routes_of(unit, metrics),
            missing=routes.missing(unit),
            max_body_bytes=1000,
            large=LargeRequests(),
        )
        server = SignalFreeServer(uvicorn_config(app, Limits()))
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        _, gone = await asyncio.open_connection("127.0.0.1", port)
        gone.write(request(1))
        reader, there = await asyncio.open_connection("127.0.0.1", port)
        there.write(request(2))
        await asyncio.sleep(0.1)
        gone.close()
        answer = await reader.readuntil(b"}")
        there.close()
        server.should_exit = True
        await serving
        return answer

    assert asyncio.run(asyncio.wait_for(work(), 20)).startswith(b"HTTP/1.1 200")
    assert computed == [2.0]
