"""Every protocol against the real server with a real scikit-learn and a real TensorFlow model."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.servers import Server

pytestmark = pytest.mark.embedded

ROW = [5.964, 4.006, 2.081, 1.031]
IMAGE = np.linspace(0, 1, 784).tolist()


@pytest.fixture(scope="module")
def iris(iris_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "iris.log"
    with servers.running(
        iris_folder, log, PREDICTIVE_UNIT_ID="classifier", PREDICTIVE_UNIT_IMAGE="iris:1"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def digits(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "digits.log"
    names = servers.parameters(
        signature_name="predict_images", model_input="images", model_output="scores"
    )
    with servers.running(
        digits_folder, log, PREDICTIVE_UNIT_ID="mnist-model", PREDICTIVE_UNIT_PARAMETERS=names
    ) as server:
        yield server


@pytest.fixture
def client(iris: Server) -> Iterator[httpx.Client]:
    with iris.client() as client:
        yield client


def seldon(channel: grpc.Channel, service: str = "Seldon", method: str = "Predict") -> Any:
    return channel.unary_unary(
        f"/seldon.protos.{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb.SeldonMessage.FromString,
    )


def tf_serving(channel: grpc.Channel, method: str, *, service: str = "PredictionService") -> Any:
    """Return a method of TF Serving's stubs, which need the package `tensorflow` themselves."""
    return channel.unary_unary(
        f"/tensorflow.serving.{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(tfs, f"{method}Response").FromString,
    )


def test_seldon_rest_answers_as_the_reference_does(iris_folder: Path, client: httpx.Client) -> None:
    text = '{ "data": { "ndarray": [[5.964, 4.006, 2.081, 1.031]] } }'
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/v1.0/predictions", content=text, headers=headers)
    assert answer.status_code == 200
    document = answer.json()
    assert document["data"]["names"] == ["t:0", "t:1", "t:2"]
    (scores,) = document["data"]["ndarray"]
    assert sum(scores) == pytest.approx(1)
    digest = servers.digest_of(iris_folder)
    assert answer.headers["x-model-digest"] == document["meta"]["tags"]["model_digest"] == digest
    assert document["meta"]["requestPath"] == {"classifier": "iris:1"}


def test_all_protocols_give_the_same_scores(client: httpx.Client, iris: Server) -> None:
    def post(path: str, document: object) -> Any:
        answer = client.post(path, json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()

    wanted = post("/predict", {"data": {"ndarray": [ROW]}})["data"]["ndarray"]
    tensor = {"data": {"tensor": {"shape": [1, 4], "values": ROW}}}
    assert [post("/api/v0.1/predictions", tensor)["data"]["tensor"]["values"]] == wanted
    predicted = post("/v1/models/classifier:predict", {"instances": [ROW]})
    assert predicted["predictions"] == wanted
    inputs = [{"name": "predict", "shape": [1, 4], "datatype": "FP64", "data": [ROW]}]
    asked = {"inputs": inputs, "outputs": [{"name": "predict_proba"}]}
    inferred = post("/v2/models/classifier/infer", asked)
    assert [inferred["outputs"][0]["data"]] == wanted
    with grpc.insecure_channel(f"127.0.0.1:{iris.grpc_port}") as channel:
        message = pb.SeldonMessage(data=pb.DefaultData(tensor=pb.Tensor(shape=[1, 4], values=ROW)))
        for service in ("Seldon", "Model"):
            answer = seldon(channel, service)(message, timeout=20)
            assert [list(answer.data.tensor.values)] == wanted
        request = v2.ModelInferRequest(model_name="classifier")
        request.inputs.add(name="x", datatype="FP64", shape=[1, 4]).contents.fp64_contents[:] = ROW
        reply = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20)
        assert [list(reply.outputs[0].contents.fp64_contents)] == wanted
        asked = tfs.PredictRequest(model_spec={"name": "classifier"})
        tensor_proto.write(asked.inputs["features"], np.array([ROW]))
        predicted = tf_serving(channel, "Predict")(asked, timeout=20)
        assert [list(predicted.outputs["predict_proba"].double_val)] == wanted
        assert reply.model_version == inferred["model_version"]


