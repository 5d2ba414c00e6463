"""Custom components without their process: the folder, the parameters, the answers, the metrics."""

import shutil
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mlops_pipeline.serving import bare
from mlops_pipeline.serving.custom import folder, options, scratch, seldon_names, wire
from mlops_pipeline.serving.custom.answers import ComponentError
from mlops_pipeline.serving.custom.component import Component, Guard
from mlops_pipeline.serving.custom.metrics import MOST_SERIES, CustomMetrics
from mlops_pipeline.serving.errors import StartError
from mlops_pipeline_tests.serving.components import write


def test_a_folder_with_one_class_of_its_file_s_name_is_a_component(tmp_path: Path) -> None:
    assert folder.find_version(tmp_path) is None
    write(tmp_path, "class Other: ...", name="helper")
    assert folder.find_version(tmp_path) is None
    write(tmp_path, "class Model: ...", name="Model")
    assert folder.describe(tmp_path) == folder.Description("Model", "Model")
    assert bare.describe(tmp_path).framework == "python"
    write(tmp_path, "class Second: ...", name="Second")
    with pytest.raises(StartError, match="it has Model and Second"):
        folder.describe(tmp_path)
    named = folder.Description("parts.scoring", "Model", {"a": 1})
    folder.write(tmp_path, named)
    assert folder.describe(tmp_path) == named


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"class": 1}', '{"class": "x"}', '{"class": "../a:B"}']
)
def test_a_description_that_names_no_class_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / folder.COMPONENT).write_text(text)
    with pytest.raises(StartError, match=r'component.json must contain {"class": "MODULE:CLASS"'):
        folder.describe(tmp_path)


def test_a_lock_is_compared_with_what_is_installed() -> None:
    lock = f"""
    # a comment
    --index-url https://example.org
    numpy=={np.__version__} \\
        --hash=sha256:00
    numpy==0.1; python_version < "3"
    NumPy==0.2
    nowhere_at_all[extra] == 3.1 ; python_version > "3"
    scipy
    """
    assert list(folder.differences(lock)) == [
        f"NumPy 0.2 is required, but {np.__version__} is installed",
        "nowhere_at_all 3.1 is not installed",
    ]
    assert folder.describe_loose("a==1 \\\n  --hash=sha256:00\n# b\n") is None
    assert "'a==1'" in str(folder.describe_loose("a==1\n"))
    assert "'a>=1 --hash=sha256:0'" in str(folder.describe_loose("a>=1 --hash=sha256:0"))


def test_limits_are_parameters() -> None:
    read = options.read({"timeout": "2.5", "load_timeout": 60, "max_memory": "512Mi", "other": 1})
    assert (read.seconds, read.load_seconds, read.max_memory) == (2.5, 60.0, 512 << 20)
    assert 1 << 20 <= read.most_answer_bytes <= 256 << 20
    tight = options.read({"max_memory": "9999Gi"})
    assert tight.most_answer_bytes == 1 << 20  # Nothing is left for the server.
    assert options.read({}).seconds == 5
    assert 0 < options.read({}).max_memory < options.memory_here()
    invalid: tuple[tuple[str, Any], ...] = (
        ("timeout", "soon"),
        ("timeout", 0),
        ("timeout", None),
        ("timeout", 31),
        ("load_timeout", "nan"),
        ("max_memory", "1"),
        ("max_memory", "much"),
        ("max_memory", "5Ti"),
    )
    for name, value in invalid:
        with pytest.raises(StartError, match=f"The parameter {name} must be a number of"):
            options.read({name: value})


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1, 2]], ">i2"),
        np.zeros((0, 3)),
        np.array([True]),
        b"\0\xff",
        {"a": [1, None]},
        "ü",
    ],
    ids=str,
)
def test_values_are_the_same_on_the_other_side(value: Any) -> None:
    one, other = socket.socketpair()
    with one, other:
        wire.send(one, {"names": ["ü"]}, value)
        found = wire.receive(other, deadline=time.monotonic() + 5)
        assert found["names"] == ["ü"]
        assert np.array_equal(found["value"], value)
        with pytest.raises(TimeoutError):
            wire.receive(other, deadline=time.monotonic() + 0.01)
        one.sendall(b"\xff" * 16)
        with pytest.raises(wire.WireError, match="at most"):
            wire.receive(other, deadline=time.monotonic() + 5)
        one.close()
        with pytest.raises(wire.WireError):
            wire.receive(other, deadline=time.monotonic() + 5)


