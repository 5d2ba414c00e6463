"""SavedModels that are odd: the right answer by every protocol, or one sentence before any."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mlops_pipeline_tests.serving.saved_models import LONG
from mlops_pipeline_tests.serving.servers import ROOT

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]

DOUBLE = [[2.0, 4.0], [6.0, 9.0]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mlops_pipeline_tests.serving.saved_models"),
            str(tmp_path_factory.mktemp("saved models")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=350,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("text", ["1", "1"]),
        ("text that is not ASCII", [["ü🌷", "ü🌷"], ["ü🌷", "ü🌷"]]),
        ("a table of logs", [[0.0, 0.693147], [1.098612, 1.504077]]),
        ("booleans", [[False, True], [False, False]]),
        ("bytes", [[[0, 255]], [[1, 2]]]),
        ("brain floats", DOUBLE),
        ("half floats", DOUBLE),
        ("unknown rank", DOUBLE),
        ("unknown length", [[1.0, 3.0, 6.0]]),
        ("several outputs", DOUBLE),
        ("two versions", DOUBLE),
        ("one of two outputs", [[1.0], [3.0]]),
        ("a named signature", [[3.0, 6.0], [9.0, 13.5]]),
        ("one row at a time", [[2.0, 4.0]]),
        ("a number besides", DOUBLE),
        ("no name", DOUBLE),
        ("totals", [3.0, 7.5]),
    ],
)
def test_every_protocol_gives_the_models_own_answer(name: str, answer: Any, served: Any) -> None:
    for protocol, given in served[name]["answers"].items():
        if isinstance(answer[0], float):
            assert given == pytest.approx(answer, abs=1e-5), protocol
        elif isinstance(answer[0][0], float):
            for row, wanted in zip(given, answer, strict=True):
                assert row == pytest.approx(wanted, abs=1e-5), protocol
        else:
            assert given == answer, protocol


def test_the_highest_version_is_served_and_the_others_are_known(served: Any) -> None:
    assert served["two versions"]["versions"] == [2, 1]
    assert served["text"]["versions"] == [1]


def test_text_and_bytes_come_in(served: Any) -> None:
    assert served["bytes come in"]["texts"] == {
        "TF": [2, 2],
        "TF gRPC": [2, 2],
        "seldon binData": [2],
    }


def test_outputs_are_described_as_the_model_knows_them(served: Any) -> None:
    def described(name: str) -> dict[str, tuple[str, list[str]]]:
        return {
            output: (info["dtype"], [dim["size"] for dim in info["tensor_shape"]["dim"]])
            for output, info in served[name]["outputs"].items()
        }

    assert described("text")["label"] == ("DT_STRING", ["-1"])
    several = {"a": ("DT_FLOAT", ["-1", "2"]), "b": ("DT_FLOAT", ["-1", "1"])}
    assert described("several outputs") == several
    assert described("unknown rank") == {"y": ("DT_INVALID", [])}
    assert described("half floats")["y"][0] == "DT_HALF"


def test_integers_keep_their_digits_or_are_refused(served: Any) -> None:
    for protocol, given in served["long integers"]["answers"].items():
        if protocol.startswith("seldon gRPC"):  # Its messages hold doubles.
            assert "beyond 2^53 came as a float" in given
        else:
            assert given == [[LONG, 1], [-LONG, 2]], protocol


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "complex",
            "'serving_default': its output 'y' is of type complex64; numbers, booleans and",
        ),
        ("no default", "to one of one, two."),
        (
            "a misspelt parameter",
            "Unknown parameter 'signature'; this model accepts signature",
        ),
        ("a refused output", "it has y; 'loss' is a single value, not one for each row."),
        ("a number alone", "its output 'loss' is a single value, not one for each row."),
        ("rows of its own", "its output 'y' has 5 rows for any number of rows"),
        ("columns first", "the output 'y' has shape [2, 1] for 1 rows; its first axis must be"),
        ("a signature that cannot be served", "to one of serving_default."),
        ("complex comes in", "the type complex64 ('x'), expected numbers or strings."),
        ("another schema", "the schema is for a table with the columns 'times', 'word', of whi"),
        ("fractions for integers", "'times' is of type int64, which has no fractions, but the col"),
        ("a number comes in", "its input is a single number ('x'), expected rows."),
        ("ragged", "the output 'y' has shape [0] for 1 rows; its first axis must be rows"),
        ("nothing", "'serving_default': it has no output."),
        ("no signature", "has no signature that can be served: it has no signatures."),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(
    name: str, sentence: str, served: Any
) -> None:
    refused = served[name]["refused"]
    assert sentence in refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("name", "answer", "inputs"),
    [
        ("two inputs", [[20.0, 40.0], [60.0, 80.0]], {"a": "FP32", "b": "FP32"}),
        ("words and numbers", [[6], [10]], {"times": "INT64", "word": "BYTES"}),
        ("a table", [[6], [10]], None),
        ("text comes in", [[2], [2]], {"x": "BYTES"}),
        ("text in a column", [[2], [2]], None),
    ],
)
def test_named_inputs_and_strings_are_answered_by_every_protocol_that_names_them(
    name: str, answer: Any, inputs: Any, served: Any
) -> None:
    found = served[name]
    given = found["answers"]
    (output,) = given["V2"]["outputs"]
    assert output["data"] == [value for row in answer for value in row]
    assert given["TF rows"] == {"predictions": answer}
    assert given["TF columns"] == {"outputs": answer}
    assert given["TF gRPC"] == answer
    assert given["seldon jsonData"]["jsonData"] == {"predictions": answer}
    assert found["batch"] > 1, "requests may share a call"
    if inputs is not None:
        assert found["inputs"] == inputs


def test_the_schema_s_sizes_count_where_the_network_takes_any(served: Any) -> None:
    found = served["inputs of any size"]
    assert found["shapes"] == [[-1, 2], [-1, 2]]
    assert found["answers"]["TF rows"] == {"predictions": [[11.0, 22.0], [33.0, 44.0]]}


def test_tensors_are_what_tensorflow_writes_and_reads(served: Any) -> None:
    assert len(served["tensors"]) > 30
    for name, (wanted, given) in served["tensors"].items():
        assert given == wanted, name
    assert served["tensors"]["no values"][1] == ["float32", repr([[0.0] * 3] * 2)]
    assert served["tensors"]["repeated"][1] == ["float32", repr([[1.5] * 3] * 2)]


def test_a_wrong_number_of_named_inputs_is_refused(served: Any) -> None:
    given = served["two inputs"]["answers"]
    assert given["one input less"] == "the inputs: missing 'b'"
    assert given["seldon ndarray"] == "input 'a': expected shape [n, 2], got [1]"
    given = served["a table"]["answers"]
    assert given["one input less"] == "the inputs' names: missing 'word'"
    assert "row 1, column 'word': expected a string, got the number 2.0" in given["seldon ndarray"]
