"""What is found out about data and models for people to look at."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog import describing, evaluating, worker
from mlops_pipeline.catalog.spec import Dataset, InvalidSpecError, ModelSpec, TrainedModel
from mlops_pipeline.catalog.tasks import classification
from mlops_pipeline.catalog.tasks.classification import CONFUSION_MATRIX, ROC_AND_CALIBRATION
from mlops_pipeline_tests.toy import TOY, load

PLOTS = (CONFUSION_MATRIX, ROC_AND_CALIBRATION, evaluating.TRAINING_CURVES)


def _described(
    spec: ModelSpec, dataset: Dataset, folder: Path
) -> dict[str, list[dict[str, object]]]:
    describing.write_description(spec, dataset, folder)
    return dict(json.loads((folder / describing.DESCRIPTION).read_text()))


def test_missing_values_are_counted_and_left_out(tmp_path: Path) -> None:
    data = load(None)
    holed = data.x_train.copy()
    holed[0, 0], holed[1, 0] = np.nan, np.inf
    found = _described(TOY, replace(data, x_train=holed), tmp_path)
    first, second = found["features"]
    assert (first["missing"], first["min"], first["max"]) == (2, 4.0, 18.0)
    assert (second["missing"], second["min"]) == (0, 1.0)
    assert found["samples"][0]["x0"] is None


def test_images_are_shown_as_images_small_enough_to_be_seen_at_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(7).random((200, 784)) * (np.arange(784) % 28 > 4)
    labels = np.arange(200) % 10
    digits = replace(
        TOY, dataset=replace(TOY.dataset, features=784, classes=tuple("0123456789")), example=()
    )
    found = _described(digits, Dataset(pixels, labels, pixels, labels), tmp_path)
    (summary,) = found["features"]
    assert summary["feature"] == "all 784, 140 constant"
    assert found["samples"] == []
    assert not (tmp_path / describing.HISTOGRAMS).exists()
    png = (tmp_path / describing.SAMPLE_IMAGES).read_bytes()
    import matplotlib.image

    shown = matplotlib.image.imread(tmp_path / describing.SAMPLE_IMAGES)
    assert shown.shape[:2] == (28, 280)
    assert set(np.unique(shown[:, :28])) == {0.0, 1.0}
    assert (shown[:, :5] == 1).all()  # what is dark in the data is white
    assert len(png) < 1500  # random pixels: those of digits compress to a third


def test_data_that_the_checks_will_refuse_is_not_described(tmp_path: Path) -> None:
    data = load(None)
    for number, x_train in enumerate((data.x_train[:0], data.x_train[:, 0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert _described(TOY, replace(data, x_train=x_train), folder) == {
            "features": [],
            "samples": [],
        }


def test_a_sketch_is_empty_where_nothing_is() -> None:
    assert describing.sketch(np.array([8, 0, 4, 1])) == "█\u2007▅▂"
    assert describing.sketch(np.zeros(2)) == "\u2007\u2007"


MOST = np.finfo(np.float64).max
EXTREMES = {
    "constant": (1e16, 1e16, 1e16, 1e16),
    "constant at the end": (MOST, MOST, MOST, MOST),
    "next to each other": (1e16, 1e16 + 2, 1e16, 1e16 + 2),
    "range overflows": (-MOST, MOST, 0, 1),
    "sum overflows": (MOST, MOST, MOST, MOST / 2),
    "smallest": (5e-324, 1e-323, 0, 0),
    "longer floats": np.array(["1e400", "1", "2", "3"], dtype=np.longdouble),
    "zeros": (0, 0, 0, 0),
    "booleans": (True, False, True, True),
    "all missing": (np.nan, np.inf, -np.inf, np.nan),
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_numbers_of_any_size_are_described(values: tuple[float, ...], tmp_path: Path) -> None:
    rows = np.stack([np.asarray(values), np.asarray((1, 2, 3, 4))], axis=1)
    labels = np.array([0, 1, 0, 1])
    for number, spec in enumerate((TOY, _of_many_features())):
        wide = rows if number == 0 else np.repeat(rows, 20, axis=1)
        folder = tmp_path / str(number)
        folder.mkdir()
        found = _described(spec, Dataset(wide, labels, wide, labels), folder)
        assert "problems" not in found
        first = found["features"][0]
        assert len(str(first["distribution"])) == 12
        shown = [first[name] for name in ("min", "mean", "std", "max")]
        assert all(value is None or np.isfinite(float(str(value))) for value in shown)
    assert (tmp_path / "0" / describing.HISTOGRAMS).is_file()


def _of_many_features() -> ModelSpec:
    return replace(TOY, dataset=replace(TOY.dataset, features=40), example=())


def test_statistics_of_large_numbers_are_right(tmp_path: Path) -> None:
    column = np.array([1e308, 1.5e308, 1.5e308, -1e308])
    rows, labels = np.stack([column, column * 0 + 7], axis=1), np.array([0, 1, 0, 1])
    first, second = _described(TOY, Dataset(rows, labels, rows, labels), tmp_path)["features"]
    assert (first["min"], first["max"]) == (-1e308, 1.5e308)
    assert first["mean"] == 0.75e308
    assert float(str(first["std"])) == pytest.approx(np.std(column / 1e308) * 1e308, rel=1e-5)
    assert first["distribution"] == "▅" + 8 * "\u2007" + "▅\u2007█"
    assert (second["min"], second["mean"], second["std"], second["max"]) == (7, 7, 0, 7)


def test_names_may_contain_matplotlib_formulas(tmp_path: Path) -> None:
    names, classes = ("cost_$_per_$^x_", "_"), ("$\\nothing{$", "$$")
    spec = replace(TOY, dataset=replace(TOY.dataset, feature_names=names, classes=classes))
    data = load(None)
    assert "problems" not in _described(spec, data, tmp_path)
    assert (tmp_path / describing.HISTOGRAMS).is_file()
    scores = np.eye(2)[data.y_test]
    evaluating.evaluate(spec, data, scores, _trained({"loss": [1.0]}), tmp_path)
    assert "problems" not in json.loads((tmp_path / evaluating.TABLES).read_text())
    assert all((tmp_path / name).is_file() for name in PLOTS)


def _trained(history: dict[str, Any]) -> TrainedModel:
    return TrainedModel(predict=lambda rows: rows, inputs=(), outputs=(), history=history)


def test_a_failed_plot_does_not_fail_a_dataset_or_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("no bins")

    data = load(None)
    for name in ("_statistics", "_plot_histograms"):
        monkeypatch.setattr(describing, name, fail)
    worker.write_dataset(TOY, None, tmp_path)
    assert json.loads((tmp_path / describing.DESCRIPTION).read_text()) == {
        "features": [],
        "samples": [],
        "problems": [
            "could not describe the features: IndexError: no bins",
            "could not draw histograms.png: IndexError: no bins",
        ],
    }
    monkeypatch.setattr(classification, "_area", fail)
    monkeypatch.setattr(classification, "save", fail)
    monkeypatch.setattr(evaluating, "save", fail)
    scores = np.eye(2)[data.y_test]
    evaluating.evaluate(TOY, data, scores, _trained({"loss": ["a"]}), tmp_path)
    report = json.loads((tmp_path / evaluating.TABLES).read_text())
    assert [problem.split(":")[0] for problem in report["problems"]] == [
        "could not evaluate the predictions",
        *(f"could not draw {name}" for name in PLOTS),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("data.npz", "description.json", "holdout.npz", "profile.json", "tables.json")
    ]


def test_many_classes_are_drawn_without_their_numbers(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(40))
    spec = replace(TOY, dataset=replace(TOY.dataset, classes=names))
    labels = np.arange(40)
    data = replace(load(None), x_test=np.zeros((40, 2)), y_test=labels)
    evaluating.evaluate(spec, data, np.eye(40), _trained({}), tmp_path)
    assert "problems" not in json.loads((tmp_path / evaluating.TABLES).read_text())
    assert (tmp_path / CONFUSION_MATRIX).is_file()
    assert not (tmp_path / evaluating.TRAINING_CURVES).exists()


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]])
    report = TOY.task.tables(labels, scores, TOY.dataset)
    low, high = report["per_class"]
    assert (low["precision"], low["recall"], low["rows"]) == (0.5, 1.0, 2)
    assert (high["precision"], high["recall"], high["f1"]) == (0.0, 0.0, 0.0)
    assert [list(row.values()) for row in report["confusion"]] == [["low", 2, 0], ["high", 2, 0]]
    one = TOY.task.tables(np.zeros(2, dtype=int), np.array([[1.0, 0.0]] * 2), TOY.dataset)
    assert [row["roc_auc"] for row in one["per_class"]] == [None, None]


def test_names_of_features_are_as_many_as_features() -> None:
    assert TOY.dataset.names() == ("x0", "x1")
    with pytest.raises(
        InvalidSpecError, match="feature_names has 1 names for 2 features; give one for each"
    ):
        replace(TOY, dataset=replace(TOY.dataset, feature_names=("length",)))


def test_the_description_code_is_an_input_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    before = worker.fingerprint()
    monkeypatch.setattr(evaluating, "__file__", describing.__file__)
    assert worker.fingerprint() != before
