"""From an empty state folder to proven predictions, and on: through the command line alone."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_pipeline_tests.command_line import ODD_FLOWER, CommandLine, predict

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]


def test_everything_is_up(command_line: CommandLine) -> None:
    status = command_line.status()
    assert set(status) == {"platform", "gateway", "object_store", "layers", "models", "refused"}
    assert [layer["name"] for layer in status["layers"]] == [
        "supervisor",
        "object_store",
        "gateway",
    ]
    assert {layer["state"] for layer in status["layers"]} == {"ready"}
    assert {m["name"]: m["deployment"] for m in status["models"]} == {
        "iris": "iris-model",
        "mnist": "tfserving",
        "wine": "wine-model",
    }
    for model in status["models"]:
        (predictor,) = model["predictors"]
        assert set(predictor) == {"name", "digest", "traffic", "replicas", "state", "reason"}
        assert (predictor["traffic"], predictor["replicas"]) == (100, 1)
        assert len(predictor["digest"]) == 64
        assert predictor["digest"] == command_line.digest(model["name"])


def test_the_reference_request_works_verbatim(command_line: CommandLine) -> None:
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
    ((a, b, c),) = body["data"]["ndarray"]
    assert a + b + c == pytest.approx(1)
    assert body["meta"]["tags"]["model_digest"] == command_line.digest("iris")


def test_a_second_up_changes_nothing_and_ends_with_lines_that_work_when_pasted(
    command_line: CommandLine,
) -> None:
    before = command_line.status()
    done = command_line.run("up")
    assert "nothing changed" in done.stderr
    assert command_line.status() == before
    plan = command_line.run("plan").stdout
    assert {line.split()[1] for line in plan.splitlines()[1:] if line.strip()} == {"keep"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(
            shlex.split(line), capture_output=True, text=True, check=True, timeout=30
        )
        (scores,) = json.loads(done.stdout)["data"]["ndarray"]
        assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_own_output_names_are_answered(command_line: CommandLine) -> None:
    body = predict(command_line.url("wine"), [1.0] * 13).json()
    assert body["data"]["names"] == ["one", "two", "three"]


def test_mnist_answers_by_the_tensorflow_protocol(command_line: CommandLine) -> None:
    url = command_line.url("mnist")
    state = httpx.get(f"{url}/v1/models/mnist-model").json()["model_version_status"][0]
    assert state["state"] == "AVAILABLE"
    answer = httpx.post(
        f"{url}/v1/models/mnist-model:predict",
        json={"signature_name": "predict_images", "instances": [[0.0] * 784]},
    )
    assert sum(answer.json()["predictions"][0]) == pytest.approx(1, abs=1e-4)
    assert answer.headers["x-model-digest"] == command_line.digest("mnist")


def test_iris_answers_by_v2(command_line: CommandLine) -> None:
    url = command_line.url("iris")
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [ODD_FLOWER]}
    answer = httpx.post(
        f"{url}/v2/models/classifier/infer",
        json={"inputs": [tensor], "outputs": [{"name": "predict_proba"}]},
    ).json()
    assert answer["model_version"] == command_line.digest("iris")
    assert answer["outputs"][0]["shape"] == [1, 3]


def test_predict_asks_the_deployed_model(command_line: CommandLine) -> None:
    shown = command_line.run("predict", "iris", "--row", "5.1,3.5,1.4,0.2").stdout
    assert "setosa" in shown.splitlines()[1]
    body: dict[str, Any] = json.loads(command_line.run("predict", "tfserving", "--json").stdout)
    assert len(body["data"]["ndarray"][0]) == 10


def test_predict_reads_files(command_line: CommandLine, tmp_path: Path) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
    contents = {
        "rows.csv": "\n".join(",".join(map(str, row)) for row in rows),
        "rows.json": json.dumps(rows),
        "request.json": json.dumps({"data": {"ndarray": rows}}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        shown = command_line.run("predict", "iris", "--file", str(tmp_path / name)).stdout
        assert [line.split()[0] for line in shown.splitlines()[1:3]] == ["setosa", "virginica"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("predict", "iris", "--row", "1,2"), "--row 1 has 2 values; iris expects 4"),
        (("predict", "iris", "--file", "/nowhere"), "could not read /nowhere"),
        (("up", "nothing"), "unknown name 'nothing'; expected one of: supervisor, "),
        (("apply", "/nowhere.yaml"), "could not read /nowhere.yaml"),
    ],
)
def test_wrong_usage_is_one_sentence(
    command_line: CommandLine, arguments: tuple[str, ...], complaint: str
) -> None:
    done = command_line.run(*arguments, code=2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(900)
def test_a_new_artifact_is_deployed_and_rolled_back(
    command_line: CommandLine, tmp_path: Path
) -> None:
    url = command_line.url("wine")
    old = _answering(url)
    changed = tmp_path / "wine.py"
    changed.write_text(WINE_SOURCE.replace('"trees": 20', '"trees": 21'))
    config = tmp_path / "mlops.toml"
    config.write_text(f'models = ["{changed}"]\n')

    assert "train" in command_line.run("plan", code=3, MLOPS_CONFIG=str(config)).stdout
    command_line.run("up", "wine", MLOPS_CONFIG=str(config))

    new = _answering(url)
    assert new != old
    listed = command_line.run("models", "wine").stdout
    assert old[:12] in listed
    assert new[:12] in listed

    command_line.run("rollback", "wine")
    assert _answering(url) == old
    _stays_until_unpinned(command_line, config, old=old, new=new)
    assert "matches no artifact" in command_line.run("rollback", "wine", "0", code=2).stderr
    assert "nothing to remove" in command_line.run("prune").stdout
    assert old in command_line.run("prune", "--keep", "0", stdin="n\n", code=1).stdout
    command_line.run("prune", "--keep", "0", "--yes")
    assert old[:12] not in command_line.run("models", "wine").stdout
    command_line.run("up", "wine")
    assert _answering(url) == old  # the same inputs make the same artifact again


def _stays_until_unpinned(command_line: CommandLine, config: Path, *, old: str, new: str) -> None:
    """Find the pinned artifact in place whatever runs, until a person unpins it."""
    url = command_line.url("wine")
    planned = command_line.run("plan", MLOPS_CONFIG=str(config)).stdout
    assert f"{new[:12]} waits" in planned
    done = command_line.run("up", "wine", MLOPS_CONFIG=str(config))
    assert f"wine: {old[:12]} is pinned since" in done.stdout
    assert _answering(url) == old
    assert "no longer pinned" in command_line.run("unpin", "wine").stdout
    assert _answering(url) == old
    command_line.run("up", "wine", MLOPS_CONFIG=str(config))
    assert _answering(url) == new


WINE_SOURCE = (Path(__file__).parent.parent / "wine.py").read_text()


def _materialize_deployment(command_line: CommandLine, config: Path) -> str:
    """Materialize `wine/deployment` alone, as the UI would, and return why it failed."""
    script = (
        "import os\n"
        "os.umask(0o077)\n"  # As the UI of `mlops-pipeline ui` has it.
        "import dagster as dg\n"
        "from mlops_pipeline.definitions import embedded\n"
        "job = embedded().resolve_job_def('wine_lifecycle')\n"
        "key = dg.AssetKey(['embedded', 'wine', 'deployment'])\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    result = job.execute_in_process(\n"
        "        instance=instance, asset_selection=[key], raise_on_error=False)\n"
        "(event,) = result.get_step_failure_events()\n"
        "print(event.step_failure_data.user_failure_data.description)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=command_line.environment(
            DAGSTER_HOME=str(command_line.home / "dagster"), MLOPS_CONFIG=str(config)
        ),
        cwd=command_line.directory,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.timeout(900)
def test_a_bad_model_does_not_reach_users(command_line: CommandLine, tmp_path: Path) -> None:
    url = command_line.url("wine")
    good = _answering(url)
    changed = tmp_path / "wine.py"
    changed.write_text(
        WINE_SOURCE.replace(
            "model.fit(dataset.x_train, dataset.y_train)",
            "model.fit(dataset.x_train, dataset.y_train[::-1])",
        )
    )
    config = tmp_path / "mlops.toml"
    config.write_text(f'models = ["{changed}"]\n')

    done = command_line.run("up", "wine", code=1, MLOPS_CONFIG=str(config))

    assert "accuracy_at_least_threshold" in done.stderr
    assert _answering(url) == good
    later = _materialize_deployment(command_line, config)
    assert "stopped after embedded/wine/model" in later
    assert "accuracy_at_least_threshold failed" in later
    assert _answering(url) == good
    planned = command_line.run("plan", code=3, MLOPS_CONFIG=str(config)).stdout.splitlines()
    (model,) = (line for line in planned if line.startswith("wine/model"))
    (deployment,) = (line for line in planned if line.startswith("wine/deployment"))
    assert model.split()[1] == "refused"
    assert "accuracy_at_least_threshold: the accuracy" in model
    assert deployment.split()[1] == "held"

    (bad,) = _refused(command_line)
    refused = command_line.run("rollback", "wine", bad, code=1).stderr
    assert "is refused by accuracy_at_least_threshold: the accuracy" in refused
    assert _answering(url) == good
    command_line.run("rollback", "wine", bad, "--accept-refused", code=3)
    assert _answering(url).startswith(bad)
    assert "(accepted)" in command_line.run("models", "wine").stdout
    assert _refused(command_line) == [bad]
    red = command_line.run("up", "wine", code=3).stderr
    assert "served_accuracy_at_least_threshold" in red
    assert _answering(url).startswith(bad)
    command_line.run("up", "wine", "--unpin")
    assert _answering(url) == good


def _answering(url: str) -> str:
    """Return the digest of the artifact that answers."""
    return predict(url, [1.0] * 13).headers["x-model-digest"]


def _refused(command_line: CommandLine) -> list[str]:
    """Return the digests, shortened, of the artifacts of wine that `models` shows as refused."""
    listed = command_line.run("models", "wine").stdout.splitlines()
    return [line.split()[1] for line in listed if "refused by accuracy_at_least" in line]


def test_logs_are_those_of_the_thing_named(command_line: CommandLine) -> None:
    for name in ("object_store", "tfserving"):
        lines = command_line.run("logs", name, "--lines", "5").stdout.splitlines()
        assert 1 <= len(lines) <= 6, name
    assert "Ready" in command_line.run("logs", "iris").stdout
    refused = command_line.run("logs", "nobody", code=2).stderr
    assert "nobody" in refused
    assert "gateway" in refused


def test_the_doctor_finds_nothing(command_line: CommandLine) -> None:
    shown = command_line.run("doctor").stdout
    for what in ("python", "weed", "envoy", "uvicorn", "state folder", "disk", "memory"):
        assert f"✓  {what}" in shown
    assert f"answers at http://127.0.0.1:{command_line.ports[0]}" in shown


def test_credentials_are_private_and_nowhere_else(command_line: CommandLine) -> None:
    secrets = list(command_line.home.rglob("seldon-rclone-secret.json"))
    assert secrets
    for file in secrets:
        assert file.stat().st_mode & 0o077 == 0
    words = json.loads(secrets[0].read_text())
    secret = next(v for k, v in words.items() if k.endswith("SECRET_ACCESS_KEY"))
    allowed = [p for p in command_line.home.rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    leaks = [p for p in allowed if secret.encode() in p.read_bytes()]
    assert not leaks
    listed = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    assert secret not in listed


def test_only_its_owner_can_read_the_state_folder(command_line: CommandLine) -> None:
    home = command_line.home
    store = home / "embedded/object_store/data"  # SeaweedFS chooses modes of its own below it.
    ours = [path for path in (home, *home.rglob("*")) if store not in path.parents]
    assert [path for path in ours if path.lstat().st_mode & 0o077] == []


def test_after_every_up_all_assets_are_fresh(command_line: CommandLine, tmp_path: Path) -> None:
    """By the query of the UI: `staleStatus` is STALE where it shows "Unsynced"."""
    query = "{ assetNodes { assetKey { path } staleStatus staleCauses { reason } } }"
    command_line.run("up", "iris")
    command_line.run("up")
    program = str(Path(sys.executable).with_name("dagster-graphql"))
    answer = tmp_path / "answer.json"
    options = ("-m", "mlops_pipeline.definitions", "-a", "embedded", "--output", str(answer))
    done = subprocess.run(
        [program, *options, "--text", query],
        cwd=command_line.directory,
        env=command_line.environment(DAGSTER_HOME=str(command_line.home / "dagster")),
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    nodes = json.loads(answer.read_text())["data"]["assetNodes"]
    assert len(nodes) == 3 + 3 * 4
    assert [node for node in nodes if node["staleStatus"] != "FRESH"] == []


def test_down_keeps_the_data_and_up_brings_it_back(command_line: CommandLine) -> None:
    before = {m["name"]: m["predictors"] for m in command_line.status()["models"]}
    shown = command_line.run("down").stdout
    assert "stay in" in shown
    down = command_line.status(code=3)
    assert {layer["state"] for layer in down["layers"]} == {"absent"}
    command_line.run("up")
    assert {m["name"]: m["predictors"] for m in command_line.status()["models"]} == before
