"""The containers that Seldon's operator makes, as processes: one with the model, or two."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest

from mlops_pipeline.clients.prediction import UNRECORDED
from mlops_pipeline.platforms.counting import server_counts
from mlops_pipeline.platforms.platform import ServerCounts
from mlops_pipeline.serving import artifact, tensor_proto
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.paths import LIVE, V2_LIVE
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.servers import ROOT, Server

pytestmark = pytest.mark.embedded

GRAPH = "mnist-model"
IMAGE = [round(i / 784, 3) for i in range(784)]
ROW = [5.964, 4.006, 2.081, 1.031]

TWO_SIGNATURES = """
import sys
import tensorflow as tf
class Both(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="rows")])
    def double(self, rows):
        return {"twice": rows * 2, "thrice": rows * 3}
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="pairs")])
    def halve(self, pairs):
        return {"half": pairs / 2}
both = Both()
tf.saved_model.save(both, sys.argv[1], signatures={"double": both.double, "halve": both.halve})
"""


@contextlib.contextmanager
def container(
    log: Path, *arguments: str, http_port: int, grpc_port: int, **environment: str
) -> Iterator[Server]:
    """Start a container's process, and end it whatever happens."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("PREDICTIVE_", "MLSERVER_"))}
    command = [sys.executable, "-m", "mlops_pipeline.serving", "pod", *arguments]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env={**known, "MLSERVER_HOST": "127.0.0.1", **environment},
            stdout=file,
            stderr=file,
            cwd=ROOT,
        )
        try:
            yield Server(process, http_port, grpc_port, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(20)


def unit(log: Path, parameters: str, **environment: str) -> Any:
    http_port, grpc_port = servers.free_ports()
    return container(
        log,
        http_port=http_port,
        grpc_port=grpc_port,
        PREDICTIVE_UNIT_ID=GRAPH,
        PREDICTIVE_UNIT_IMAGE="unit:1",
        PREDICTOR_ID="default",
        PREDICTIVE_UNIT_HTTP_SERVICE_PORT=str(http_port),
        PREDICTIVE_UNIT_GRPC_SERVICE_PORT=str(grpc_port),
        PREDICTIVE_UNIT_PARAMETERS=parameters,
        **environment,
    )


def tf_serving(log: Path, folder: Path, ports: tuple[int, int]) -> Any:
    http_port, grpc_port = ports
    return container(
        log,
        f"--port={grpc_port}",
        f"--rest_api_port={http_port}",
        f"--model_name={GRAPH}",
        f"--model_base_path={folder}",
        http_port=http_port,
        grpc_port=grpc_port,
    )


def endpoints(ports: tuple[int, int], **parameters: str) -> str:
    return servers.parameters(
        **parameters,
        rest_endpoint=f"http://0.0.0.0:{ports[0]}",
        grpc_endpoint=f"0.0.0.0:{ports[1]}",
        model_name=GRAPH,
    )


@dataclass
class Pod:
    """The unit's container and the one behind it."""

    front: Server
    behind: Server
    ports: tuple[int, int]


@pytest.fixture(scope="module")
def pod(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("pod")
    ports = servers.free_ports()
    told = endpoints(ports, signature_name="predict_images", model_output="scores")
    with (
        unit(folder / "front.log", told) as front,
        tf_serving(folder / "behind.log", digits_folder, ports) as behind,
    ):
        servers.wait_ready(front)
        yield Pod(front, behind, ports)


def test_a_client_of_seldons_sends_feedback_to_one_unit(pod: Pod) -> None:
    """Of Seldon's clients, the one that sends feedback to a unit by itself calls this service."""
    with grpc.insecure_channel(f"127.0.0.1:{pod.front.grpc_port}") as channel:
        call = channel.unary_unary(
            "/seldon.protos.Generic/SendFeedback",
            request_serializer=pb.Feedback.SerializeToString,
            response_deserializer=pb.SeldonMessage.FromString,
        )
        assert call(pb.Feedback(reward=1.0), timeout=20).meta.puid


def predict(port: int, message: pb.SeldonMessage) -> pb.SeldonMessage:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=pb.SeldonMessage.SerializeToString,
            response_deserializer=pb.SeldonMessage.FromString,
        )
        answer: pb.SeldonMessage = call(message, timeout=20)
        return answer


def predict_as_tf_serving(port: int) -> tfs.PredictResponse:
    """Ask without a signature, so that the unit's own is used."""
    request = tfs.PredictRequest(model_spec={"name": GRAPH})
    tensor_proto.write(request.inputs["images"], np.array([IMAGE], np.float32))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )
        answer: tfs.PredictResponse = call(request, timeout=20)
        return answer