def test_tritons_clients_get_what_they_ask_for(iris: Server, iris_folder: Path) -> None:
    digest, rows = servers.digest_of(iris_folder), np.array([ROW, ROW[::-1]])
    asked, found = "classifier", []
    for library, port in ((tritonclient.http, iris.http_port), (tritonclient.grpc, iris.grpc_port)):
        client = library.InferenceServerClient(f"127.0.0.1:{port}")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(asked)
        assert client.is_model_ready(asked, digest)
        rows_in = library.InferInput("features", rows.shape, "FP64")
        rows_in.set_data_from_numpy(rows)
        names = ("predict_proba", "predict")
        wanted = [library.InferRequestedOutput(name) for name in names]
        result = client.infer(asked, [rows_in], outputs=wanted, request_id="7")
        found.append([result.as_numpy(name).tolist() for name in names])
        by_default = client.infer(asked, [rows_in]).as_numpy("predict_proba").tolist()
        assert by_default == found[-1][0]
        with pytest.raises(InferenceServerException, match=r"there is no model 'other.*classifier"):
            client.infer("other", [rows_in])
        client.close()
    assert found[0] == found[1]
    assert np.shape(found[0][0]) == (2, 3)


def test_tritons_client_may_send_and_get_json(iris: Server) -> None:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{iris.http_port}")
    rows_in = tritonclient.http.InferInput("features", [1, 4], "FP64")
    outputs: list[list[list[float]]] = []
    for sent, got in itertools.product((True, False), repeat=2):
        rows_in.set_data_from_numpy(np.array([ROW]), binary_data=sent)
        wanted = tritonclient.http.InferRequestedOutput("predict_proba", binary_data=got)
        result = client.infer("classifier", [rows_in], outputs=[wanted])
        outputs.append(result.as_numpy("predict_proba").tolist())
    client.close()
    first, *others = outputs
    assert np.shape(first) == (1, 3)
    assert others == [first] * 3