class Model:
    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def predict(self, X: Any, names: Any) -> Any:
        return X

    def tags(self) -> Any:
        return self.answers.get("tags")

    def metrics(self) -> Any:
        return self.answers.get("metrics")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"tags": 1}, "Model.tags returned a int as tags, expected a dict"),
        ({"tags": {"a": object()}}, "Model.tags returned a dict that JSON cannot hold"),
        ({"metrics": {}}, "expected a list, got a dict"),
        ({"metrics": [{"key": "a-b", "type": "GAUGE", "value": 1}]}, "its key is 'a-b'"),
        ({"metrics": [{"key": "mlops_x", "type": "GAUGE", "value": 1}]}, "its key is 'mlops_x'"),
        ({"metrics": [{"key": "a", "type": "SUM", "value": 1}]}, "type of a is 'SUM'; it must be"),
        ({"metrics": [{"key": "a", "type": "GAUGE", "value": "1"}]}, "value of a is '1'"),
        ({"metrics": [{"key": "a", "type": "GAUGE", "value": None}]}, "value of a is None"),
        ({"metrics": [{"key": "a", "type": "COUNTER", "value": -1}]}, "cannot be decreased by -1"),
        ({"metrics": [{"key": "a"}] * 101}, "101 metrics; at most 100"),
    ],
)
def test_invalid_tags_and_metrics_are_errors(answers: dict[str, Any], said: str) -> None:
    component = Component(Model(**answers), Guard("Model", Path()))
    with pytest.raises(ComponentError, match=said) as caught:
        component.predict([[1]], [], {})
    assert caught.value.status == 500


def test_a_metric_that_is_not_finite_is_left_out_and_the_answer_is_kept() -> None:
    metrics = [
        {"key": "a", "type": "GAUGE", "value": float("nan")},
        {"key": "b", "type": "GAUGE", "value": 1},
    ]
    component = Component(Model(metrics=metrics), Guard("Model", Path()))
    assert [metric["key"] for metric in component.predict([[1]], [], {}).metrics] == ["b"]


def test_the_labels_of_the_deployment_are_not_the_class_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELDON_DEPLOYMENT_ID", "ours")
    metrics = CustomMetrics()
    tags = {"deployment_name": "another", "kind": "red"}
    metrics.add([{"key": "a", "type": "GAUGE", "value": 1, "tags": tags}])
    ((sample,),) = [family.samples for family in metrics.collect()]
    assert (sample.labels["deployment_name"], sample.labels["kind"]) == ("ours", "red")


def test_only_seldon_s_own_errors_choose_their_status(capfd: pytest.CaptureFixture[str]) -> None:
    class OfAnotherServiceError(Exception):
        status_code = 404

    class Failing(Model):
        def predict(self, X: Any, names: Any) -> Any:
            raise X

    def status_of(error: Exception) -> int:
        with pytest.raises(ComponentError) as caught:
            Component(Failing(), Guard("Failing", Path())).predict(error, [], {})
        return caught.value.status

    assert status_of(seldon_names.SeldonMicroserviceException("no", status_code=404)) == 404
    assert capfd.readouterr().err == ""
    assert status_of(OfAnotherServiceError("a fault")) == 500
    assert "OfAnotherServiceError: a fault" in capfd.readouterr().err  # With its traceback.


def test_metrics_are_added_up_in_prometheus_types() -> None:
    registry, metrics = CollectorRegistry(), CustomMetrics()
    registry.register(metrics)
    for value in (1.0, 2.5):
        metrics.add(
            [
                {"key": "seen", "type": "COUNTER", "value": value, "tags": {"kind": "red"}},
                {"key": "level", "type": "GAUGE", "value": value},
                {"key": "took", "type": "TIMER", "value": value * 1000},
                {"key": "level", "type": "COUNTER", "value": 1},
            ]
        )
    values = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }
    assert values["seen_total", None] == 3.5
    metrics.add([{"key": "seen_total", "type": "COUNTER", "value": 1}])
    assert "seen_total_total" not in generate_latest(registry).decode()
    assert values["level", None] == 2.5
    assert (values["took_sum", None], values["took_count", None]) == (3.5, 2)
    assert values["took_bucket", "+Inf"] == 2
    text = generate_latest(registry).decode()
    assert text.count("# TYPE seen_total counter") == 1
    assert 'kind="red"' in text
    metrics.clear()
    assert list(metrics.collect()) == []
    many = [{"key": f"m{n}", "type": "GAUGE", "value": 1} for n in range(MOST_SERIES + 5)]
    metrics.add(many)
    assert len(list(metrics.collect())) == MOST_SERIES


def test_what_a_killed_server_leaves_is_deleted_at_its_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, place = write(tmp_path / "artifact", "class A: ...", name="A"), tmp_path / "a" / "b"
    monkeypatch.setenv(scratch.VARIABLE, str(place))
    made = scratch.make(artifact)
    assert made is not None
    assert (made.parent, (made / "A.py").read_text()) == (place, "class A: ...")
    (made / "written").write_text("by the class")
    scratch.clear()
    assert list(place.iterdir()) == []
    assert (artifact / "A.py").exists()
    monkeypatch.delenv(scratch.VARIABLE)
    scratch.clear()
    made = scratch.make(artifact)
    assert made is not None
    assert made.parent != place
    shutil.rmtree(made)