def test_a_forwarder_answers_like_a_server_with_the_same_configuration(
    pod: Pod, digits_folder: Path, tmp_path: Path
) -> None:
    told = servers.parameters(
        signature_name="predict_images", model_output="scores", model_uri=str(digits_folder)
    )
    with unit(tmp_path / "log", told) as alone:
        servers.wait_ready(alone)
        with alone.client() as one, pod.front.client() as two:
            document = one.get("/api/v1.0/doc/openapi.json").json()
            paths = [path for path in document["paths"] if path not in ("/metrics", "/prometheus")]
            assert len(paths) > 30
            for path in paths:
                for method in document["paths"][path]:
                    body = _body(path) if method == "post" else None
                    wanted = one.request(method.upper(), path, json=body)
                    seen = two.request(method.upper(), path, json=body)
                    assert wanted.status_code == seen.status_code == 200, (path, wanted.text)
                    if path in (*LIVE, V2_LIVE):  # A forwarder lives by itself.
                        assert seen.content == wanted.content
                    else:
                        assert _constant(seen) == _constant(wanted), path
            for path in ("/nothing", "/v1/nothing", "/v2/nothing", "/predict"):
                assert two.get(path).json() == one.get(path).json()
                assert two.get(path).status_code == one.get(path).status_code
            assert two.get("/metrics").text.startswith("# HELP")
        message = pb.SeldonMessage(meta=pb.Meta(puid="p"))
        message.data.tensor.shape.extend([1, 784])
        message.data.tensor.values.extend(IMAGE)
        assert predict(pod.front.grpc_port, message) == predict(alone.grpc_port, message)
        by_front, by_one = (predict_as_tf_serving(s.grpc_port) for s in (pod.front, alone))
        assert by_front == by_one
        assert by_front.model_spec.signature_name == "predict_images"
        assert len(by_front.outputs["scores"].float_val) == 10


def _body(path: str) -> object:
    if path.startswith("/v2"):
        inputs = {"name": "images", "shape": [1, 784], "datatype": "FP32", "data": IMAGE}
        return {"id": "7", "inputs": [inputs]}
    if path.startswith("/v1"):
        return {"instances": [IMAGE]}
    return {"data": {"ndarray": [IMAGE]}, "meta": {"puid": "p"}}


def _constant(answer: httpx.Response) -> object:
    """Return an answer without what is new each time."""
    headers = {k: v for k, v in answer.headers.items() if k != "date"}
    if "json" not in answer.headers["content-type"]:
        return headers, answer.content
    document = answer.json()
    if isinstance(document, dict) and "puid" in document.get("meta", {}):
        document["meta"]["puid"] = "p"
    return {k: v for k, v in headers.items() if k != "content-length"}, document


def test_answers_name_the_units_own_image_and_the_artifact(pod: Pod, digits_folder: Path) -> None:
    with pod.front.client() as client:
        answer = client.post("/predict", json={"data": {"ndarray": [IMAGE]}})
    assert answer.headers["x-model-digest"] == servers.digest_of(digits_folder)
    assert answer.json()["meta"]["requestPath"] == {GRAPH: "unit:1"}
    assert answer.json()["meta"]["tags"]["model_digest"] == servers.digest_of(digits_folder)


