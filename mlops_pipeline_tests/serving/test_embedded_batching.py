"""Many clients of one real TensorFlow model at the same time, by other people's clients."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.servers import Server

pytestmark = pytest.mark.embedded

CLIENTS = 12
REQUESTS = 25
IMAGES = np.random.default_rng(7).random((CLIENTS, 784)).astype(np.float32)


@contextlib.contextmanager
def _serving(folder: Path, log: Path, **parameters: str) -> Iterator[Server]:
    given = servers.parameters(signature_name="predict_images", **parameters)
    with servers.running(
        folder, log, PREDICTIVE_UNIT_ID="mnist-model", PREDICTIVE_UNIT_PARAMETERS=given
    ) as server:
        yield server


def _by_triton(library: Any, port: int, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Ask with binary tensors, as both of Triton's clients do by default."""
    client = library.InferenceServerClient(f"127.0.0.1:{port}")
    tensor = library.InferInput("images", [1, 784], "FP32")
    tensor.set_data_from_numpy(image[None])
    answers = [client.infer("mnist-model", [tensor]).as_numpy("scores") for _ in range(REQUESTS)]
    client.close()
    return answers


def _by_seldon(port: int, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    tensor = pb.Tensor(shape=[1, 784], values=image)
    message = pb.SeldonMessage(data=pb.DefaultData(tensor=tensor))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/seldon.protos.Seldon/Predict",
            request_serializer=pb.SeldonMessage.SerializeToString,
            response_deserializer=pb.SeldonMessage.FromString,
        )
        return [
            np.array([call(message, timeout=20).data.tensor.values], np.float32)
            for _ in range(REQUESTS)
        ]


def _counted(server: Server) -> tuple[float, float]:
    """Return how many requests were computed by the batcher, and in how many calls."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        float(values["mlops_batch_wait_seconds_count"]),
        float(values["mlops_batch_rows_count"]),
    )


def test_clients_of_every_protocol_share_calls_and_get_their_own_scores(
    digits_folder: Path, tmp_path: Path
) -> None:
    with _serving(digits_folder, tmp_path / "log") as server:
        with server.client() as client:
            alone = [
                client.post("/predict", json={"data": {"ndarray": [image.tolist()]}}).json()
                for image in IMAGES
            ]
        before = _counted(server)
        begin = threading.Barrier(CLIENTS)

        def ask(number: int) -> list[NDArray[np.float32]]:
            begin.wait(20)
            if number % 3 == 0:
                return _by_triton(tritonclient.http, server.http_port, IMAGES[number])
            if number % 3 == 1:
                return _by_triton(tritonclient.grpc, server.grpc_port, IMAGES[number])
            return _by_seldon(server.grpc_port, IMAGES[number])

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(ask, range(CLIENTS)))
        requests, calls = (now - then for now, then in zip(_counted(server), before, strict=True))
    for one, wanted in zip(answers, alone, strict=True):
        for scores in one:
            np.testing.assert_allclose(scores, wanted["data"]["ndarray"], atol=1e-5)
    assert requests == CLIENTS * REQUESTS
    assert calls < requests, "some requests shared a call"


def test_a_parameter_turns_batching_off(digits_folder: Path, tmp_path: Path) -> None:
    with _serving(digits_folder, tmp_path / "log", max_batch_size="1") as server:
        assert len(_by_triton(tritonclient.grpc, server.grpc_port, IMAGES[0])) == REQUESTS
        assert _counted(server) == (REQUESTS, REQUESTS)


def test_a_call_waits_for_others_only_as_long_as_its_deadline_allows(
    digits_folder: Path, tmp_path: Path
) -> None:
    with _serving(digits_folder, tmp_path / "log", max_batch_time="5") as server:
        tensor = tritonclient.grpc.InferInput("images", [1, 784], "FP32")
        tensor.set_data_from_numpy(IMAGES[:1])
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        answer = client.infer("mnist-model", [tensor], client_timeout=2)
        assert answer.as_numpy("scores").shape == (1, 10)
        client.close()
        assert _counted(server) == (1.0, 1.0)
