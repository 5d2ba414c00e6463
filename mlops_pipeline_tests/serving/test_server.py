import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import server as serving
from mlops_pipeline.serving.batch_limits import BatchLimits
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.settings import read_settings
from mlops_pipeline_tests.serving.test_disconnect import request
from mlops_pipeline_tests.serving.toy_model import toy_manifest, toy_model, toy_signature


def test_a_server_that_stops_answers_what_waits_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "Metrics", lambda **_: Metrics(CollectorRegistry()))
    own = replace(read_settings({}, model=str(tmp_path)), grpc_port=0)
    waiting = replace(toy_signature(), batch=BatchLimits(rows=4, seconds=600.0))

    async def work() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        server = serving.ModelServer(own, toy_manifest(), listeners=[listener], started=0.0)
        await server._open()
        await server._serve(toy_model(waiting))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request(1))
        while not server._batcher._groups:
            await asyncio.sleep(0.01)
        await server._close()
        writer.close()
        return await reader.read()

    assert asyncio.run(asyncio.wait_for(work(), 20)).startswith(b"HTTP/1.1 200")