def test_a_forwarder_shows_what_its_model_server_has_counted(pod: Pod) -> None:
    def counts(client: httpx.Client) -> ServerCounts:
        found = server_counts(client.get("/metrics").text, server="pod")
        assert found is not None
        return found

    message, image = pb.SeldonMessage(), {"data": {"ndarray": [IMAGE]}}
    message.data.tensor.shape.extend([1, 784])
    message.data.tensor.values.extend(IMAGE)
    with pod.front.client() as client:
        before = counts(client)
        for _ in range(3):
            client.post("/predict", json=image).raise_for_status()
        client.post("/predict", json=image, headers=UNRECORDED).raise_for_status()
        client.post("/predict", json={})
        predict(pod.front.grpc_port, message)
        after = counts(client)
    assert (after.answered - before.answered, after.failed - before.failed) == (3 + 1, 0)
    assert after.started == before.started
    behind = psutil.Process(pod.behind.process.pid).create_time()
    assert after.started == pytest.approx(behind, abs=1.5)


def test_a_forwarder_is_small(pod: Pod) -> None:
    status = Path(f"/proc/{pod.front.process.pid}/status")
    if not status.exists():
        pytest.skip("memory is read from /proc")
    kilobytes = int(status.read_text().split("VmRSS:")[1].split()[0])
    assert kilobytes < 80_000


def test_a_large_request_goes_through(pod: Pod) -> None:
    with pod.front.client() as client:
        answer = client.post("/predict", json={"data": {"ndarray": [IMAGE] * 2000}})
        assert len(answer.json()["data"]["ndarray"]) == 2000
        refused = client.post("/predict", content=b" " * (17 << 20))
        assert refused.json()["status"]["reason"] == "TOO_LARGE"


def test_a_signature_that_the_model_does_not_have_ends_the_forwarder(
    pod: Pod, tmp_path: Path
) -> None:
    told = endpoints(pod.ports, signature_name="classify")
    with unit(tmp_path / "front.log", told) as front:
        assert front.process.wait(60) == ExitCode.SETTINGS
    said = front.log.read_text().splitlines()[-1]
    assert said.startswith("The model has no 'classify', which the parameter signature_name names")


def test_a_dead_models_server_is_said_and_its_return_found(
    pod: Pod, digits_folder: Path, tmp_path: Path
) -> None:
    pod.behind.process.kill()
    pod.behind.process.wait(20)
    message = pb.SeldonMessage(data=pb.DefaultData(tensor=pb.Tensor(shape=[1, 784], values=IMAGE)))
    with pod.front.client() as client:
        begin = time.monotonic()
        answer = client.post("/predict", json={"data": {"ndarray": [IMAGE]}})
        assert (answer.status_code, answer.json()["status"]["reason"]) == (503, "UNREACHABLE")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/live").status_code == 200
        with pytest.raises(grpc.RpcError) as caught:
            predict(pod.front.grpc_port, message)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - begin < 5
        with tf_serving(tmp_path / "log", digits_folder, pod.ports) as again:
            servers.wait_ready(again)
            assert client.get("/v2/health/ready").status_code == 200
            answer = client.post("/predict", json={"data": {"ndarray": [IMAGE]}})
            assert answer.status_code == 200
            assert len(_patiently(pod.front.grpc_port, message).data.tensor.values) == 10


