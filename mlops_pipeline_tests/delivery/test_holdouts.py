"""A hold-out file is read, or refused with what is wrong in it, before anything is stored."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.holdout_files import read_holdout
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.criteria import dataset_criteria, describe_holdout_problems
from mlops_pipeline.delivery.holdouts import describe_no_file
from mlops_pipeline.delivery.offered_files import find_files
from mlops_pipeline.delivery.references import DatasetRef
from mlops_pipeline_tests.table_toy import TABLE
from mlops_pipeline_tests.toy import TOY

X = np.arange(20.0).reshape(10, 2)
Y = np.array([0] * 5 + [1] * 5)
NAMES = np.array(["low"] * 5 + ["high"] * 5)


def problems(spec: ModelSpec, file: Path, place: Path) -> str:
    """Return what is wrong with a hold-out file, by the code of the process that reads it."""
    try:
        worker.write_holdout(spec, file, place / "read")
    except (ValueError, TypeError) as error:
        return str(error)
    found = worker.read_dataset(place / "read" / worker.DATA)
    return "; ".join(describe_holdout_problems(spec, worker.profile(spec, found)["test"]))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X, "y": Y}, ""),
        ({"x": X, "y": NAMES}, ""),
        ({"x": X.astype(np.float32), "y": Y.astype(np.float64)}, ""),
        ({"x": np.ones((10, 3)), "y": Y}, "expected shape [n, 2], got [10, 3]"),
        ({"x": X[:, 0], "y": Y}, "expected shape [n, 2], got [10]"),
        ({"x": X, "y": Y[:9]}, "expected targets of shape [10], got [9]"),
        ({"x": np.where(X == 3, np.nan, X), "y": Y}, "1 values are missing or infinite"),
        ({"x": X, "y": np.where(Y == 1, np.nan, Y)}, "5 labels belong to unknown classes"),
        ({"x": X, "y": Y + 1}, "5 labels belong to unknown classes"),
        ({"x": X, "y": np.array(["middle"] * 10)}, "must contain numbers, or ('low', 'high')"),
        ({"x": np.full((10, 2), "a"), "y": Y}, "x of the dataset of toy must contain numbers"),
        ({"x": np.full((10, 2), None), "y": Y}, "as .npz: "),
        ({"x": X[:0], "y": Y[:0]}, "expected shape [n, 2], got [0, 2]"),
    ],
)
def test_arrays_are_read_or_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    file = tmp_path / "holdout.npz"
    np.savez(file, **arrays)
    found = problems(TOY, file, tmp_path)
    assert said in found if said else found == ""


ROWS = "".join(f"{a:g},{b:g},{t}\n" for (a, b), t in zip(X.tolist(), NAMES, strict=True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"x0,x1,target\n{ROWS}", ""),
        (f"x0,x1,target\n{ROWS.replace('low', '0').replace('high', '1')}", ""),
        (f"x0,x1,target\n{ROWS.replace('low', '0.0').replace('high', '1.0')}", ""),
        (f"x0,x1,target\n{ROWS},3,low\n", "1 values are missing or infinite"),
        (f"x0,x1,target\n{ROWS}1,2,\n", "must contain numbers, or ('low', 'high')"),
        (f"x0,x1,target\n{ROWS}1,2\n", "line 12 has 2 fields, and the header has 3; quote"),
        (f"x0,x1,target\n{ROWS}1,2,low,9\n", "line 12 has 4 fields, and the header has 3; quote"),
        (f"x0,target,target\n{ROWS}", "has the column target twice; remove one"),
        (f"x0;x1;target\n{ROWS.replace(',', ';')}", "x0, x1 and target, with commas between"),
        (f"x0,target\n{ROWS}", "has the columns x0, target, but not x1; a hold-out file of toy"),
    ],
)
def test_a_csv_is_read_or_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "My holdout.CSV"
    file.write_text(content)
    found = problems(TOY, file, tmp_path)
    assert said in found if said else found == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("city,size,target\nBern,,no\nBasel,1,yes\n", ""),
        ('city,size,target\n"Bern",,no\n"Basel\n",1,yes\n', "line 4, column city: expected one"),
        ("city,size,target\n,1,no\n", "line 2, column city: the value is missing"),
        ("city,size,target\nBern,nan,no\nBasel,1,yes\n", ""),
        ("city,size,target\nBern,inf,no\n", "line 2, column size: expected a number from 0 to"),
        ("city,size,target\nBern\n", "line 2 has 1 fields, and the header has 3"),
    ],
)
def test_a_table_is_read_or_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "holdout.csv"
    file.write_text(content)
    found = problems(TABLE, file, tmp_path)
    assert said in found if said else found == ""


@pytest.mark.parametrize("name", ["holdout.parquet", "holdout"])
def test_another_format_is_refused_with_those_that_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1\x15\x04")
    with pytest.raises(ValueError, match=r"write it with numpy\.savez.*, or give a \.csv"):
        read_holdout(TOY, tmp_path / name)
    with pytest.raises(ValueError, match=r"is not a \.csv; a hold-out file of table is a table"):
        read_holdout(TABLE, tmp_path / name)
    assert "is a folder; give a .csv or .npz" in describe_no_file(tmp_path)
    assert "nowhere does not exist" in describe_no_file(tmp_path / "nowhere")


def test_names_with_capitals_and_spaces_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "My Model"
    (folder / "Further Parts").mkdir(parents=True)
    (folder / "model.joblib").write_text("weights")
    (folder / "Further Parts" / "Part A.bin").write_text("weights")
    assert find_files(folder, TOY).files.keys() == {"model.joblib", "Further Parts/Part A.bin"}
    (folder / "model.joblib").unlink()
    (folder / "model.joblib").mkdir()
    with pytest.raises(ConfigurationError, match=r"has Further Parts, model\.joblib"):
        find_files(folder, TOY)


@pytest.mark.parametrize("absent", [{}, {worker.ABSENT: {"city": ["Basel"], "code": [1, 2]}}])
def test_a_category_that_was_never_learned_is_a_warning(absent: dict[str, Any]) -> None:
    part = {"shape": [10, 2], "label_shape": [10], "minimum": 0, "maximum": 0}
    profile = {"train": part | absent, "test": part}
    datasets = SimpleNamespace(profile=lambda _: profile)
    judge: Any = SimpleNamespace(datasets=datasets)
    ref = DatasetRef("table", "s3://datasets/table/a", "a")
    verdict = dataset_criteria(TABLE)[0].decide(judge, ref)
    assert verdict.passed
    warning = verdict.metadata.get("warning", "")
    assert ("city: 'Basel'; code: 1, 2. Remove them" in warning) is bool(absent)
