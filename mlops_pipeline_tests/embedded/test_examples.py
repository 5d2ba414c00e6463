"""The examples of the frameworks: from `up` to proven predictions, through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlops_pipeline_tests.command_line import CommandLine, free_ports, predict

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*_*.py"))
WIDTHS = {"tumours": (30, 2), "cultivars": (13, 3), "digits": (64, 10)}
"""Model → features, classes."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A platform on which only the examples are up."""
    directory = tmp_path_factory.mktemp("examples")
    (directory / "mlops.toml").write_text(f"models = {json.dumps(list(map(str, EXAMPLES)))}\n")
    made = CommandLine(directory / "state", directory, free_ports(3))
    try:
        made.run("up", *WIDTHS)
        yield made
    finally:
        made.run("down", "--purge", "--yes")


def url_of(examples: CommandLine, name: str) -> str:
    models = examples.status(code=3)["models"]  # Iris and MNIST are not deployed.
    return next(str(model["url"]) for model in models if model["name"] == name)


@pytest.mark.parametrize("name", WIDTHS)
def test_an_example_answers_as_proved(examples: CommandLine, name: str) -> None:
    features, classes = WIDTHS[name]
    answer = predict(url_of(examples, name), [0.5] * features)
    (scores,) = answer.json()["data"]["ndarray"]
    assert len(scores) == classes
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert answer.headers["x-model-digest"] == examples.digest(name, code=3)
    planned = examples.run("plan", code=None).stdout.splitlines()
    (line,) = (line for line in planned if line.startswith(f"{name}/deployment"))
    assert line.split()[1] == "keep"


def test_a_wrong_number_of_features_is_refused_with_the_right_one(examples: CommandLine) -> None:
    answer = predict(url_of(examples, "tumours"), [0.5] * 29)
    assert (answer.status_code, answer.json()["status"]["reason"]) == (400, "WRONG_SHAPE")
    assert "expected shape [n, 30], got [1, 29]" in answer.text


def test_they_answer_by_v2_with_their_library_as_the_platform(examples: CommandLine) -> None:
    frameworks = {"tumours": "xgboost", "cultivars": "lightgbm", "digits": "onnx"}
    for name, framework in frameworks.items():
        url, (features, classes) = f"{url_of(examples, name)}/v2/models/{name}", WIDTHS[name]
        described = httpx.get(url, timeout=10).json()
        assert described["platform"] == framework
        (tensor,) = described["inputs"]
        assert tensor["shape"] == [-1, features]
        values = {**tensor, "shape": [2, features], "data": [0.5] * (2 * features)}
        (output,) = httpx.post(f"{url}/infer", json={"inputs": [values]}, timeout=10).json()[
            "outputs"
        ]
        assert output["shape"] == [2, classes]
        assert output["name"] == described["outputs"][0]["name"]


def test_a_second_up_trains_nothing(examples: CommandLine) -> None:
    assert "nothing changed" in examples.run("up", *WIDTHS).stderr
