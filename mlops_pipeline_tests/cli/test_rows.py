"""Rows for `predict`, as people have them in files."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.catalog.iris import IRIS, load
from mlops_pipeline.catalog.mnist import MNIST
from mlops_pipeline.cli.predict import predict_named, read_rows
from mlops_pipeline.cli.rows import Rows, read
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.prediction import PredictionClient, Reply
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline_tests.serving.at_once import seldon
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit

ROWS = ((5.1, 3.5, 1.4, 0.2), (6.2, 2.9, 4.3, 1.3))
FLAT = [value for row in ROWS for value in row]
NESTED = [list(row) for row in ROWS]
NAMES = ("a", "b", "c", "d")


def _lines(delimiter: str, *, header: bool = False) -> str:
    lines = [delimiter.join(map(str, row)) for row in ROWS]
    return "\n".join([delimiter.join(NAMES), *lines] if header else lines)


@pytest.mark.parametrize(
    "content",
    [
        _lines(","),
        _lines(", "),
        _lines(";"),
        _lines(";").replace(".", ","),
        _lines("\t"),
        _lines(" "),
        "\ufeff" + _lines(",").replace("\n", "\r\n") + "\r\n\r\n",
        json.dumps(NESTED),
        json.dumps({"data": {"ndarray": NESTED}}),
        json.dumps({"data": {"tensor": {"shape": [2, 4], "values": FLAT}}}),
        json.dumps({"jsonData": {"instances": NESTED}}),
        json.dumps({"instances": NESTED}),
        json.dumps({"data": {"ndarray": NESTED, "tensor": None}, "jsonData": None}),
        json.dumps({"inputs": NESTED}),
        json.dumps({"inputs": {"x": NESTED}}),
        json.dumps({"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": FLAT}]}),
        json.dumps({"inputs": [{"name": "x", "shape": [2, 4], "data": NESTED}]}),
        json.dumps({"instances": [[[5.1, 3.5], [1.4, 0.2]], [[6.2, 2.9], [4.3, 1.3]]]}),
        json.dumps({"instances": [{"images": row} for row in NESTED]}),
        json.dumps({"jsonData": [{"images": row} for row in NESTED]}),
        json.dumps({"instances": NESTED, "inputs": None, "data": None}),
        "\n".join(f"{line} " for line in _lines(" ").splitlines()),
        "sep=;\n" + _lines(";"),
        '\ufeff"SEP=,"\r\n' + _lines(","),
        _lines("\t").replace(".", ","),
    ],
)
def test_rows_are_read_from_what_people_have(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
    assert read(file).values == ROWS
    assert read(file).names == ()


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    columns = [
        {"name": n, "shape": [2], "data": [row[i] for row in ROWS]} for i, n in enumerate(NAMES)
    ]
    for content in (
        _lines(",", header=True),
        _lines(";", header=True),
        json.dumps({"data": {"names": NAMES, "ndarray": NESTED}}),
        json.dumps({"inputs": columns}),
        json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS]),
        json.dumps({"instances": [dict(zip(NAMES, row, strict=True)) for row in ROWS]}),
        "sep=;\n" + _lines(";", header=True),
        _lines("\t", header=True).replace(".", ","),
    ):
        (tmp_path / "rows").write_text(content)
        assert (read(tmp_path / "rows").names, read(tmp_path / "rows").values) == (NAMES, ROWS)


def test_rows_are_read_from_numpy_and_utf_16(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array(ROWS))
    assert read(tmp_path / "rows.npy").values == ROWS
    np.save(tmp_path / "rows.npy", np.array([[True, False]]))
    assert read(tmp_path / "rows.npy").values == ((1, 0),)
    (tmp_path / "rows.csv").write_bytes(_lines(",").encode("utf-16"))
    assert read(tmp_path / "rows.csv").values == ROWS
    (tmp_path / "one.json").write_text("[5.1, 3.5, 1.4, 0.2]")
    assert read(tmp_path / "one.json").values == ROWS[:1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"5.1,3.5,1.4,0.2\n5.1,x,1.4,0.2", r"rows, line 2, column 2: 'x' is not a finite number"),
        (b"5.1,,1.4,0.2", r"rows, line 1, column 2: '' is not a finite number"),
        (b"5.1,nan,1.4,0.2", "line 1, column 2: 'nan' is not"),
        (b"\n1,2,3,4\n1,2,3", "rows, line 3 has 3 values; iris expects 4"),
        (b"a,b,c,d\n1,2,3", "line 2 has 3 values for 4 column names"),
        (b"a,b,c,d\n", "contains no rows"),
        (b"", "contains no rows"),
        (b"[]", "contains no rows"),
        (b'{"data": {"ndarray": [[1, 2', r"rows, line 1, column \d+: invalid JSON .*complete"),
        (b'{"data": {"ndarray": [[1]]}, "jsonData": [[1]]}', "rows has data and jsonData; keep"),
        (b'{"jsonData": {"instances": [[1]], "inputs": [[2]]}}', "jsonData has instances and inp"),
        (b'{"data": {"ndarray": [[1]], "tensor": {}}}', "data has ndarray and tensor; keep one"),
        (b'{"a": 1}', "rows has a; expected a list of rows, or a Seldon"),
        (b'{"data": {"ndarray": [[1, 2, null, 4]]}}', "data, row 1, value 3: None is not"),
        (b"[[1, 2, true, 4]]", "row 1, value 3: True is not"),
        (b"[[1, 2, 3, 4], 5]", "row 2 is 5; expected a list of numbers"),
        (b'{"data": {"ndarray": 7}}', "data is int; expected"),
        (b'{"data": {"tensor": {"values": [1]}}}', "a tensor requires `shape` and `values`"),
        (b'{"data": {"tensor": {"shape": [2, 4], "values": [1]}}}', "1 values do not match the sh"),
        (b"0,1,2,3\n5.1,3.5,1.4,0.2", "rows, line 1: 0,1,2,3 may be a row or the column num"),
        (b"[[1, 2, 3, 1" + 400 * b"0" + b"]]", "row 1, value 4: 10{79}… is not a finite number"),
        (b"[[1, 2, 3, 1" + 5000 * b"0" + b"]]", "rows contains a number with too many digits"),
        (b"1,2,3,1" + 400 * b"0", "line 1, column 4: '10{78}… is not a finite number"),
        (100_000 * b"[", "rows is nested too deeply; expected a list of rows"),
        (900 * b"[" + b"1" + 900 * b"]", "is nested too deeply|row 1 has 1 values"),
        (50_000 * b'{"jsonData": ' + b"1" + 50_000 * b"}", "nested too deeply"),
        (b"1,2,3,4\n" + 200_000 * b"1" + b",2,3,4", "rows, line 2: invalid CSV: field larger"),
        (b'{"data": {"names": 5, "ndarray": [[1, 2, 3, 4]]}}', "names is 5; expected a list"),
        (b'{"data": {"tensor": {"shape": [1, null], "values": [1]}}}', "do not match the shape"),
        (b'{"data": {"tensor": {"shape": [1, "a"], "values": [1]}}}', "do not match the shape"),
        (b"\x93NUMPY\x01\x00v", "not a complete .npy"),
        (b"PK\x03\x04", r"an archive \(.npz\); save"),
        (b"\x80\x04\x95", r"rows is not text \(byte 0\); use CSV, JSON or .npy"),
        (b"\xff\xfe1", "rows is not text"),
        ("länge,b,c,d\n1,2,3,4".encode("cp1252"), r"not in UTF-8 \(byte 1\); save it as UTF-8"),
        (b'{"instances": [[1, 2, 3, 4]], "inputs": [[1]]}', "rows has instances and inputs; keep"),
        (b'[{"a": 1, "b": [2]}]', "objects with a, b, where lists and numbers are mixed"),
        (b'[{"a": [1]}, {"a": 1}]', "objects with a, where lists and numbers are mixed"),
        (b'[{"a": [1], "b": [2]}]', "objects with a, b, where lists and numbers are mixed"),
        (
            b'{"instances": [{"a": [1]}, {"b": [1]}]}',
            r"row 2 is \{'b': \[1\]\}; expected an object",
        ),
        (b'[{"a": 1, "b": 2}, {"a": 1}]', r"row 2 is \{'a': 1\}; expected an object with a, b, l"),
        (b"[[1, 2, 3, 4], {}]", r"row 1 is \[1, 2, 3, 4\]; expected an object with names"),
        (b"[{}]", r"row 1 is \{\}; expected an object with names"),
        (b'[{"a": 1, "b": 2, "c": 3, "d": null}]', "row 1, value 4: None is not a finite number"),
        (
            b"a.b\tb\tc\td\n1\t2\t3\t4\n1,234\t2\t3\t4",
            "rows, line 3, column 1: '1,234' may have a decimal comma or a separator of thousands",
        ),
        (b"1,234,567\t2\t3\t4", "column 1: '1,234,567' may have a decimal comma"),
        (b"1,5\t2.5\t3\t4", "rows, line 1, column 1: '1,5' is not a finite number"),
        (b"1,234.5;2;3;4", "rows, line 1, column 1: '1.234.5' is not a finite number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(ConfigurationError, match=complaint):
        read_rows(IRIS, [], tmp_path / "rows")


WIDTHS = ("petal width (cm)", "Petal_Length_cm", "sepal width cm", "SEPALLENGTHCM")
BACKWARDS = [row[::-1] for row in ROWS]


def _backwards(names: Sequence[str]) -> list[str]:
    """Return files in which the last column comes first."""
    columns = [
        {"name": name, "shape": [2], "data": [row[i] for row in BACKWARDS]}
        for i, name in enumerate(names)
    ]
    lines = [",".join(map(str, row)) for row in (names, *BACKWARDS)]
    return [
        "\n".join(lines),
        "\n".join(lines).replace(",", ";"),
        json.dumps({"data": {"names": names, "ndarray": BACKWARDS}}),
        json.dumps({"inputs": columns}),
    ]


@pytest.mark.parametrize(
    "names",
    [
        WIDTHS,
        *([f"{prefix}{n}" for n in (3, 2, 1, 0)] for prefix in ("x", "t:", "pixel", "f_1")),
    ],
)
def test_columns_with_names_are_put_into_order(tmp_path: Path, names: Sequence[str]) -> None:
    for content in _backwards(names):
        (tmp_path / "rows").write_text(content)
        found = read_rows(IRIS, [], tmp_path / "rows")
        assert (found.values, found.names) == (ROWS, ())


@pytest.mark.parametrize(
    "names", [NAMES, ("x3", "x2", "x1", "x1"), ("x3", "x2", "x1", "x4"), (*WIDTHS[:3], "a")]
)
def test_other_names_are_left_to_the_model(tmp_path: Path, names: Sequence[str]) -> None:
    for content in _backwards(names):
        (tmp_path / "rows").write_text(content)
        found = read_rows(IRIS, [], tmp_path / "rows")
        assert (found.values, found.names) == (tuple(BACKWARDS), tuple(names))


def test_pixels_of_an_image_are_put_into_order_and_few_names_are_shown(tmp_path: Path) -> None:
    names = sorted(f"pixel{n}" for n in range(784))  # pixel0, pixel1, pixel10, pixel100 …
    row = ",".join(name.removeprefix("pixel") for name in names)
    (tmp_path / "rows").write_text(f"{','.join(names)}\n{row}")
    found = read_rows(MNIST, [], tmp_path / "rows")
    assert (found.values, found.names) == ((tuple(range(784)),), ())
    asked = replace(found, names=tuple(f"column{n}" for n in range(1, 785)))
    with pytest.raises(ConfigurationError) as failure:
        predict_named(MNIST, _Client(width=784), asked)
    said = str(failure.value)
    assert said.startswith("unknown columns of mnist: column1, column2, ")
    assert said.count(" and 774 more") == 2
    assert len(said) < 500


class _Client(PredictionClient):
    """Asks a model that knows these columns, and answers with the rows that it was given."""

    def __init__(self, *known: str, width: int = 4) -> None:
        signature = replace(
            toy_signature(), row_shape=(width,), columns=known, compute=lambda rows, _: [rows]
        )
        self._unit = toy_unit(toy_model(signature))

    def ask(self, payload: bytes) -> Reply:
        try:
            answer = seldon.predictions(self._unit, Request(payload, b"application/json"))
        except RequestError as error:
            raise UnavailableError(f"it answered {error.status}: {error}") from error
        return Reply(json.loads(answer.body), "", 0.0)


def test_names_are_sent_only_to_a_model_that_knows_its_own() -> None:
    asked = Rows(tuple(BACKWARDS), ("line 1", "line 2"), NAMES[::-1])
    assert predict_named(IRIS, _Client(*NAMES), asked).rows == NESTED
    with pytest.raises(UnavailableError, match="missing"):
        predict_named(IRIS, _Client("e", "f", "g", "h"), asked)
    with pytest.raises(
        ConfigurationError,
        match="unknown columns of iris: d, c, b, a; rename them to sepal length",
    ):
        predict_named(IRIS, _Client(), asked)


@pytest.mark.parametrize("content", ["0,1,2,3", "0.0,1.0,2.0,3.0\n1,2,3,4", "1,2,3,4\n0,1,2,3"])
def test_a_row_of_small_numbers_is_a_row(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows").write_text(content)
    assert (0, 1, 2, 3) in read_rows(IRIS, [], tmp_path / "rows").values


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["1,2,3,4", "1,2,x,4"], "--row 2, value 3: 'x' is not a finite number"),
        (["1,2,3"], "--row 1 has 3 values; iris expects 4"),
        ([""], "--row 1, value 1: '' is not"),
    ],
)
def test_wrong_rows_on_the_command_line_are_named(words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        read_rows(IRIS, words, None)


@pytest.mark.parametrize(
    "line",
    [
        "5.1,3.5,1.4,0.2,{number}",
        "5.1 ,3.5,1.4,0.2,{number}",
        "+5.1,3.5,1.4,0.2,{name}",
        "5.1e0,3.5,1.4,0.2,{number}",
        "5,1;3,5;1,4;0,2;{name}",
        "5.1\t3.5\t1.4\t0.2\t{number}",
        "5.1 3.5 1.4 0.2 {number}",
        "sepal length;sepal width;petal length;petal width;class\n5,1;3,5;1,4;0,2;{name}",
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),class\n"
        "5.1,3.5,1.4,0.2,{name}",
        "Id,PetalLengthCm,PetalWidthCm,SepalLengthCm,SepalWidthCm,Species\n"
        "1,1.4,0.2,5.1,3.5,Iris-{name}",
    ],
)
def test_iris_is_read_with_numbers_names_and_headers(tmp_path: Path, line: str) -> None:
    header, _, row = line.rpartition("\n")
    rows = [row.format(number=n, name=c) for n, c in enumerate(IRIS.dataset.classes)] * 4
    for encoding in ("utf-8", "utf-16"):
        text = "\n".join([header, *rows] if header else rows)
        (tmp_path / "iris.csv").write_text(text, encoding=encoding)
        found = load(tmp_path / "iris.csv")
        assert found.x_train[0].tolist() == [5.1, 3.5, 1.4, 0.2]
        assert len(found.x_train) + len(found.x_test) == 12
        assert set(found.y_train.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("1,2,3,4,rose", "iris.csv, line 1: expected 4 lengths and a class, got '1,2,3,4,rose'"),
        ("1,2,3,4", "line 1: expected 4 lengths and a class"),
        ("1,2,3,4,7", "line 1: expected"),
        ("a,b\n1,2", "lacks the columns sepallength"),
        (
            "-5.1,3.5,1.4,0.2,rose",
            "line 1: expected 4 lengths and a class, got '-5.1,3.5,1.4,0.2,r",
        ),
        ("", "iris.csv contains no rows"),
        ("sepallength,sepalwidth,petallength,petalwidth,class\n", "iris.csv contains no rows"),
        ("1,2,3,4,“rose”", r"iris.csv is not in UTF-8 \(byte 8\); save it as UTF-8"),
        ("1,2,3,4,\0\x80", r"iris.csv is not text \(byte 9\); use CSV"),
    ],
)
def test_what_is_no_iris_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "iris.csv").write_text(content, encoding="latin-1" if "\0" in content else "cp1252")
    with pytest.raises(ConfigurationError, match=complaint):
        load(tmp_path / "iris.csv")
