"""From nothing to proven predictions on kind, and on: through the command line alone."""

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.clients.kubernetes import POD, KubernetesApi
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline_tests.command_line import ODD_FLOWER, WINE, predict
from mlops_pipeline_tests.kind.conftest import KindCommandLine

pytestmark = pytest.mark.kind

LAYERS = ["cluster", "metallb", "istio", "object_store", "serving_image", "seldon_core"]
MODELS = {"iris": "iris-model", "mnist": "tfserving", "wine": "wine-model"}


def test_everything_is_up(command_line: KindCommandLine) -> None:
    status = command_line.status()
    assert status["platform"] == "kind"
    assert [layer["name"] for layer in status["layers"]] == LAYERS
    assert {layer["state"] for layer in status["layers"]} == {"ready"}
    assert {m["name"]: m["deployment"] for m in status["models"]} == MODELS
    for model in status["models"]:
        (predictor,) = model["predictors"]
        assert (predictor["traffic"], predictor["replicas"]) == (100, 1)
        assert len(predictor["digest"]) == 64
        assert predictor["digest"] == command_line.digest(model["name"])
        assert predictor["state"] == "ready"


def test_the_reference_request_works_verbatim(command_line: KindCommandLine) -> None:
    gateway = command_line.status()["gateway"].removeprefix("http://")
    line = (
        "curl -s -X POST http://$GATEWAY/seldon/seldon/iris-model/api/v1.0/predictions "
        "-H 'Content-Type: application/json' "
        """-d '{ "data": { "ndarray": [[5.964, 4.006, 2.081, 1.031]] } }'"""
    )
    answer = subprocess.run(
        ["sh", "-c", line],
        env={**command_line.environment(), "GATEWAY": gateway},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    body = json.loads(answer.stdout)
    assert body["data"]["names"] == ["t:0", "t:1", "t:2"]
    assert sum(body["data"]["ndarray"][0]) == pytest.approx(1)
    assert body["meta"]["tags"]["model_digest"] == command_line.digest("iris")


def test_a_second_up_changes_nothing_and_is_quick(command_line: KindCommandLine) -> None:
    before = command_line.status()
    start = time.monotonic()
    done = command_line.run("up")
    assert time.monotonic() - start < 150  # 20 s on a machine that does nothing else
    assert "nothing changed" in done.stderr
    assert command_line.status() == before
    plan = command_line.run("plan").stdout
    assert {line.split()[1] for line in plan.splitlines()[1:] if line.strip()} == {"keep"}
    for line in [line for line in done.stdout.splitlines() if line.startswith("curl ")]:
        asked = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=30)
        assert sum(json.loads(asked.stdout)["data"]["ndarray"][0]) == pytest.approx(1, abs=1e-5)


def test_a_new_artifact_is_deployed_and_rolled_back(
    command_line: KindCommandLine, cluster_api: KubernetesApi, tmp_path: Path
) -> None:
    def pods() -> set[str]:
        labels = "seldon-deployment-id=wine-model"
        found = cluster_api.list(POD, namespace="seldon", labels=labels)
        return {pod["metadata"]["uid"] for pod in found if not is_ending(pod)}

    old = command_line.digest("wine")
    changed = tmp_path / "wine.py"
    changed.write_text(WINE.read_text().replace('"trees": 20', '"trees": 21'))
    config = tmp_path / "mlops.toml"
    config.write_text(f'models = ["{changed}"]\n')
    assert "train" in command_line.run("plan", code=3, MLOPS_CONFIG=str(config)).stdout
    command_line.run("up", "wine", MLOPS_CONFIG=str(config))
    new = command_line.digest("wine")
    assert new != old
    assert predict(command_line.url("wine"), [1.0] * 13).headers["x-model-digest"] == new
    command_line.run("rollback", "wine")
    assert command_line.digest("wine") == old
    serving = pods()
    planned = command_line.run("plan", code=None, MLOPS_CONFIG=str(config)).stdout
    assert f"{new[:12]} waits" in planned
    assert "no longer pinned" in command_line.run("unpin", "wine").stdout
    assert command_line.digest("wine") == old
    assert pods() == serving  # What is wanted changes no pod.


