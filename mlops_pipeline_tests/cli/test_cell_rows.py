"""Rows of a table and of strings for `predict`."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        ('[[5, "Bern"', "as JSON"),
        ('[[5, "Bern", 7]]', "row 1, column 'note': expected a string, got the number 7"),
        ('{"rows": []}', "has rows; expected a list of rows, or a Seldon"),
        ('[{"age": 5}, {"city": 5}]', "the rows have different columns"),
    ],
)
def test_wrong_rows_of_a_table_are_refused_with_their_place(
    tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
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
