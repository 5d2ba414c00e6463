"""The project's own model server on the embedded platform, over REST and gRPC."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy
import psutil
import pytest

from mlops_pipeline.clients import prediction
from mlops_pipeline.clients.errors import CommandError, FatalStateError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.platform import ServerCounts
from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    Manifest,
    Tensor,
    hash_files,
    parse_manifest,
    verify,
)
from mlops_pipeline_tests.embedded.rig import Rig, listening, predictor, rig_in
from mlops_pipeline_tests.serving import components

pytestmark = pytest.mark.embedded

COUNTED = """
    import time

    class Counted:
        def predict(self, X, names, meta):
            if X[0][0] < 0:
                raise ValueError("below zero")
            if X[0][0] > 100:
                time.sleep(0.3)
            return X
    """
FLOWER = [5.964, 4.006, 2.081, 1.031]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small classifier, complete with its manifest."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("artifact")
    rows, classes = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(rows, classes), folder / "model.joblib")
    manifest = Manifest(
        name="iris",
        framework="sklearn",
        files=hash_files(folder),
        inputs=(Tensor("flowers", (-1, 4), "FP64"),),
        outputs=(Tensor("scores", (-1, 3), "FP64"),),
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return folder


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("serving") / "s", server_command=()) as rig:
        rig.up()
        rig.apply(predictor(publish(rig, artifact, "good")))
        yield rig


def publish(rig: Rig, artifact: Path, name: str, **changed: bytes) -> str:
    store = rig.platform.object_store()
    for path in artifact.iterdir():
        store.put("models", f"iris/{name}/{path.name}", path.read_bytes())
    for key, content in changed.items():
        store.put("models", f"iris/{name}/{key}.joblib", content)
    return f"s3://models/iris/{name}"


def test_the_digest_that_answers_is_the_manifests(rig: Rig, artifact: Path) -> None:
    digest = verify(artifact).digest
    answer = httpx.post(rig.url(), json={"data": {"ndarray": [FLOWER]}})
    assert answer.headers["x-model-digest"] == digest
    assert answer.json()["data"]["names"] == ["t:0", "t:1", "t:2"]
    (status,) = rig.platform.deployments.status("toy", namespace="seldon")
    assert (status.state, status.digest) == ("ready", digest)


def test_grpc_is_routed_by_its_metadata(rig: Rig) -> None:
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs

    request = pb.ModelMetadataRequest(name="classifier")
    address = rig.platform.gateway_url().removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        metadata = (("seldon", "toy"), ("namespace", "seldon"))
        assert stub.ModelMetadata(request, metadata=metadata, timeout=10).name == "classifier"
        status = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=tfs.GetModelStatusRequest.SerializeToString,
            response_deserializer=tfs.GetModelStatusResponse.FromString,
        )
        asked = tfs.GetModelStatusRequest(model_spec={"name": "classifier"})
        (version,) = status(asked, metadata=metadata, timeout=10).model_version_status
        assert version.state == tfs.ModelVersionStatus.AVAILABLE
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelMetadata(request, metadata=(("seldon", "toy"),), timeout=10)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_servers_count_the_answers_and_failures_of_clients(rig: Rig, tmp_path: Path) -> None:
    folder = components.write(tmp_path, COUNTED, name="Counted")
    manifest = Manifest("counted", "python", hash_files(folder), (components.ROW,), ())
    (folder / MANIFEST).write_text(manifest.to_json())
    uri, graph = publish(rig, folder, "counted"), {"implementation": "PYTHON_SERVER"}
    rig.apply(predictor(uri, replicas=2, graph=graph), name="counted")
    try:
        _count_and_restart(rig)
    finally:
        rig.deployments.delete("counted", namespace="seldon")


def counts_of(rig: Rig) -> list[ServerCounts]:
    (counts,) = rig.deployments.counts("counted", namespace="seldon")
    assert counts.predictor == "default"
    return list(counts.servers)


def _count_and_restart(rig: Rig) -> None:
    asked = [[1, 0]] * 12 + [[-1, 0]] * 3 + [[200, 0]] * 2
    statuses = Counter(_post(rig, row) for row in asked)
    assert statuses == {200: 14, 500: 3}
    with httpx.Client(headers=prediction.UNRECORDED) as client:
        for row in asked:
            client.post(rig.url(name="counted"), json={"data": {"ndarray": [row]}}, timeout=20)
    httpx.post(rig.url(name="counted"), json={"data": {"ndarray": [["x", 0]]}}, timeout=20)
    codes = Counter(_call(rig, row) for row in [[1, 0]] * 7 + [[-1, 0]] * 4)
    assert codes == {grpc.StatusCode.OK: 7, grpc.StatusCode.INTERNAL: 4}
    for server in rig.deployments.servers("counted", namespace="seldon")["default"]:
        assert server.predict([[5.0, 6.0]]).scores == [[5.0, 6.0]]

    before = counts_of(rig)
    assert [sum(c.answered for c in before), sum(c.failed for c in before)] == [14 + 7, 3 + 4]
    assert sum(c.slower["0.25"] for c in before) >= 2
    assert sum(c.slower["1.0"] for c in before) == 0
    assert sum(c.slower["0.0005"] for c in before) <= 14 + 7
    assert [c.server for c in before] == sorted(rig.servers(name="counted"))
    started = [
        psutil.Process(pid).create_time() for _, pid in sorted(rig.servers(name="counted").items())
    ]
    assert [c.started for c in before] == pytest.approx(started, abs=1.5)

    rig.kill(before[0].server)
    wait_until(
        "the server", lambda: f"{counts_of(rig)}" if len(counts_of(rig)) < 2 else None, timeout=30
    )
    again, other = counts_of(rig)
    assert again.started > before[0].started
    assert (again.answered, again.failed) == (0, 0)
    assert other == before[1]


def _post(rig: Rig, row: list[int]) -> int:
    body = {"data": {"ndarray": [row]}}
    return httpx.post(rig.url(name="counted"), json=body, timeout=20).status_code


def _call(rig: Rig, row: list[int]) -> grpc.StatusCode:
    request = v2.ModelInferRequest(model_name="classifier")
    tensor = request.inputs.add(name="predict", datatype="FP64", shape=[1, 2])
    tensor.contents.fp64_contents.extend(row)
    with grpc.insecure_channel(rig.platform.gateway_url().removeprefix("http://")) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=v2.ModelInferRequest.SerializeToString,
            response_deserializer=v2.ModelInferResponse.FromString,
        )
        try:
            infer(request, metadata=(("seldon", "counted"), ("namespace", "seldon")), timeout=20)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK


def test_a_server_that_is_killed_loses_no_request_of_a_split(
    rig: Rig, artifact: Path, tmp_path: Path
) -> None:
    import grpc
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    other = tmp_path / "other"
    shutil.copytree(artifact, other)
    rows, classes = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(C=0.5, max_iter=1000).fit(rows, classes), other / "model.joblib")
    manifest = parse_manifest((other / MANIFEST).read_bytes())
    manifest = replace(manifest, files=hash_files(other))
    (other / MANIFEST).write_text(manifest.to_json())
    digests = {verify(folder).digest for folder in (artifact, other)}
    assert len(digests) == 2
    rig.apply(
        predictor(publish(rig, artifact, "good"), traffic=50),
        predictor(publish(rig, other, "other"), "candidate", traffic=50),
    )
    (candidate,) = [name for name in rig.servers() if ".candidate." in name]
    address = rig.platform.gateway_url().removeprefix("http://")
    metadata = (("seldon", "toy"), ("namespace", "seldon"))
    found: Counter[str] = Counter()
    with grpc.insecure_channel(address) as channel, httpx.Client(timeout=20) as client:
        stub: Any = GRPCInferenceServiceStub(channel)
        for number in range(100):
            if number == 50:
                rig.kill(candidate)
            answer = client.post(rig.url(), json={"data": {"ndarray": [FLOWER]}})
            assert answer.status_code == 200
            found[answer.headers["x-model-digest"]] += 1
            asked = pb.ModelReadyRequest(name="classifier")
            assert stub.ModelReady(asked, metadata=metadata, timeout=20).ready
    assert set(found) == digests
    rig.apply(predictor(publish(rig, artifact, "good")))


def test_model_servers_listen_only_on_loopback(rig: Rig) -> None:
    assert listening(rig.pids()) <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_damaged_artifact_is_reported_and_the_good_one_continues_to_serve(
    rig: Rig, artifact: Path
) -> None:
    uri = publish(rig, artifact, "bad", model=b"damaged")
    with pytest.raises(FatalStateError, match=r"(?s)exit status 3.*changed: model\.joblib"):
        rig.apply(predictor(uri))
    answer = httpx.post(rig.url(), json={"data": {"ndarray": [FLOWER]}})
    assert answer.status_code == 200
    publish(rig, artifact, "bad")
    assert rig.apply(predictor(uri)).action == "updated"


def test_the_serving_environment_predicts_what_is_served(
    rig: Rig, artifact: Path, tmp_path: Path
) -> None:
    numpy.save(tmp_path / "rows.npy", numpy.array([FLOWER, FLOWER]))
    environment = rig.platform.serving_environment
    scores = environment.predict(
        artifact, tmp_path / "rows.npy", implementation="SKLEARN_SERVER", parameters=()
    )
    served = httpx.post(rig.url(), json={"data": {"ndarray": [FLOWER, FLOWER]}}).json()
    assert numpy.allclose(scores, served["data"]["ndarray"], atol=1e-12)
    assert environment.fingerprint() == rig.platform.serving_environment.fingerprint()


def test_the_serving_environment_says_why_an_artifact_does_not_load(
    rig: Rig, tmp_path: Path
) -> None:
    numpy.save(tmp_path / "rows.npy", numpy.array([FLOWER]))
    with pytest.raises(CommandError, match=r"manifest\.json"):
        rig.platform.serving_environment.predict(
            tmp_path, tmp_path / "rows.npy", implementation="SKLEARN_SERVER", parameters=()
        )
