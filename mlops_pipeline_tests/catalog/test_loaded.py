"""Datasets with a schema: checked when they are loaded, stored, described, given to training."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline.catalog import describing, loaded, worker
from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.spec import Dataset, DatasetSpec, InvalidSpecError, ModelSpec
from mlops_pipeline.delivery.criteria import schema_problems
from mlops_pipeline.serving.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("age", range=(0, 120)),
        Column("visits", "int"),
        Column("city", "category", categories=("Basel", "Bern"), nullable=True),
        Column("score", "int", nullable=True),
        Column("vip", "bool"),
        Column("note", "string", nullable=True),
    )
)


def frame(**changes: Any) -> Any:
    columns: dict[str, Any] = {
        "note": ["a", None, "ü"],
        "age": [1, 2, 3],
        "visits": [1.0, 2.0, 3.0],
        "city": ["Bern", None, "Basel"],
        "score": [1.0, math.nan, 3.0],
        "vip": [True, False, True],
    }
    return pd.DataFrame({**columns, **changes}, index=[10, 11, 12])


def test_a_frame_is_given_to_the_training_in_the_types_of_its_schema() -> None:
    cells = loaded.checked(SCHEMA, frame(), where="x_train")
    assert cells.tolist() == [
        [1.0, 1, "Bern", 1, True, "a"],
        [2.0, 2, None, None, False, None],
        [3.0, 3, "Basel", 3, True, "ü"],
    ]
    given = loaded.given(SCHEMA, cells)
    assert list(given.columns) == list(SCHEMA.names)
    kinds = [str(kind) for kind in given.dtypes]
    assert kinds == ["float64", "int64", "category", "float64", "bool", "object"]
    assert list(given["city"].cat.categories) == ["Basel", "Bern"]
    assert given["note"].tolist() == ["a", None, "ü"]


@pytest.mark.parametrize(
    "changes",
    [
        {"city": pd.Categorical(["Bern", None, "Basel"])},
        {"city": pd.array(["Bern", None, "Basel"], dtype="str")},
        {"score": pd.array([1, None, 3], dtype="Int64")},
        {"vip": np.array([1, 0, 1], dtype=np.int8)},
        {"age": np.array([1, 2, 3], dtype=np.float32)},
        {"visits": np.array([1, 2, 3], dtype=object)},
    ],
)
def test_other_types_of_pandas_with_the_same_values_are_the_same_cells(
    changes: dict[str, Any],
) -> None:
    expected = loaded.checked(SCHEMA, frame(), where="x").tolist()
    assert loaded.checked(SCHEMA, frame(**changes), where="x").tolist() == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"age": [1, 130, 3]},
            r"x_train, row 2 \(index 11\), column 'age': expected a number from 0 to 120, got 130",
        ),
        ({"age": [1, 2, math.nan]}, r"row 3 \(index 12\), column 'age': the value is missing"),
        ({"age": ["1", 2, 3]}, r"row 1 \(index 10\), column 'age': expected a number .* string '1"),
        ({"city": ["Bern", "Chur", None]}, r"row 2 .*, column 'city': expected one of 'Basel', 'B"),
        ({"visits": [1.5, 2, 3]}, r"row 1 .*, column 'visits': expected an integer, got the numb"),
        ({"vip": [True, None, False]}, r"row 2 .*, column 'vip': the value is missing"),
        ({"note": ["a", 5, "b"]}, r"row 2 .*, column 'note': expected a string, got the number 5"),
        ({"more": [1, 2, 3]}, "the columns of x_train are not those of the schema: unexpected 'm"),
        (
            {"age": pd.to_datetime(["2026-01-01"] * 3)},
            r"row 1 .*, column 'age': expected a number from 0 to 120, got a value of type Timest",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_row_and_column_when_the_data_are_loaded(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        loaded.checked(SCHEMA, frame(**changes), where="x_train")


def test_a_missing_column_and_something_else_than_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not those of the schema: missing 'vip'$"):
        loaded.checked(SCHEMA, frame().drop(columns="vip"), where="x_train")
    with pytest.raises(TypeError, match="x_train is ndarray; expected a pandas DataFrame"):
        loaded.checked(SCHEMA, np.zeros((2, 6)), where="x_train")


@pytest.mark.parametrize(
    "rows",
    [
        ["a", "ü"],
        ("a", "ü"),
        np.array(["a", "ü"]),
        np.array([["a"], ["ü"]]),
        pd.Series(["a", "ü"], index=[5, 6]),
        pd.Series(["a", "ü"], dtype="str"),
    ],
)
def test_strings_of_any_sequence_are_given_as_an_array_of_strings(rows: Any) -> None:
    cells = loaded.checked(Schema.text(), rows, where="x_train")
    assert loaded.given(Schema.text(), cells).tolist() == ["a", "ü"]
    assert {type(text) for text in cells.tolist()} == {str}


def test_wrong_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="x_test, row 2, column 'text': expected a string, got th"):
        loaded.checked(Schema.text(), ["a", 5], where="x_test")
    with pytest.raises(ValueError, match="x_test, row 2, column 'text': the value is missing"):
        loaded.checked(Schema.text(), ["a", None], where="x_test")
    with pytest.raises(TypeError, match="x_test is str; expected a list of strings"):
        loaded.checked(Schema.text(), "a", where="x_test")


NUMBERS = Schema((Column("a", range=(0, 9)), Column("b", nullable=True)), form="array")


def test_numbers_may_be_missing_only_where_the_schema_says_so() -> None:
    rows = np.array([[1.0, 2.0], [3.0, math.nan]])
    assert loaded.checked(NUMBERS, rows, where="x") is rows
    for row, sentence in (
        ([math.nan, 1.0], "x, row 3, column 'a': the value is missing"),
        ([10.0, 1.0], "x, row 3, column 'a': expected a number from 0 to 9, got 10"),
        ([1.0, math.inf], "x, row 3, column 'b': expected a number, got inf"),
    ):
        with pytest.raises(ValueError, match=sentence):
            loaded.checked(NUMBERS, np.array([*rows.tolist(), row]), where="x")


def spec_of(schema: Schema, rows: Any, **fields: Any) -> ModelSpec:
    def load(_: object) -> Dataset:
        labels = [n % 2 for n in range(len(rows))]
        return Dataset(rows, labels, rows, labels)  # type: ignore[arg-type]

    dataset = DatasetSpec(load=load, classes=("no", "yes"), schema=schema)
    unset: dict[str, Any] = {"output_names": (), "example": ()}
    return replace(IRIS, dataset=dataset, **{**unset, **fields})


@pytest.mark.parametrize(
    ("schema", "rows"),
    [
        (SCHEMA, frame()),
        (Schema.text(), ["a", "b", "c c"]),
        (NUMBERS, np.array([[1.0, 2.0], [3.0, math.nan], [4.0, 4.0]])),
    ],
    ids=["table", "text", "array"],
)
def test_a_dataset_is_stored_profiled_and_described(
    tmp_path: Path, schema: Schema, rows: Any
) -> None:
    spec = spec_of(schema, rows)
    worker.write_dataset(spec, None, tmp_path)
    dataset = worker.read_dataset(tmp_path / worker.DATA)
    expected = loaded.checked(schema, rows, where="x")
    assert np.array_equal(dataset.x_test, expected, equal_nan=schema is NUMBERS)
    profile = json.loads((tmp_path / worker.PROFILE).read_text())
    assert profile["train"]["shape"] == [3, *schema.row_shape]
    assert profile["train"]["missing"] == 0
    assert schema_problems(spec.dataset, profile) == []
    described = json.loads((tmp_path / describing.DESCRIPTION).read_text())
    assert "problems" not in described
    assert [row["feature"] for row in described["features"]] == list(schema.names)
    assert (tmp_path / describing.HISTOGRAMS).stat().st_size > 1000
    first = (tmp_path / worker.DATA).read_bytes()
    worker.write_dataset(spec, None, tmp_path)
    assert (tmp_path / worker.DATA).read_bytes() == first, "the same data is the same bytes"
    missing = {row["feature"]: row["missing"] for row in described["features"]}
    assert {name for name, count in missing.items() if count} == {
        column.name for column in schema.columns if column.nullable
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": Schema((Column("a", "text"),))}, "dataset.schema: column 1 ('a') has the type"),
        ({"schema": "table"}, "dataset.schema is 'table'; it must be a Schema or None"),
        ({"schema": SCHEMA, "features": 3}, "dataset.features is 3, but the schema has 6 columns"),
        ({"schema": SCHEMA, "value_range": (0, 1)}, "dataset.value_range is set beside a schema"),
        ({"schema": SCHEMA, "feature_names": ("a",) * 6}, "feature_names differ from the columns"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_spec(
    fields: dict[str, Any], reason: str
) -> None:
    dataset = replace(IRIS.dataset, features=0, value_range=None, feature_names=())
    with pytest.raises(InvalidSpecError) as caught:
        replace(IRIS, example=(), dataset=replace(dataset, **fields))
    assert reason in "; ".join(caught.value.reasons)


def test_an_example_and_a_framework_must_fit_the_schema() -> None:
    row = (1.0, 1, "Bern", None, True, None)
    assert spec_of(SCHEMA, frame(), example=row).dataset.features == 6
    for fields, reason in (
        (
            {"example": (1.0, 1, "Chur", None, True, None)},
            "example, column 'city': expected one",
        ),
        ({"example": row[:2]}, "it must be a tuple with a value for each column"),
        ({"example": "text"}, "it must be a tuple with a value for each column"),
    ):
        with pytest.raises(InvalidSpecError) as caught:
            spec_of(SCHEMA, frame(), **fields)
        assert reason in str(caught.value)
    server = replace(IRIS.server, implementation="PYTHON_SERVER")
    with pytest.raises(InvalidSpecError, match="for a table, which a Python component model does"):
        spec_of(SCHEMA, frame(), framework="python", server=server)
