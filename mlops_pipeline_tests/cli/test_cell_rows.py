"""Rows of a table and of strings for `predict`."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.spec import DatasetSpec, ModelSpec
from mlops_pipeline.cli.predict import read_rows
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.serving.schema import Column, Schema

TABLE = Schema(
    (
        Column("age", range=(0, 120)),
        Column("City", "category", categories=("Basel", "Bern"), nullable=True),
        Column("note", "string"),
    )
)


def spec(schema: Schema, example: tuple[Any, ...] = ()) -> ModelSpec:
    dataset = DatasetSpec(load=lambda _: IRIS.dataset.load(None), classes=("a", "b"), schema=schema)
    return replace(IRIS, dataset=dataset, output_names=(), example=example)


ROWS = ((5.5, "Bern", "a, b"), (7.0, None, ""))
LISTS = [list(row) for row in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        'age,city,note\n5.5,Bern,"a, b"\n7,,\n',
        'note;age;city\n"a, b";5.5;Bern\n;7;\n',
        '5.5,Bern,"a, b"\n7,,\n',
        '\ufeffage\tcity\tnote\r\n5.5\tBern\ta, b\r\n7\t\t\r\n',
        json.dumps(LISTS),
        json.dumps({"data": {"ndarray": LISTS}}),
        json.dumps({"data": {"names": ["note", "age", "City"], "ndarray": [
            ["a, b", 5.5, "Bern"], ["", 7, None]]}}),
        json.dumps([dict(zip(("age", "City", "note"), row, strict=True)) for row in ROWS]),
        json.dumps({"instances": LISTS}),
        json.dumps([{"note": "a, b", "City": "Bern", "age": 5.5},
                    {"City": None, "age": 7, "note": ""}]),
        json.dumps({"inputs": {"note": ["a, b", ""], "age": [[5.5], [7]], "City": ["Bern", None]}}),
        json.dumps({"jsonData": {"instances": LISTS}}),
        json.dumps({"dataframe_split": {"columns": ["note", "age", "City"], "data": [
            ["a, b", 5.5, "Bern"], ["", 7, None]]}}),
        json.dumps({"inputs": [
            {"name": name, "datatype": "BYTES", "shape": [2, 1], "data": [[r[n]] for r in ROWS]}
            for n, name in enumerate(TABLE.names)]}),
        '5.5,Bern,"a, b"\n7,,\n\n',
        json.dumps({"inputs": [
            {"name": name, "datatype": "BYTES", "shape": [2, 1], "data": [r[n] for r in ROWS]}
            for n, name in enumerate(TABLE.names)]}),
    ],
)  # fmt: skip
def test_rows_of_a_table_are_read_from_any_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
    assert read_rows(spec(TABLE), (), file).values == ROWS


def test_rows_of_a_table_are_typed_and_the_example_is_the_default() -> None:
    typed = read_rows(spec(TABLE), ('5.5,Bern,"a, b"', "7,,"), None)
    assert typed.values == ROWS
    assert read_rows(spec(TABLE, ROWS[0]), (), None).values == ROWS[:1]
    assert read_rows(spec(TABLE), (), None).values == ()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("age,city,note\n5,Bern,a\n5,Chur,a\n", "line 3, column 'City': expected one of 'Basel', "),
        ("age,city,note\nx,Bern,a\n", "line 2, column 'age': expected a number from 0 to 120, got"),
        ("age,city,note\n,Bern,a\n", "line 2, column 'age': the value is missing"),
        ("age,city\n5,Bern\n", "missing columns: note. The model has the columns age, City, note"),
        ("age,city,note,more\n5,Bern,a,1\n", "unexpected columns: more. The model has"),
        ("5,Bern\n", "line 1 has 2 values; expected 3: age, City, note"),
        ("age,city,note\n5,Bern,a,b\n", "line 2 has 4 values; expected 3: age, city, note"),
        ("age,city,note\n", "contains no rows"),
        ('[[5, "Bern"', "line 1, column 12: invalid JSON"),
        ('[[5, "Bern", 7]]', "row 1, column 'note': expected a string, got the number 7"),
        ('{"rows": []}', "has rows; expected a list of rows, or a Seldon"),
        ('[{"age": 5}, {"city": 5}]', "row 2 has city, and row 1 has age; write"),
        ('[{"age": 5, "City": null, "note": ""}, 7]', "row 2 is 7, and row 1 has age, City, note"),
        ('{"inputs": {"age": [5, 6], "City": ["Bern"]}}', "2 in age, 1 in City"),
        ('{"inputs": {"age": 5}}', "inputs, age is 5; expected a list"),
        ('{"inputs": [{"name": "x", "shape": [2], "data": [5]}]}', "1 values do not match the"),
        ('{"data": {"ndarray": [], "tensor": {}}}', "data has ndarray and tensor; keep one"),
        ("age,city,more\n5,Bern,a\n", "missing columns: note; unexpected columns: more"),
        ("\x93NUMPY", "is not a complete .npy file"),
        ("PK\x03\x04", "is an archive (.npz); save its array as .npy"),
    ],
)
def test_wrong_rows_of_a_table_are_refused_with_their_place(
    tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "rows"
    file.write_text(content, encoding="latin-1" if content.startswith("\x93") else "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_rows(spec(TABLE), (), file)
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "one, two\nthree\n\n",
        'class,text\ngood,"one, two"\nbad,three\n',
        '["one, two", "three"]',
        '{"data": {"ndarray": ["one, two", "three"]}}',
        '{"instances": [["one, two"], ["three"]]}',
    ],
)
def test_strings_are_read_from_lines_and_columns(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
    found = read_rows(spec(Schema.text()), (), file)
    assert found.values == (("one, two",), ("three",))
    assert read_rows(spec(Schema.text()), ("one, two", "three"), None).values == found.values


def test_a_missing_number_is_read_where_the_schema_allows_it() -> None:
    numbers = Schema((Column("a"), Column("b", nullable=True)), form="array")
    assert read_rows(spec(numbers), ("1.5,",), None).values == ((1.5, None),)
    with pytest.raises(ConfigurationError, match="--row 1, column 'a': the value is missing"):
        read_rows(spec(numbers), (",1.5",), None)


ARRAY = Schema(
    (Column("a"), Column("b", nullable=True), Column("c", "bool")),
    form="array",
)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.5, np.nan, 1], [2, 3, 0]]),
        np.array([[1.5, np.nan, 1], [2, 3, 0]], dtype=np.float32),
        {"data": {"tensor": {"shape": [2, 3], "values": [1.5, None, True, 2, 3, 0]}}},
        {"inputs": [{"name": "x", "shape": [2, 3], "data": [1.5, None, True, 2, 3, 0]}]},
        {"inputs": [{"name": "x", "shape": [2, 3], "data": [[1.5, None, 1], [2, 3, False]]}]},
        {"inputs": [{"name": "c", "data": [[True], [False]]}, {"name": "a", "data": [1.5, 2]},
                    {"name": "b", "data": [None, 3]}]},
    ],
)  # fmt: skip
def test_rows_of_an_array_are_read_from_numpy_and_tensors(tmp_path: Path, values: Any) -> None:
    file = tmp_path / "rows"
    if isinstance(values, dict):
        file.write_text(json.dumps(values))
    else:
        with file.open("wb") as opened:
            np.save(opened, values)
    assert read_rows(spec(ARRAY), (), file).values == ((1.5, None, True), (2, 3, False))


def test_a_file_of_numpy_may_have_one_row_or_one_column(tmp_path: Path) -> None:
    file, one = tmp_path / "rows.npy", Schema((Column("a"),), form="array")
    np.save(file, np.array([1.5, 2.0, 1.0]))
    assert read_rows(spec(ARRAY), (), file).values == ((1.5, 2.0, True),)
    assert read_rows(spec(one), (), file).values == ((1.5,), (2.0,), (1.0,))
    with pytest.raises(
        ConfigurationError, match=r"rows\.npy, row 1 has 3 values; expected 2: t, u"
    ):
        read_rows(spec(Schema((Column("t"), Column("u")))), (), file)
    file.write_text(json.dumps({"inputs": [{"name": "a", "shape": [2, 1], "data": [[1], [2]]}]}))
    assert read_rows(spec(one), (), file).values == ((1.0,), (2.0,))


WORDS = Schema((Column("note", "string"), Column("city", "string")))


@pytest.mark.parametrize(
    ("schema", "name", "content", "wanted"),
    [
        (WORDS, "rows.csv", "note,city\na,b\n", (("a", "b"),)),
        (WORDS, "rows.csv", "city,nothing\na,b\n", (("city", "nothing"), ("a", "b"))),
        (TABLE, "rows.csv", "7,Bern,city\n", ((7.0, "Bern", "city"),)),
        (Schema.text(), "rows.csv", "text\na\n", (("a",),)),
        (Schema.text(), "rows.txt", "text\na\n", (("text",), ("a",))),
    ],
)
def test_a_first_line_is_a_header_if_it_names_every_column(
    tmp_path: Path, schema: Schema, name: str, content: str, wanted: Any
) -> None:
    (tmp_path / name).write_text(content)
    assert read_rows(spec(schema), (), tmp_path / name).values == wanted


def test_a_first_line_that_may_be_a_row_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1,2\n3,4\n")
    with pytest.raises(
        ConfigurationError, match=r"rows\.csv: the first line, 1,2, may be a row or"
    ):
        read_rows(spec(Schema((Column("1"), Column("2")))), (), file)


SIGNS = Schema((Column("t+"), Column("t-"), Column("x_1"), Column("x1")))


def test_columns_whose_names_differ_only_in_signs_are_not_mixed_up(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("x1,t-,x_1,t+\n4,2,3,1\n")
    assert read_rows(spec(SIGNS), (), file).values == ((1.0, 2.0, 3.0, 4.0),)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("t +,t-,x_1,x1", "missing columns: t+; unexpected columns: t +"),
        ("t+,t-,x1,x1", "the column 'x1' is there twice; remove one"),
        ("t+,t-,X1,x1", "missing columns: x_1; unexpected columns: X1"),
    ],
)
def test_names_that_could_be_several_columns_are_refused(
    tmp_path: Path, header: str, sentence: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{header}\n1,2,3,4\n")
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        read_rows(spec(SIGNS), (), file)


def test_quoted_line_ends_and_separators_of_unicode_stay_in_their_field(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    content = 'age,city,note\r\n5,Bern,"a;\r\nb\u2028c"\r\n6,Basel,d\x85e\r\n'
    file.write_bytes(content.encode())
    notes = [row[2] for row in read_rows(spec(TABLE), (), file).values]
    assert notes == ["a;\r\nb\u2028c", "d\x85e"]
    file.write_bytes(b'"a; b",Bern,5\n')
    with pytest.raises(ConfigurationError, match=r"line 1, column 'age': .* the string 'a; b'"):
        read_rows(spec(TABLE), (), file)


def test_a_text_may_begin_with_a_bracket(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_bytes("[sic] one\u2028two\nthree\n".encode())
    found = read_rows(spec(Schema.text()), (), file)
    assert found.values == (("[sic] one\u2028two",), ("three",))
