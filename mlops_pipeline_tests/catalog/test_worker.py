"""What the worker makes of the data that a model's `load` returns. No process is started."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog.spec import Dataset, ModelSpec
from mlops_pipeline.catalog.worker import ABSENT, DATA, PROFILE, write_dataset
from mlops_pipeline_tests.table_toy import TABLE
from mlops_pipeline_tests.toy import TOY

X = [[1.0, 2.0], [3.0, 4.0]]


def loading(**changes: Any) -> ModelSpec:
    """Return the toy model with a dataset of two rows, of which something is changed."""
    parts: dict[str, Any] = {"x_train": X, "y_train": [0, 1], "x_test": X, "y_test": [1, 0]}
    data = Dataset(**parts | changes)
    return replace(TOY, dataset=replace(TOY.dataset, load=lambda _file: data))


def test_names_of_classes_become_their_numbers(tmp_path: Path) -> None:
    spec = loading(y_train=["high", "low"], y_test=np.array(["low", "high"], dtype=object))
    write_dataset(spec, None, tmp_path)
    with np.load(tmp_path / DATA) as arrays:
        assert arrays["y_train"].tolist() == [1, 0]
        assert arrays["y_test"].tolist() == [0, 1]
    assert json.loads((tmp_path / PROFILE).read_text())["train"]["unknown_labels"] == 0


def test_rows_of_texts_that_are_numbers_are_read(tmp_path: Path) -> None:
    write_dataset(loading(x_train=[["1", "2.5"], ["3", "4"]]), None, tmp_path)
    with np.load(tmp_path / DATA) as arrays:
        assert arrays["x_train"].tolist() == [[1.0, 2.5], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"x_test": [["a", "b"], ["c", "d"]]},
            "x_test of the dataset of toy must contain numbers: .*'a'",
        ),
        (
            {"y_train": ["low", "middle"]},
            r"y_train of .* must contain numbers, or \('low', 'high'\)",
        ),
        ({"x_train": [[None, {}], [1, 2]]}, "x_train of the dataset of toy must contain numbers"),
    ],
)
def test_a_value_that_is_not_a_number_is_named(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_dataset(loading(**changes), None, tmp_path)


def test_a_category_that_no_training_row_has_is_named(tmp_path: Path) -> None:
    import pandas as pd

    frame: Any = pd.DataFrame({"size": [1.0, 2.0], "city": ["Bern", "Bern"]})
    both: Any = pd.DataFrame({"size": [1.0, 2.0], "city": ["Bern", "Basel"]})
    y = np.array([0, 1])
    dataset = replace(TABLE.dataset, load=lambda _: Dataset(frame, y, both, y))
    write_dataset(replace(TABLE, dataset=dataset), None, tmp_path)
    profile = json.loads((tmp_path / PROFILE).read_bytes())
    assert profile["train"][ABSENT] == {"city": ["Basel"]}
    assert ABSENT not in profile["test"]
    write_dataset(TABLE, None, tmp_path)
    assert ABSENT not in json.loads((tmp_path / PROFILE).read_bytes())["train"]
