"""The serving images, built and run: as each container that Seldon's operator makes of them."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.clients.containers import ContainerEngine
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.platforms.embedded.environment import LocalServingEnvironment
from mlops_pipeline.platforms.kubernetes.deployments.environment import ImageServingEnvironment
from mlops_pipeline.platforms.kubernetes.layers.serving_image import context as serving_context
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.serving import artifact
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.test_pod import UNIT

pytestmark = pytest.mark.kind

ROW = [5.964, 4.006, 2.081, 1.031]
IMAGE = [round(i / 784, 3) for i in range(784)]
SECURE = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "2g"),
)
"""As our pods are secured: see manifests.py."""
COMPILED = """
import importlib.util, os, sys
import mlops_pipeline.serving.run, mlops_pipeline.serving.server
import mlops_pipeline.serving.sklearn_loader, mlops_pipeline.serving.forwarding.run
import mlops_pipeline.serving.xgboost_loader, mlops_pipeline.serving.lightgbm_loader
import mlops_pipeline.serving.onnx_loader, mlops_pipeline.serving.python_loader
import mlops_pipeline.serving.mlflow_loader
if "tensorflow" in sys.argv:
    import mlops_pipeline.serving.tensorflow_loader
files = [getattr(m, "__file__", None) or "" for m in list(sys.modules.values())]
cached = importlib.util.cache_from_source
print(len(files), [f for f in files if f.endswith(".py") and not os.path.exists(cached(f))])
"""


@pytest.fixture(scope="module")
def parts(bundle: Path | None, tmp_path_factory: pytest.TempPathFactory) -> KindParts:
    """The ways to the outside, without a cluster."""
    made = KindParts.make(tmp_path_factory.mktemp("a home"), KindSettings(), bundle=bundle)
    made.state.prepare()
    return made


@pytest.fixture(scope="module")
def images(parts: KindParts) -> Iterator[ServingImage]:
    """Both images are in the engine; gone afterwards, unless they were there before."""
    engine, layer = parts.engine, ServingImage(parts)
    plain, heavy = layer.reference("SKLEARN_SERVER"), layer.reference("TENSORFLOW_SERVER")
    wanted = {"serving": plain, "serving-tensorflow": heavy}
    made = [reference for reference in wanted.values() if not engine.has_image(reference)]
    if not engine.has_image(serving_context.BASE):
        for archive in parts.sources.archives("python"):
            engine.load(archive.path)
    context = parts.state.temporary / "context"
    serving_context.write(serving_context.contents(), context)
    for target, reference in wanted.items():
        if reference in made:
            begin = time.monotonic()
            engine.build(
                context,
                dockerfile=context / serving_context.DOCKERFILE,
                tag=reference,
                arguments=serving_context.arguments(os.environ),
                labels=MANAGED_BY,
                target=target,
                network="host",
                timeout=900,
            )
            print(f"{reference}: built in {time.monotonic() - begin:.1f} s")  # noqa: T201
    yield layer
    for reference in made:
        engine.remove_image(reference)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _for_everybody(servers.make_iris(tmp_path_factory.mktemp("models") / "iris"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _for_everybody(servers.make_digits(tmp_path_factory.mktemp("models") / "digits"))


def _for_everybody(folder: Path) -> Path:
    """Let the container's user read it, as Seldon's init container leaves it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    name: str
    network: str
    """The container that has its ports, which are gone as soon as that ends."""

    @property
    def http(self) -> str:
        return _port(self.network, 9000)

    @property
    def grpc(self) -> str:
        return _port(self.network, 9500)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.http}", timeout=30)

    def predict(self, values: list[float]) -> list[float]:
        """Return the scores of a row, asked over gRPC as Seldon's executor does."""
        message = pb.SeldonMessage(
            data=pb.DefaultData(tensor=pb.Tensor(shape=[1, len(values)], values=values))
        )
        with grpc.insecure_channel(self.grpc) as channel:
            call = channel.unary_unary(
                "/seldon.protos.Model/Predict",
                request_serializer=pb.SeldonMessage.SerializeToString,
                response_deserializer=pb.SeldonMessage.FromString,
            )
            return list(call(message, timeout=30).data.tensor.values)

    def logs(self) -> str:
        return docker("logs", self.name)

    def stop(self) -> int:
        docker("stop", "--time", "20", self.name)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name))