def test_tritons_clients_read_the_metadata(iris: Server, iris_folder: Path) -> None:
    digest = servers.digest_of(iris_folder)
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{iris.http_port}")
    rpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{iris.grpc_port}")
    for version in ("", "1", digest):
        described = rpc.get_model_metadata("classifier", version, as_json=True)
        assert described["inputs"] == [
            {"name": "features", "datatype": "FP64", "shape": ["-1", "4"]}
        ]
        by_rest = rest.get_model_metadata("classifier", version)
        assert by_rest["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]
        assert described["versions"] == by_rest["versions"] == [digest]
    (entry,) = rpc.get_model_repository_index(as_json=True)["models"]
    assert {**entry, "reason": ""} == rest.get_model_repository_index()[0]
    assert (entry["name"], entry["version"], entry["state"]) == ("classifier", digest, "READY")
    served = rpc.get_server_metadata(as_json=True)
    assert rest.get_server_metadata() == served
    assert served["extensions"] == ["binary_tensor_data"]
    assert served["name"] == "mlops-pipeline"
    rest.close()
    rpc.close()


def test_metadata_of_every_protocol(client: httpx.Client, iris_folder: Path, iris: Server) -> None:
    digest = servers.digest_of(iris_folder)
    (version,) = client.get("/v1/models/classifier").json()["model_version_status"]
    assert version["version"] == str(int(digest[:13], 16))
    assert client.get("/v2/models/classifier").json()["versions"] == [digest]
    assert client.get(f"/v2/models/classifier/versions/{digest}/ready").status_code == 200
    assert client.get("/api/v1.0/metadata/classifier").json()["versions"] == [digest]
    assert client.get("/v2").json()["name"]
    assert client.get("/v2/models/other").status_code == 404
    with grpc.insecure_channel(f"127.0.0.1:{iris.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        described = stub.ModelMetadata(v2.ModelMetadataRequest(name="classifier"), timeout=20)
        assert list(described.versions) == [digest]
        assert stub.ServerReady(v2.ServerReadyRequest(), timeout=20).ready


def test_the_api_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/api/v1.0/doc/").text
    assert "http" not in page.replace("http-equiv", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "openapi.json"):
        assert client.get(f"/api/v1.0/doc/{name}").status_code == 200


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (pb.SeldonMessage(strData="x"), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.SeldonMessage(binData=b"x"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_grpc_refuses_in_a_sentence(
    iris: Server, message: pb.SeldonMessage, code: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{iris.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            seldon(channel)(message, timeout=20)
        assert caught.value.code() == code
        assert "ndarray" in caught.value.details()
        stub = GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.ModelInfer, v2.ModelInferRequest(model_name="other")),
            (stub.ModelReady, v2.ModelReadyRequest(name="other")),
            (stub.ModelMetadata, v2.ModelMetadataRequest(name="other")),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=20)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


SELDON_CLIENT = Path(sys.prefix) / "seldon-client" / "bin" / "python"
ASK_BY_SELDONS_CLIENT = """
import json, sys
import numpy as np
from google.protobuf.json_format import MessageToDict
from seldon_core.seldon_client import SeldonClient
rows, answers = np.array([json.loads(sys.argv[3])]), {}
for transport, endpoint in zip(("rest", "grpc"), sys.argv[1:3]):
    client = SeldonClient(microservice_endpoint=endpoint)
    for name, asked in {
        "tensor": {"data": rows},
        "ndarray": {"data": rows, "payload_type": "ndarray"},
        "jsonData": {"json_data": {"instances": rows.tolist()}},
        "strData": {"str_data": "x"},
        "binData": {"bin_data": b"x"},
    }.items():
        found = client.microservice(method="predict", transport=transport, **asked)
        whole = MessageToDict(found.response) if found.success else None
        answers[f"{transport} {name}"] = whole or f"{found.msg} {found.response}"
print(json.dumps(answers))
"""


@pytest.mark.skipif(
    not SELDON_CLIENT.exists(), reason="`make test` installs Seldon's client; run that"
)
def test_seldons_client_gets_the_kind_that_it_sends(iris: Server, client: httpx.Client) -> None:
    """A TensorProto is missing: the client makes it with TensorFlow, which it does not install."""
    endpoints = [f"127.0.0.1:{port}" for port in (iris.http_port, iris.grpc_port)]
    done = subprocess.run(
        [str(SELDON_CLIENT), "-W", "ignore", "-c", ASK_BY_SELDONS_CLIENT, *endpoints, str(ROW)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    asked = {"data": {"ndarray": [ROW]}}
    (wanted,) = client.post("/predict", json=asked).json()["data"]["ndarray"]
    for transport in ("rest", "grpc"):
        assert answers[f"{transport} tensor"]["data"]["tensor"]["values"] == wanted
        assert answers[f"{transport} ndarray"]["data"]["ndarray"] == [wanted]
        assert answers[f"{transport} jsonData"]["jsonData"] == {"predictions": [wanted]}
        for kind in ("strData", "binData"):
            assert f"{kind} does not contain rows of numbers" in answers[f"{transport} {kind}"]


def test_nobody_can_unload_the_model(client: httpx.Client, iris: Server) -> None:
    assert client.post("/v2/repository/models/classifier/unload").status_code == 400
    with grpc.insecure_channel(f"127.0.0.1:{iris.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        request = v2.RepositoryModelUnloadRequest(model_name="classifier")
        with pytest.raises(grpc.RpcError) as caught:
            stub.RepositoryModelUnload(request, timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert client.get("/v2/models/classifier/ready").status_code == 200


def test_tensorflow_answers_every_protocol(digits: Server, digits_folder: Path) -> None:
    with digits.client() as client:
        answer = client.post("/api/v1.0/predictions", json={"data": {"ndarray": [IMAGE]}})
        assert answer.status_code == 200, answer.text
        wanted = answer.json()["data"]["ndarray"]
        assert len(wanted[0]) == 10
        for body, key in (
            ({"instances": [IMAGE]}, "predictions"),
            ({"instances": [{"images": IMAGE}]}, "predictions"),
            ({"inputs": {"images": [IMAGE]}, "signature_name": "predict_images"}, "outputs"),
        ):
            assert client.post("/v1/models/mnist-model:predict", json=body).json()[key] == wanted
        inputs = [{"name": "images", "shape": [1, 784], "datatype": "FP32", "data": IMAGE}]
        inferred = client.post("/v2/models/mnist-model/infer", json={"inputs": inputs}).json()
        assert [inferred["outputs"][0]["data"]] == wanted
        assert inferred["outputs"][0]["name"] == "scores"
        many = client.post("/api/v1.0/predictions", json={"data": {"ndarray": [IMAGE] * 300}})
        np.testing.assert_allclose(many.json()["data"]["ndarray"], wanted * 300, rtol=1e-5)
        large = client.post("/api/v1.0/predictions", json={"data": {"ndarray": [[1e39] * 784]}})
        assert large.json()["status"]["reason"] == "OUT_OF_RANGE"
    with grpc.insecure_channel(f"127.0.0.1:{digits.grpc_port}") as channel:
        message = pb.SeldonMessage(meta=pb.Meta(puid="p"))
        message.data.tensor.shape.extend([1, 784])
        message.data.tensor.values.extend(IMAGE)
        reply = seldon(channel, "Model")(message, timeout=20)
        np.testing.assert_allclose([list(reply.data.tensor.values)], wanted, rtol=1e-5)
        spec = {"name": "mnist-model", "version": {"value": 1}, "signature_name": "predict_images"}
        asked = tfs.PredictRequest(model_spec=spec, output_filter=["scores"])
        tensor_proto.write(asked.inputs["images"], np.array([IMAGE], np.float32))
        predicted = tf_serving(channel, "Predict")(asked, timeout=20)
        np.testing.assert_allclose([list(predicted.outputs["scores"].float_val)], wanted, rtol=1e-5)
        metadata = tfs.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        described = tf_serving(channel, "GetModelMetadata")(metadata, timeout=20)
        found = tfs.SignatureDefMap.FromString(described.metadata["signature_def"].value)
        scores = found.signature_def["predict_images"].outputs["scores"]
        assert [dim.size for dim in scores.tensor_shape.dim] == [-1, 10]
        asking = tfs.GetModelStatusRequest(model_spec=spec)
        status = tf_serving(channel, "GetModelStatus", service="ModelService")(asking, timeout=20)
        assert status.model_version_status[0].state == tfs.ModelVersionStatus.AVAILABLE
        assert reply.meta.tags["model_digest"].string_value == servers.digest_of(digits_folder)


def test_offline_predictions_are_the_served_ones(
    iris: Server, iris_folder: Path, digits_folder: Path, tmp_path: Path
) -> None:
    rows = np.array([ROW, [5.1, 3.5, 1.4, 0.2]])
    scores = servers.predict_offline(iris_folder, rows, tmp_path)
    with iris.client() as client:
        document = {"data": {"ndarray": rows.tolist()}}
        served = client.post("/api/v1.0/predictions", json=document).json()["data"]["ndarray"]
    assert scores.dtype == np.float64
    assert scores.tolist() == served
    names = servers.parameters(signature_name="predict_images")
    images = np.array([IMAGE] * 3, dtype=np.float32)
    assert servers.predict_offline(digits_folder, images, tmp_path, names).shape == (3, 10)


def test_the_log_says_how_long_the_start_took(iris: Server) -> None:
    assert " Ready in " in iris.log.read_text()


def test_answers_are_json_whatever_is_asked(client: httpx.Client) -> None:
    for path in ("/nothing", "/api/v1.0/nothing", "/v1/models/x:predict", "/v2/models/x/infer"):
        answer = client.post(path, content=b"\x00\xff")
        assert answer.status_code == 404
        assert json.loads(answer.content)


FRAMED = """
import sys, joblib, pandas
from scipy.stats import uniform
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
rows, labels = load_iris(return_X_y=True)
scaler = ColumnTransformer([("scale", StandardScaler(), [0, 1, 2, 3])])
search = RandomizedSearchCV(LogisticRegression(), {"C": uniform(1, 2)}, n_iter=2, random_state=0)
model = make_pipeline(FunctionTransformer(pandas.DataFrame), scaler, search).fit(rows, labels)
joblib.dump(model, sys.argv[1])
"""


def test_a_model_may_need_what_was_kept_from_the_libraries(tmp_path: Path) -> None:
    folder = servers.make_sklearn(tmp_path / "framed", FRAMED)
    with servers.running(folder, tmp_path / "log") as server, server.client() as client:
        answer = client.post("/predict", json={"data": {"ndarray": [ROW]}})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]["ndarray"][0]) == 3


@pytest.mark.parametrize("name", ["Seldon/Predict", "Model/SendFeedback", "Seldon/ModelMetadata"])
def test_calls_that_are_garbage_or_empty_are_bad_requests(iris: Server, name: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{iris.grpc_port}") as channel:
        for messages in (iter([b"\xff" * 9]), iter(())):
            with pytest.raises(grpc.RpcError) as refused:
                channel.stream_unary(f"/seldon.protos.{name}")(messages, timeout=20)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
