"""The schema of data: definitions, single values, and rows in files."""

import io
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.serving import cells
from mlops_pipeline.serving.artifact import Manifest, parse_manifest
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import conform
from mlops_pipeline.serving.schema import (
    CellError,
    Column,
    Schema,
    parse_schema,
)
from mlops_pipeline_tests.serving.toy_model import toy_signature

AGE = Column("age", range=(0, 120))
VISITS = Column("visits", "int")
CITY = Column("city", "category", categories=("Basel", "Bern"), nullable=True)
SCHEMA = Schema((AGE, VISITS, CITY, Column("vip", "bool"), Column("note", "string")))


@pytest.mark.parametrize(
    ("column", "value", "read"),
    [
        (AGE, 5, 5.0),
        (AGE, 5.5, 5.5),
        (VISITS, 3.0, 3),
        (CITY, "Bern", "Bern"),
        (CITY, None, None),
        (CITY, math.nan, None),
        (Column("floor", "category", categories=(1, 2)), 2.0, 2),
        (Column("vip", "bool"), 1, True),
        (Column("vip", "bool"), False, False),
        (Column("note", "string"), "", ""),
    ],
)
def test_a_value_is_read_in_the_type_of_its_column(
    column: Column, value: object, read: object
) -> None:
    found = column.read(value)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("column", "value", "reason", "sentence"),
    [
        (AGE, None, "MISSING_VALUE", "the value is missing, but this column is required"),
        (AGE, "5", "WRONG_TYPE", "expected a number from 0 to 120, got the string '5'"),
        (AGE, True, "WRONG_TYPE", "expected a number from 0 to 120, got the boolean true"),
        (AGE, 130, "OUT_OF_RANGE", "expected a number from 0 to 120, got 130"),
        (AGE, math.inf, "NOT_FINITE", "expected a number from 0 to 120, got inf"),
        (VISITS, 1.5, "WRONG_TYPE", "expected an integer, got the number 1.5"),
        (VISITS, 1 << 70, "OUT_OF_RANGE", "expected an integer of 64 bits, got a larger one"),
        (
            CITY,
            "Chur",
            "UNKNOWN_CATEGORY",
            "expected one of 'Basel', 'Bern', got the string 'Chur'",
        ),
        (CITY, 1, "WRONG_TYPE", "expected one of 'Basel', 'Bern', got the number 1"),
        (Column("vip", "bool"), "true", "WRONG_TYPE", "expected true or false, got the string"),
        (Column("note", "string"), {}, "WRONG_TYPE", "expected a string, got an object"),
        (Column("note", "string"), "\ud800", "WRONG_TYPE", "the string is not valid Unicode text"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is_expected(
    column: Column, value: object, reason: str, sentence: str
) -> None:
    with pytest.raises(CellError) as caught:
        column.read(value)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("column", "text", "read"),
    [
        (AGE, "5.5", 5.5),
        (VISITS, "3", 3),
        (CITY, "", None),
        (CITY, "Bern", "Bern"),
        (Column("vip", "bool"), "True", True),
        (Column("note", "string"), "12", "12"),
        (Column("note", "string"), "", ""),
        (Column("note", "string", nullable=True), "", None),
        (Column("floor", "category", categories=(1, 2)), "2", 2),
    ],
)
def test_text_is_parsed_as_its_column_says(column: Column, text: str, read: object) -> None:
    assert column.parse(text) == read


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (Schema(()), "columns is (); it must be a tuple of at least one Column"),
        (Schema((AGE, AGE)), "the column 'age' is defined twice"),
        (Schema((Column("a", "number"),)), "has the type 'number'; allowed: float, int, bool"),
        (Schema((Column(""),)), "has the name ''; it must be a string"),
        (Schema((Column("a", "category"),)), "needs a tuple of at least one value"),
        (Schema((Column("a", "category", ("b", 1)),)), "all strings or all integers"),
        (Schema((Column("a", "category", ("b", "b")),)), "they must differ"),
        (Schema((Column("a", categories=("b",)),)), "has categories, but is of type float"),
        (Schema((Column("a", range=(2, 1)),)), "has range=(2, 1); it must be (minimum, maximum)"),
        (Schema((Column("a", "string", range=(0, 1)),)), "only numbers have a range"),
        (Schema((CITY,), form="array"), "not every column is float, int or bool"),
        (Schema((AGE,), form="text"), "which has one column of type string"),
        (Schema((AGE,), form="frame"), "form is 'frame'; allowed: array, table, text"),
    ],
)
def test_an_invalid_schema_says_what_is_wrong(schema: Schema, fault: str) -> None:
    assert fault in "; ".join(schema.faults())