@contextlib.contextmanager
def container(
    image: str,
    *arguments: str,
    model: Path | None = None,
    variables: Mapping[str, str] | None = None,
    within: Container | None = None,
    options: tuple[str, ...] = SECURE,
) -> Iterator[Container]:
    """Run a container as a pod would; `within` is one whose network it shares."""
    command = ["run", "--detach", "--pull", "never", *options]
    for key, value in (variables or {}).items():
        command += ["--env", f"{key}={value}"]
    if model is not None:
        command += ["--mount", f"type=bind,source={model},target=/mnt/models,readonly"]
    if within is not None:
        command += ["--network", f"container:{within.name}"]
    else:
        command += [*("--publish", "127.0.0.1::9000"), *("--publish", "127.0.0.1::9500")]
    name = docker(*command, image, *arguments)
    try:
        yield Container(name, within.network if within is not None else name)
    finally:
        docker("rm", "--force", "--volumes", name)


def _port(name: str, port: int) -> str:
    return docker("port", name, f"{port}/tcp").splitlines()[0]


def wait_ready(one: Container, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    with one.client() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if client.get("/v2/health/ready").status_code == 200:
                    return
            assert time.monotonic() < deadline, one.logs()


def unit(graph: str, **parameters: str) -> dict[str, str]:
    return {
        **UNIT,
        "PREDICTIVE_UNIT_ID": graph,
        "MLSERVER_MODEL_NAME": graph,
        "PREDICTIVE_UNIT_IMAGE": "unit:1",
        "PREDICTIVE_UNIT_PARAMETERS": servers.parameters(**parameters),
    }


def run(parts: KindParts, image: str, *command: str, entrypoint: str) -> str:
    return parts.engine.run(image, command, entrypoint=entrypoint, timeout=60)


# What is in them


def test_they_are_small_and_say_who_made_them(parts: KindParts, images: ServingImage) -> None:
    base = parts.engine.image_size(serving_context.BASE)
    plain, heavy = (
        parts.engine.image_size(images.reference(implementation))
        for implementation in ("SKLEARN_SERVER", "TENSORFLOW_SERVER")
    )
    assert plain - base < 500e6
    assert heavy - plain < 900e6
    for implementation in ("SKLEARN_SERVER", "TENSORFLOW_SERVER"):
        found = json.loads(docker("image", "inspect", images.reference(implementation)))
        config = found[0]["Config"]
        assert config["User"] == "8888"
        assert config["Labels"].items() >= MANAGED_BY.items()
        assert config["Entrypoint"] == ["python", "-m", "mlops_pipeline.serving", "pod"]


def test_they_share_all_layers_but_the_last(images: ServingImage) -> None:
    plain, heavy = (
        json.loads(docker("image", "inspect", images.reference(implementation)))[0]["RootFS"]
        for implementation in ("SKLEARN_SERVER", "TENSORFLOW_SERVER")
    )
    pairs = zip(plain["Layers"], heavy["Layers"], strict=False)
    assert sum(one == other for one, other in pairs) >= len(plain["Layers"]) - 2


@pytest.mark.parametrize("implementation", ["SKLEARN_SERVER", "TENSORFLOW_SERVER"])
def test_they_hold_nothing_to_build_with_and_all_that_a_pod_needs(
    implementation: Any, parts: KindParts, images: ServingImage
) -> None:
    image = images.reference(implementation)
    script = (
        "id -u; command -v gcc cc g++ c++ make uv; ls -A /tmp; "
        '/bin/sh -c "/bin/sleep 0.1" && echo slept'
    )
    assert run(parts, image, "-c", script, entrypoint="sh").split() == ["8888", "slept"]
    assert run(parts, image, "-c", "find /opt -writable -not -type l", entrypoint="sh") == ""


@pytest.mark.parametrize(
    ("implementation", "more"), [("SKLEARN_SERVER", ()), ("TENSORFLOW_SERVER", ("tensorflow",))]
)
def test_nothing_is_compiled_when_a_server_starts(
    implementation: Any, more: tuple[str, ...], parts: KindParts, images: ServingImage
) -> None:
    image = images.reference(implementation)
    printed = run(parts, image, "-c", COMPILED, *more, entrypoint="python")
    number, _, uncompiled = printed.strip().splitlines()[-1].partition(" ")
    assert int(number) > 1000
    assert uncompiled == "[]"


def test_their_libraries_are_those_that_train_here(images: ServingImage) -> None:
    (check,) = images.checks
    finding = check.run()
    assert finding.passed, finding.seen


# One container


def test_a_unit_serves_its_model(images: ServingImage, iris: Path) -> None:
    told = unit("classifier", method="predict_proba", model_uri="/mnt/models")
    with container(images.reference("SKLEARN_SERVER"), model=iris, variables=told) as server:
        wait_ready(server)
        with server.client() as client:
            answer = client.post("/predict", json={"data": {"ndarray": [ROW]}})
            (scores,) = answer.json()["data"]["ndarray"]
            form = client.post("/predict", data={"json": json.dumps({"data": {"ndarray": [ROW]}})})
            assert form.json()["data"]["ndarray"] == [scores]
            assert client.get("/api/v1.0/doc/swagger-ui-bundle.js").status_code == 200
        assert answer.headers["x-model-digest"] == servers.digest_of(iris)
        assert answer.json()["meta"]["requestPath"] == {"classifier": "unit:1"}
        assert server.predict(ROW) == scores
        assert docker("exec", server.name, "/bin/sh", "-c", "/bin/sleep 0.1; id -u") == "8888"
        assert server.stop() == 0


@pytest.mark.parametrize(
    "name",
    ["tumours_xgboost", "cultivars_lightgbm", "digits_onnx", "grower_mlflow", "nearest_centre"],
)
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_the_small_image_serves_an_example(images: ServingImage, tmp_path: Path, name: str) -> None:
    file = servers.ROOT / "examples" / f"{name}.py"
    (spec,) = (m.spec for m in load_catalog([str(file)]).models if m.source.startswith(str(file)))
    data, folder = spec.dataset.load(None), tmp_path / "model"
    folder.mkdir()
    trained = spec.train(data, spec.hyperparameters, folder)
    # Without a manifest, an MLflow model answers as by MLflow.
    more = {"method": "predict_proba"} if spec.framework == "mlflow" else {}
    told = unit("example", model_uri="/mnt/models", **more)
    image = images.reference(spec.server.implementation)
    assert image == images.reference("SKLEARN_SERVER")
    with container(image, model=_for_everybody(folder), variables=told) as server:
        wait_ready(server)
        row = data.x_test[:1]
        assert server.predict(row[0].tolist()) == pytest.approx(trained.predict(row)[0], abs=1e-5)


def test_a_server_needs_no_place_to_write(images: ServingImage, iris: Path) -> None:
    told = unit("classifier", model_uri="/mnt/models")
    image = images.reference("SKLEARN_SERVER")
    options = ("--read-only", "--cap-drop", "ALL")
    with container(image, model=iris, variables=told, options=options) as server:
        wait_ready(server)


def test_a_bare_model_is_served(images: ServingImage, iris: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(iris, tmp_path / "bare")
    (folder / artifact.MANIFEST).unlink()
    told = unit("classifier", model_uri="/mnt/models")
    image = images.reference("SKLEARN_SERVER")
    with container(image, model=_for_everybody(folder), variables=told) as server:
        wait_ready(server)
        assert sum(server.predict(ROW)) == pytest.approx(1)


def test_an_empty_folder_ends_the_container_with_a_sentence(
    images: ServingImage, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    told = unit("classifier", model_uri="/mnt/models")
    image = images.reference("SKLEARN_SERVER")
    with container(image, model=tmp_path / "empty", variables=told) as server:
        assert docker("wait", server.name) == "3"
        said = subprocess.run(
            ["docker", "logs", server.name], capture_output=True, text=True, check=True, timeout=20
        )
    assert "there is no model in /mnt/models, which is empty" in said.stderr


def test_under_tensorflows_protocol_a_unit_has_tf_servings_arguments(
    images: ServingImage, digits: Path
) -> None:
    arguments = _tf_serving(rest=9000, rpc=9500)
    told = {**unit("mnist-model"), "PREDICTIVE_UNIT_PARAMETERS": "[]"}
    image = images.reference("TENSORFLOW_SERVER")
    with container(image, *arguments, model=digits, variables=told) as server:
        wait_ready(server)
        with server.client() as client:
            named = {"instances": [IMAGE], "signature_name": "predict_images"}
            answer = client.post("/v1/models/mnist-model:predict", json=named)
            assert len(answer.json()["predictions"][0]) == 10
        assert server.stop() == 0


def _tf_serving(*, rest: int, rpc: int) -> list[str]:
    return [
        f"--port={rpc}",
        f"--rest_api_port={rest}",
        "--model_name=mnist-model",
        "--model_base_path=/mnt/models",
    ]


# Two containers


@pytest.fixture(scope="module")
def pod(images: ServingImage, digits: Path) -> Iterator[tuple[Container, Container]]:
    """The unit's container, and the one behind it that loads the model."""
    told = unit(
        "mnist-model",
        signature_name="predict_images",
        model_output="scores",
        rest_endpoint="http://0.0.0.0:2001",
        grpc_endpoint="0.0.0.0:2000",
        model_name="mnist-model",
    )
    plain, heavy = images.reference("SKLEARN_SERVER"), images.reference("TENSORFLOW_SERVER")
    arguments = _tf_serving(rest=2001, rpc=2000)
    with (
        container(plain, variables=told) as front,
        container(heavy, *arguments, model=digits, within=front) as behind,
    ):
        wait_ready(front)
        yield front, behind


def test_two_containers_answer_as_one(pod: tuple[Container, Container], digits: Path) -> None:
    front, _ = pod
    with front.client() as client:
        answer = client.post("/api/v1.0/predictions", json={"data": {"ndarray": [IMAGE]}})
        (scores,) = answer.json()["data"]["ndarray"]
        many = client.post("/predict", json={"data": {"ndarray": [IMAGE] * 1000}})
        assert len(many.json()["data"]["ndarray"]) == 1000
    assert answer.headers["x-model-digest"] == servers.digest_of(digits)
    assert answer.json()["meta"]["requestPath"] == {"mnist-model": "unit:1"}
    np.testing.assert_allclose(front.predict(IMAGE), scores, rtol=1e-6)


def test_the_forwarder_is_small(pod: tuple[Container, Container]) -> None:
    front, _ = pod
    status = docker("exec", front.name, "cat", "/proc/1/status")
    assert int(status.split("VmRSS:")[1].split()[0]) < 80_000


def test_without_the_models_server_the_forwarder_says_so(
    pod: tuple[Container, Container],
) -> None:
    front, behind = pod
    docker("kill", behind.name)
    with front.client() as client:
        begin = time.monotonic()
        answer = client.post("/api/v1.0/predictions", json={"data": {"ndarray": [IMAGE]}})
        assert (answer.status_code, answer.json()["status"]["reason"]) == (503, "UNREACHABLE")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        assert time.monotonic() - begin < 5
    docker("start", behind.name)
    wait_ready(front)
    assert front.stop() == 0


# The environment in which artifacts are tried


def test_an_artifact_predicts_in_the_image_what_it_predicts_here(
    parts: KindParts, images: ServingImage, iris: Path, digits: Path, tmp_path: Path
) -> None:
    there = ImageServingEnvironment(parts.engine, images, temporary=parts.state.temporary)
    here = LocalServingEnvironment(temporary=tmp_path)
    assert there.fingerprint() == images.tag
    for folder, row, implementation, parameters in (
        (iris, ROW, "SKLEARN_SERVER", (("method", "predict_proba"),)),
        (digits, IMAGE, "TENSORFLOW_SERVER", (("signature_name", "predict_images"),)),
    ):
        private = shutil.copytree(folder, tmp_path / implementation)
        for path in private.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        rows = tmp_path / f"{implementation}.npy"
        np.save(rows, np.array([row, row[::-1]]))
        rows.chmod(0o600)
        told: Any = {"implementation": implementation, "parameters": parameters}
        scores = there.predict(private, rows, **told)
        np.testing.assert_allclose(scores, here.predict(private, rows, **told), rtol=1e-6)


def test_why_an_artifact_cannot_be_served_is_said(
    parts: KindParts, images: ServingImage, iris: Path, tmp_path: Path
) -> None:
    there = ImageServingEnvironment(parts.engine, images, temporary=parts.state.temporary)
    rows = tmp_path / "rows.npy"
    np.save(rows, np.zeros((1, 4)))
    with pytest.raises(CommandError, match="TENSORFLOW_SERVER serves tensorflow models"):
        there.predict(iris, rows, implementation="TENSORFLOW_SERVER", parameters=())


def test_a_build_that_fails_says_how_it_ended(parts: KindParts, tmp_path: Path) -> None:
    files = serving_context.contents()
    broken = files["serving.lock"].replace(b"uvicorn==", b"uvicorn==99.", 1)
    context = tmp_path / "context"
    serving_context.write({**files, "serving.lock": broken}, context)
    assert isinstance(parts.engine, ContainerEngine)
    with pytest.raises(CommandError, match="no version of uvicorn"):
        parts.engine.build(
            context,
            dockerfile=context / serving_context.DOCKERFILE,
            tag="mlops-pipeline/serving:broken",
            arguments=serving_context.arguments(os.environ),
            target="serving",
            network="host",
            timeout=300,
        )
