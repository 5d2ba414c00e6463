"""The project's own model server on the embedded platform, over REST and gRPC."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest

from mlops_pipeline.clients.errors import CommandError, FatalStateError
from mlops_pipeline.serving.artifact import (
    MANIFEST,
    Manifest,
    Tensor,
    hash_files,
    parse_manifest,
    verify,
)
from mlops_pipeline_tests.embedded.rig import Rig, listening, predictor, rig_in

pytestmark = pytest.mark.embedded

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
    import grpc
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