def test_a_manifest_of_ones_own_is_applied_shown_and_deleted(
    command_line: KindCommandLine, tmp_path: Path
) -> None:
    uri = f"s3://models/iris/{command_line.digest('iris')}"
    file = tmp_path / "own.yaml"
    graph = {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": uri}
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "machinelearning.seldon.io/v1alpha2",
                "kind": "SeldonDeployment",
                "metadata": {"name": "own", "namespace": "team"},
                "spec": {"predictors": [{"name": "default", "graph": graph}]},
            }
        )
    )
    assert "team/own created" in command_line.run("apply", str(file)).stdout
    try:
        assert predict(command_line.url("own"), ODD_FLOWER).status_code == 200
        assert "team/own unchanged" in command_line.run("apply", str(file)).stdout
    finally:
        command_line.run("delete", "own", "--namespace", "team")
    assert "own" not in [model["name"] for model in command_line.status()["models"]]
    refused = command_line.run("delete", "own", "--namespace", "team", code=2).stderr
    assert "there is no deployment team/own; there are: seldon/iris-model" in refused


@pytest.mark.long
def test_where_addresses_are_out_of_reach_ports_of_this_machine_lead_in(
    command_line: KindCommandLine,
) -> None:
    before, by_ports = command_line.status(), command_line.by_ports
    try:
        assert "2 changed" in by_ports.run("up").stderr
        by_ports.run("plan")  # Its exit code says that nothing is to be done.
        status = by_ports.status()
        kind = by_ports.settings.kind
        cluster = KindCluster(KindParts.make(by_ports.home / "kind", kind, bundle=by_ports.bundle))
        gateway, store = (cluster.host_port(port) for port in (30080, 30083))
        assert status["gateway"] == f"http://127.0.0.1:{gateway}"
        assert status["object_store"] == f"http://127.0.0.1:{store}"
        assert by_ports.url("iris").startswith(status["gateway"])
        assert predict(by_ports.url("iris"), ODD_FLOWER).status_code == 200
        assert "0.9778" in by_ports.run("models", "iris").stdout
    finally:
        command_line.run("up")
    assert command_line.status() == before


def test_the_platform_may_be_named_for_one_command_and_predict_asks_there(
    command_line: KindCommandLine,
) -> None:
    shown = command_line.run("status", "--platform", "kind", "--json", MLOPS_PLATFORM="embedded")
    assert json.loads(shown.stdout)["platform"] == "kind"
    answer = json.loads(command_line.run("predict", "iris", "--json").stdout)
    assert answer["meta"]["tags"]["model_digest"] == command_line.digest("iris")


def test_logs_are_those_of_the_thing_named(command_line: KindCommandLine) -> None:
    for name in ("istio", "object_store", "seldon_core", "tfserving"):
        assert "==>" in command_line.run("logs", name, "--lines", "5").stdout, name
    assert "Ready" in command_line.run("logs", "iris").stdout
    refused = command_line.run("logs", "nobody", code=2).stderr
    assert "nobody" in refused
    assert "metallb" in refused


def test_the_doctor_finds_nothing_in_the_way(command_line: KindCommandLine) -> None:
    shown = command_line.run("doctor").stdout
    for what in ("docker", "kind", "helm", "cgroup"):
        assert f"✓  {what}" in shown


def test_credentials_are_private_and_nowhere_else(command_line: KindCommandLine) -> None:
    home = command_line.home / "kind"
    assert (home / "kubeconfig").stat().st_mode & 0o077 == 0
    key = yaml.safe_load((home / "kubeconfig").read_text())["users"][0]["user"]["client-key-data"]
    readable = [p for p in home.rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    assert [p for p in readable if key.encode() in p.read_bytes()] == []


def test_down_keeps_the_data_and_up_brings_it_back(command_line: KindCommandLine) -> None:
    def models() -> dict[str, Any]:
        return {m["name"]: m["predictors"] for m in command_line.status()["models"]}

    before = models()
    assert "stay in" in command_line.run("down").stdout
    down = command_line.status(code=3)
    assert "ready" not in {layer["state"] for layer in down["layers"]}
    command_line.run("up", timeout=600)
    assert models() == before
    assert predict(command_line.url("iris"), ODD_FLOWER).status_code == 200
