"""What `predict` prints of a deployment's reply, also if it is not a score for each class."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.catalog.spec import ModelSpec, Thresholds
from mlops_pipeline.catalog.tasks import Regression
from mlops_pipeline.cli.predict import table_of
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import DIGEST_TAG, Predictions, request_for

SCORES = [[0.1, 0.7, 0.2], [0.9, 0.05, 0.05]]


def deployment(data: Any, code: int = 200) -> Predictions:
    """Return a client of a deployment that answers every request with `data`."""
    body = json.dumps({"data": data, "meta": {"tags": {DIGEST_TAG: "abc"}}}).encode()
    return Predictions("http://iris", lambda _: HttpAnswer(code, {}, body))


def lines(data: Any, spec: ModelSpec = IRIS) -> list[list[str]]:
    """Return the words of each line that is printed."""
    reply = deployment(data).ask(request_for([[5.1, 3.5, 1.4, 0.2]]))
    assert (reply.digest, reply.body["data"]) == ("abc", data)
    said = io.StringIO()
    Console(file=said, width=100).print(table_of(spec, reply))
    return [line.split() for line in said.getvalue().splitlines()]


def test_a_score_for_each_class_is_shown_with_the_best_class() -> None:
    assert lines({"names": ["t:0", "t:1", "t:2"], "ndarray": SCORES}) == [
        ["class", "setosa", "versicolor", "virginica"],
        ["versicolor", "0.1000", "0.7000", "0.2000"],
        ["setosa", "0.9000", "0.0500", "0.0500"],
    ]


def test_more_and_fewer_columns_have_the_names_of_the_answer() -> None:
    four = [[0.1, 0.2, 0.3, 0.4]]
    assert lines({"names": ["a", "b", "c", "rest"], "ndarray": four}) == [
        ["a", "b", "c", "rest"],
        ["0.1000", "0.2000", "0.3000", "0.4000"],
    ]
    assert lines({"names": ["length"], "ndarray": [[5.25]]}) == [["length"], ["5.2500"]]
    without_names = [["column", "0", "column", "1"], ["1.0000", "2.0000"]]
    assert lines({"ndarray": [[1, 2]]}) == without_names
    assert lines({"names": ["a"], "ndarray": [[1, 2]]}) == without_names


@pytest.mark.parametrize("rows", [["setosa", "[red]"], [["setosa"], ["[red]"]]])
def test_text_is_shown_as_it_is(rows: list[Any]) -> None:
    assert lines({"names": ["species"], "ndarray": rows}) == [["species"], ["setosa"], ["[red]"]]


def test_other_values_are_shown_as_json() -> None:
    assert lines({"names": ["a", "b"], "ndarray": [[None, [1]], [True, "x"]]}) == [
        ["a", "b"],
        ["null", "[1]"],
        ["true", "x"],
    ]
    assert lines({"names": ["label"], "ndarray": [7, 0]}) == [["label"], ["7.0000"], ["0.0000"]]


def test_numbers_of_classes_are_shown_as_their_names() -> None:
    assert lines({"names": [], "ndarray": [1, 0]}) == [["class"], ["versicolor"], ["setosa"]]


def test_a_regression_has_a_prediction_for_each_row() -> None:
    spec = replace(
        IRIS,
        task=Regression(),
        dataset=replace(IRIS.dataset, classes=()),
        thresholds=Thresholds({"rmse": 1.0}),
    )
    shown = lines({"names": [], "ndarray": [5.25, 234567.891]}, spec)
    assert shown == [["prediction"], ["5.2500"], ["234567.89"]]
    assert lines({"names": [], "ndarray": []}) == [[]]


@pytest.mark.parametrize("meta", [None, {}, {"tags": None}])
def test_a_reply_of_another_server_has_no_digest(meta: Any) -> None:
    body = json.dumps({"data": {"ndarray": ["x"], "names": None}, "meta": meta}).encode()
    reply = Predictions("http://iris", lambda _: HttpAnswer(200, {}, body)).ask(b"{}")
    assert (reply.digest, reply.names, reply.rows) == ("", [], ["x"])


@pytest.mark.parametrize("data", [None, {}, {"ndarray": "x"}, {"tensor": {}}, [1]])
def test_a_reply_without_rows_is_quoted(data: Any) -> None:
    with pytest.raises(
        UnavailableError, match="could not get a prediction from http://iris: it an"
    ):
        deployment(data, 503).ask(b"{}")


@pytest.mark.parametrize("rows", [["setosa"], [["setosa"]], [[1, 2], [1]], [None], []])
def test_where_scores_are_required_others_are_refused(rows: list[Any]) -> None:
    assert deployment({"ndarray": SCORES}).send(b"{}").scores == SCORES
    with pytest.raises(UnavailableError, match="it answered 200"):
        deployment({"ndarray": rows}).send(b"{}")
