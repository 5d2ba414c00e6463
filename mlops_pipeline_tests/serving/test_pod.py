"""What a container does, by the arguments and the environment that Seldon's operator gives it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.serving import pod, process
from mlops_pipeline.serving.__main__ import main
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.forwarding import run as forwarding
from mlops_pipeline.serving.forwarding.target import Target
from mlops_pipeline.serving.settings import Place, ServerSettings
from mlops_pipeline_tests.serving import servers

NONE = pod.TensorFlowArguments(None, None, None, None)
TF_SERVING = ["--port=2000", "--rest_api_port=2001", "--model_name=mnist-model"]
UNIT = {
    "PREDICTIVE_UNIT_ID": "classifier",
    "PREDICTIVE_UNIT_SERVICE_PORT": "9000",
    "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "9000",
    "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": "9500",
    "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": "6000",
    "PREDICTIVE_UNIT_METRICS_ENDPOINT": "/prometheus",
    "PREDICTIVE_UNIT_IMAGE": "mlops-pipeline/serving:1",
    "PREDICTOR_ID": "default",
    "PREDICTOR_LABELS": "{}",
    "SELDON_DEPLOYMENT_ID": "iris-model",
    "SELDON_EXECUTOR_ENABLED": "true",
    "MLSERVER_HTTP_PORT": "9000",
    "MLSERVER_GRPC_PORT": "9500",
    "MLSERVER_METRICS_PORT": "6000",
    "MLSERVER_METRICS_ENDPOINT": "/prometheus",
    "MLSERVER_MODEL_NAME": "classifier",
    "MLSERVER_MODEL_URI": "/mnt/models",
}


def test_a_unit_with_a_model_serves_it_to_the_whole_pod_network() -> None:
    parameters = servers.parameters(method="predict", model_uri="/mnt/models")
    own = pod.settings_of(NONE, {**UNIT, "PREDICTIVE_UNIT_PARAMETERS": parameters})
    assert (own.host, own.http_port, own.grpc_port, own.metrics_port) == (
        "0.0.0.0",
        9000,
        9500,
        6000,
    )
    assert (own.graph_name, own.model_folder) == ("classifier", Path("/mnt/models"))
    assert own.parameters["method"] == "predict"
    assert own.place is Place.POD


def test_a_server_in_a_pod_ends_before_the_pod_is_killed() -> None:
    assert pod.settings_of(NONE, UNIT).drain_seconds == 8
    assert pod.settings_of(NONE, {**UNIT, "MLOPS_DRAIN_SECONDS": "20"}).drain_seconds == 20


def test_a_unit_with_tf_servings_arguments_has_its_ports() -> None:
    arguments = pod.TensorFlowArguments(9500, 9000, "mnist-model", "/mnt/models")
    own = pod.settings_of(arguments, {**UNIT, "PREDICTIVE_UNIT_ID": "mnist-model"})
    assert (own.http_port, own.grpc_port, own.graph_name) == (9000, 9500, "mnist-model")
    assert own.place is Place.POD


def test_only_tf_servings_arguments_make_the_server_behind_a_forwarder() -> None:
    own = pod.settings_of(pod.TensorFlowArguments(2000, 2001, "m", "/mnt/models"), {})
    assert (own.http_port, own.grpc_port, own.graph_name) == (2001, 2000, "m")
    assert (own.model_folder, own.place) == (Path("/mnt/models"), Place.BEHIND)
    assert own.metrics_port == 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What a container would do, instead of doing it."""
    calls: list[tuple[str, Any]] = []

    def serve(own: ServerSettings, *, implementation: str | None, started: float) -> ExitCode:
        calls.append(("serve", implementation))
        return ExitCode.OK

    def forward(own: ServerSettings, target: Target, *, started: float) -> ExitCode:
        calls.append(("forward", target))
        return ExitCode.OK

    from mlops_pipeline.serving import run

    monkeypatch.setattr(run, "run", serve)
    monkeypatch.setattr(forwarding, "run", forward)
    monkeypatch.setattr(process, "end_when_told", lambda: None)
    for name in [*UNIT, "PREDICTIVE_UNIT_PARAMETERS"]:
        monkeypatch.delenv(name, raising=False)
    return calls


ENDPOINTS = servers.parameters(
    signature_name="predict_images",
    rest_endpoint="http://0.0.0.0:2001",
    grpc_endpoint="0.0.0.0:2000",
    model_name="mnist-model",
)


@pytest.mark.parametrize(
    ("arguments", "variables", "done"),
    [
        ([], UNIT, ("serve", None)),
        ([*TF_SERVING, "--model_base_path=/mnt/models"], {}, ("serve", "TENSORFLOW_SERVER")),
        ([*TF_SERVING, "--model_base_path", "/mnt/models"], UNIT, ("serve", "TENSORFLOW_SERVER")),
    ],
    ids=["unit", "tfserving", "tensorflow"],
)
def test_a_container_serves_what_it_is_given(
    arguments: list[str],
    variables: dict[str, str],
    done: tuple[str, Any],
    started: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["pod", *arguments]) == ExitCode.OK
    assert started == [done]


def test_a_unit_with_endpoints_forwards(
    started: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**UNIT, "PREDICTIVE_UNIT_PARAMETERS": ENDPOINTS}.items():
        monkeypatch.setenv(name, value)
    assert main(["pod"]) == ExitCode.OK
    ((done, target),) = started
    assert done == "forward"
    assert (target.host, target.port, target.grpc_address) == ("127.0.0.1", 2001, "127.0.0.1:2000")
    assert json.loads(target.said) == {
        "image": "mlops-pipeline/serving:1",
        "predictor": "default",
        "parameters": ENDPOINTS,
    }


@pytest.mark.parametrize(
    "endpoints",
    [
        {"rest_endpoint": "https://0.0.0.0:2001", "grpc_endpoint": "0.0.0.0:2000"},
        {"rest_endpoint": "http://0.0.0.0", "grpc_endpoint": "0.0.0.0:2000"},
        {"rest_endpoint": "http://0.0.0.0:99999", "grpc_endpoint": "0.0.0.0:2000"},
        {"rest_endpoint": "http://0.0.0.0:2001", "grpc_endpoint": "0.0.0.0"},
        {"rest_endpoint": "http://0.0.0.0:2001"},
    ],
)
def test_endpoints_that_cannot_be_used_are_named(
    endpoints: dict[str, str],
    started: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREDICTIVE_UNIT_PARAMETERS", servers.parameters(**endpoints))
    assert main(["pod"]) == ExitCode.SETTINGS
    assert "must have values like" in capsys.readouterr().err
    assert not started


def test_an_option_of_tf_serving_that_is_not_ours_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pod", *TF_SERVING, "--enable_batching=true"])
    assert ended.value.code == ExitCode.SETTINGS
    assert "--enable_batching" in capsys.readouterr().err


def test_versions_are_those_of_the_libraries_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["versions"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert {"python", "numpy", "scikit-learn", "tensorflow", "uvicorn", "grpcio"} <= found.keys()
