"""What is found out about data and models for people to look at."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.catalog import describing, evaluating, worker
from mlops_pipeline.catalog.spec import Dataset, InvalidSpecError, ModelSpec
from mlops_pipeline_tests.toy import TOY, load


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
    assert summary["feature"] == "all 784, 140 of them constant"
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


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    labels = np.array([0, 0, 1, 1])
    report = evaluating.classification(TOY, labels, np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]]))
    low, high = report["classes"]
    assert (low["precision"], low["recall"], low["rows"]) == (0.5, 1.0, 2)
    assert (high["precision"], high["recall"], high["f1"]) == (0.0, 0.0, 0.0)
    assert report["confusion"] == [[2, 0], [2, 0]]
    one = evaluating.classification(TOY, np.zeros(2, dtype=int), np.array([[1.0, 0.0]] * 2))
    assert [row["roc_auc"] for row in one["classes"]] == [None, None]


def test_names_of_features_are_as_many_as_features() -> None:
    assert TOY.dataset.names() == ("x0", "x1")
    with pytest.raises(
        InvalidSpecError, match="feature_names has 1 names for 2 features; give one for each"
    ):
        replace(TOY, dataset=replace(TOY.dataset, feature_names=("length",)))


def test_what_describes_is_an_input_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    before = worker.fingerprint()
    monkeypatch.setattr(evaluating, "__file__", describing.__file__)
    assert worker.fingerprint() != before