def test_a_schema_survives_the_manifest_and_changes_its_digest() -> None:
    plain = Manifest("m", "sklearn", {}, (), ())
    manifest = replace(plain, schema=SCHEMA)
    assert manifest.digest != plain.digest
    assert parse_manifest(manifest.to_json()) == manifest
    assert "schema" not in json.loads(plain.to_json()), "servers of earlier versions refuse it"
    assert parse_manifest(plain.to_json()).schema is None
    assert parse_schema(SCHEMA.as_json()) == SCHEMA
    with pytest.raises(ValueError, match="the column 'age' is defined twice"):
        parse_schema(asdict(Schema((AGE, AGE))))


ROWS: list[list[Any]] = [
    [5.5, 3, "Bern", True, "plain"],
    [7.0, 1 << 60, None, False, "«ü\n»"],
    [120.0, -1, "Basel", True, ""],
]


def test_rows_of_cells_survive_a_file_without_a_pickle(tmp_path: Path) -> None:
    table = cells.conform_cells(SCHEMA, cells.read_cells(ROWS, where="rows"))
    cells.save(tmp_path / "rows.npy", table)
    found = cells.load(tmp_path / "rows.npy")
    assert found.tolist() == ROWS
    assert [list(map(type, row)) for row in found.tolist()] == [
        list(map(type, row)) for row in ROWS
    ]
    texts = cells.as_objects(["a", "", "longer ü"])
    cells.save(tmp_path / "rows.npy", texts)
    assert cells.load(tmp_path / "rows.npy").tolist() == texts.tolist()
    numbers = np.array([[1.5, math.nan]])
    cells.save(tmp_path / "rows.npy", numbers)
    assert np.array_equal(cells.load(tmp_path / "rows.npy"), numbers, equal_nan=True)


def test_the_same_rows_are_the_same_bytes() -> None:
    table = cells.conform_cells(SCHEMA, cells.read_cells(ROWS, where="rows"))
    written = []
    for _ in range(2):
        file = io.BytesIO()
        arrays: dict[str, Any] = cells.pack("x", table)
        np.savez_compressed(file, **arrays)
        written.append(file.getvalue())
    assert written[0] == written[1]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04damaged", b"\x93NUMPY"])
def test_a_damaged_file_is_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.npy").write_bytes(content)
    with pytest.raises((OSError, ValueError, EOFError)):
        cells.load(tmp_path / "rows.npy")


def test_a_refusal_names_row_and_column() -> None:
    wrong = [ROWS[0], [*ROWS[1][:2], "Chur", *ROWS[1][3:]]]
    with pytest.raises(RequestError, match=r"row 2, column 'city': expected one of 'Basel', 'Be"):
        cells.conform_cells(SCHEMA, cells.read_cells(wrong, where="rows"))


def test_an_array_is_checked_by_column_and_integers_keep_their_digits() -> None:
    schema = Schema((AGE, Column("visits", "int", nullable=True)), form="array")
    cells.check_array(schema, np.array([[5.0, 3.0], [120.0, math.nan]]))
    for row, sentence in (
        ([math.nan, 1.0], "row 2, column 'age': the value is missing"),
        ([121.0, 1.0], "row 2, column 'age': expected a number from 0 to 120, got 121.0"),
        ([1.0, 1.5], "row 2, column 'visits': expected an integer"),
    ):
        with pytest.raises(RequestError, match=sentence):
            cells.check_array(schema, np.array([[1.0, 1.0], row]))