def _patiently(port: int, message: pb.SeldonMessage) -> pb.SeldonMessage:
    """Ask until gRPC has connected again, which it tries every second."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return predict(port, message)
        except grpc.RpcError:
            assert time.monotonic() < deadline


def test_each_of_several_signatures_can_be_a_units(tmp_path: Path) -> None:
    folder, ports = tmp_path / "model", servers.free_ports()
    servers._run(TWO_SIGNATURES, folder / "5")
    told = endpoints(ports, signature_name="double", model_input="rows", model_output="thrice")
    with (
        tf_serving(tmp_path / "behind.log", folder, ports) as behind,
        unit(tmp_path / "front.log", told) as front,
    ):
        servers.wait_ready(front)
        with front.client() as client, behind.client() as direct:
            answer = client.post("/predict", json={"data": {"ndarray": [[1, 2, 3, 4]]}})
            assert answer.json()["data"]["ndarray"] == [[3, 6, 9, 12]]
            assert "x-model-digest" not in answer.headers
            assert answer.json()["meta"]["tags"] == {"model_name": GRAPH}
            named = {"signature_name": "halve", "instances": [[1, 2]]}
            for one in (client, direct):
                assert one.post(f"/v1/models/{GRAPH}:predict", json=named).json() == {
                    "predictions": [[0.5, 1]]
                }
            (version,) = client.get(f"/v1/models/{GRAPH}").json()["model_version_status"]
            assert version["version"] == "5"
            assert client.get(f"/v2/models/{GRAPH}/versions/5/ready").status_code == 200


def test_a_bare_model_is_served_without_a_digest(iris_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(iris_folder, tmp_path / "bare")
    (folder / artifact.MANIFEST).unlink()
    told = servers.parameters(method="predict_proba", model_uri=str(folder))
    with unit(tmp_path / "log", told) as server:
        servers.wait_ready(server)
        with server.client() as client:
            answer = client.post("/predict", json={"data": {"ndarray": [ROW]}})
            assert sum(answer.json()["data"]["ndarray"][0]) == pytest.approx(1)
            assert "x-model-digest" not in answer.headers
            assert answer.json()["meta"]["tags"] == {"model_name": GRAPH}
            metadata = client.get(f"/v2/models/{GRAPH}").json()
            assert metadata["versions"] == ["1"]
            assert metadata["inputs"][0]["shape"] == [-1, 4]
            inputs = [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]
            inferred = client.post(f"/v2/models/{GRAPH}/infer", json={"inputs": inputs}).json()
            assert inferred["model_version"] == "1"


def test_a_broken_artifact_is_not_served_in_a_pod_either(
    digits_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(digits_folder, tmp_path / "copy")
    with (folder / "1" / "saved_model.pb").open("ab") as file:
        file.write(b"!")
    with tf_serving(tmp_path / "log", folder, servers.free_ports()) as server:
        assert server.process.wait(30) == ExitCode.ARTIFACT
    assert "changed: 1/saved_model.pb" in server.log.read_text()


def test_another_frameworks_model_is_not_served(iris_folder: Path, tmp_path: Path) -> None:
    with tf_serving(tmp_path / "log", iris_folder, servers.free_ports()) as server:
        assert server.process.wait(30) == ExitCode.SETTINGS
    assert "TENSORFLOW_SERVER serves tensorflow models" in server.log.read_text()


def test_ports_are_closed_until_the_model_answers(digits_folder: Path, tmp_path: Path) -> None:
    told = servers.parameters(signature_name="predict_images", model_uri=str(digits_folder))
    metrics, _ = servers.free_ports()
    with unit(tmp_path / "log", told, PREDICTIVE_UNIT_METRICS_SERVICE_PORT=str(metrics)) as server:
        deadline = time.monotonic() + servers.READY_SECONDS
        while True:  # A probe that merely connects.
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", server.http_port), timeout=1).close()
                break
            assert time.monotonic() < deadline, server.log.read_text()
        with server.client() as client:
            assert client.get("/v2/health/ready").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{metrics}/prometheus").text.startswith("# HELP")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == ExitCode.OK


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_a_stop_at_any_time_of_the_start_ends_at_once(
    seconds: float, digits_folder: Path, tmp_path: Path
) -> None:
    told = servers.parameters(signature_name="predict_images", model_uri=str(digits_folder))
    with unit(tmp_path / "log", told) as server:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.5 + seconds)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) in (ExitCode.OK, -signal.SIGTERM)
        assert time.monotonic() - begin < 5


def test_the_operators_environment_for_v2_changes_nothing(
    iris_folder: Path, tmp_path: Path
) -> None:
    with unit(
        tmp_path / "log",
        servers.parameters(method="predict_proba"),
        MLSERVER_MODEL_URI=str(iris_folder),
        MLSERVER_MODEL_NAME=GRAPH,
        MLSERVER_MODEL_VERSION="v1",
        MLSERVER_MODEL_IMPLEMENTATION="mlserver_sklearn.SKLearnModel",
        MLSERVER_METRICS_ENDPOINT="/prometheus",
        TEMPO_RUNTIME_OPTIONS=json.dumps({"k8s_options": {}}),
    ) as server:
        servers.wait_ready(server)
        with server.client() as client:
            inputs = [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]
            asked = {"inputs": inputs, "outputs": [{"name": "predict_proba"}]}
            answer = client.post(f"/v2/models/{GRAPH}/infer", json=asked)
    assert answer.json()["model_version"] == servers.digest_of(iris_folder)