INTEGER = Column("n", "int")


@pytest.mark.parametrize(
    "values",
    [np.array([2**63], dtype=np.uint64), np.array([1e20]), np.array([float(2**60)])],
)
def test_integers_that_64_bits_or_a_float_cannot_hold_are_not_clean(values: Any) -> None:
    assert not cells.is_clean(INTEGER, values)
    with pytest.raises(CellError, match="expected an integer"):
        INTEGER.read(values.tolist()[0])


def test_digits_are_not_lost_silently() -> None:
    long = 2**53 + 1
    assert INTEGER.read(long) == long
    with pytest.raises(CellError, match=r"beyond 2\^53, it came as a float"):
        INTEGER.read(float(long))
    with pytest.raises(CellError, match=r"beyond 2\^53, it is a float where it may be missing"):
        Column("n", "int", nullable=True).read(long)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_limit_is_compared_in_the_type_of_the_value(dtype: Any) -> None:
    schema = Schema((Column("a", range=(0.1, 0.7)), Column("b", "bool")), form="array")
    rows = np.array([[0.1, 0], [0.7, 1]], dtype=dtype)
    cells.check_array(schema, rows)
    assert cells.is_clean(schema.columns[0], rows[:, 0])
    for value in rows[:, 0].tolist() if dtype != np.float16 else ():
        schema.columns[0].read(value)
    for wrong in (0.099, 0.701, math.inf):
        with pytest.raises(RequestError, match=r"row 1, column 'a': expected a number from 0\.1"):
            cells.check_array(schema, np.array([[wrong, 0]], dtype=dtype))


def test_many_columns_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = Schema(tuple(Column(f"c{n}", range=(0, 255)) for n in range(784)), form="array")
    monkeypatch.setattr(cells, "is_clean", None)  # What checks one column is not called.
    cells.check_array(schema, np.full((2, 784), 255.0))


def test_a_missing_value_of_an_array_is_refused_with_its_place() -> None:
    schema = Schema((Column("a"), Column("b", nullable=True)), form="array")
    signature = replace(toy_signature(), schema=schema, row_shape=(2,), takes_missing=True)
    assert math.isnan(conform(signature, np.array([[1.0, math.nan]]))[0, 1])
    with pytest.raises(RequestError, match="row 2, column 'a': the value is missing"):
        conform(signature, np.array([[1.0, 1.0], [math.nan, 1.0]]))


def test_another_integer_is_in_its_range() -> None:
    column = Column("n", "int", range=(0.5, 2.5))
    assert [column.other(1), column.other(2)] == [2, 1]


def test_another_row_is_allowed_and_differs_in_each_column() -> None:
    table = cells.conform_cells(SCHEMA, cells.read_cells(ROWS, where="rows"))
    other = cells.another_row(SCHEMA, table)
    assert cells.conform_cells(SCHEMA, other).tolist() == other.tolist()
    assert all(one != two for one, two in zip(table[0], other[0], strict=True))


def test_neither_a_server_of_numbers_nor_the_definitions_import_pandas() -> None:
    program = (
        "import sys; import mlops_pipeline.serving.server, mlops_pipeline.catalog.worker, "
        "mlops_pipeline.serving.sklearn_loader, mlops_pipeline.cli.predict; "
        "print([name for name in ('pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("fields", "datatype"),
    [
        ({"categories": (1, 2)}, "INT64"),
        ({"categories": (1, 2), "nullable": True}, "FP64"),
        ({"categories": ("a", "b"), "nullable": True}, "BYTES"),
    ],
)
def test_a_missing_category_has_a_value_in_its_datatype(
    fields: dict[str, Any], datatype: str
) -> None:
    column = Column("c", "category", **fields)
    assert cells.datatype(column) == datatype
    if datatype == "FP64":
        assert [column.read(value) for value in (1.0, math.nan)] == [1, None]
