"""Hold-out rows are sent to both versions, each once."""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.delivery.artifacts import Holdout
from mlops_pipeline.delivery.releases.evidence import Tally
from mlops_pipeline.delivery.releases.replaying import _WARM_UP, replay
from mlops_pipeline_tests.fakes.predictions import answer
from mlops_pipeline_tests.toy import TOY

ROWS = 45
HOLDOUT = Holdout(np.arange(2.0 * ROWS).reshape(ROWS, 2), np.zeros(ROWS), np.zeros((ROWS, 2)))


def _server(*, fails: float = -1.0, asked: Counter[str] | None = None) -> Predictions:
    """Return a server that answers the sum of each row, and fails where the first value is this."""

    def post(body: bytes) -> HttpAnswer:
        if asked is not None:
            asked[body.decode()] += 1
        row = json.loads(body)["data"]["ndarray"][0]
        return HttpAnswer(500, {}, b"{}") if row[0] == fails else answer(body, digest="d")

    return Predictions("http://iris", post)


def test_each_row_is_sent_once_after_the_first_ones() -> None:
    asked: Counter[str] = Counter()
    replay(TOY, HOLDOUT, stable=[_server()], candidate=[_server(asked=asked)])
    assert len(asked) == ROWS
    assert sum(asked.values()) == ROWS + _WARM_UP


def test_a_row_that_the_candidate_cannot_answer_is_one_event() -> None:
    found = replay(TOY, HOLDOUT, stable=[_server()], candidate=[_server(fails=40.0)])
    assert found["errors"] == Tally(1, ROWS, 0, ROWS)
    assert found["disagreement"] == Tally(0, ROWS - 1, 0, ROWS - 1)
    assert found["slow"].candidate_answers == ROWS - 1


def test_replicas_share_the_rows() -> None:
    one, two = Counter[str](), Counter[str]()
    servers = [_server(asked=one), _server(asked=two)]
    replay(TOY, HOLDOUT, stable=servers, candidate=[_server()])
    assert one.total() + two.total() == ROWS + _WARM_UP
    assert abs(one.total() - two.total()) <= 1


def test_a_version_without_a_server_is_named() -> None:
    with pytest.raises(UnavailableError, match="candidate version of toy: it has no ready server"):
        replay(TOY, HOLDOUT, stable=[_server()], candidate=[])


def test_slow_servers_end_the_replay() -> None:
    times: Iterator[float] = iter(range(0, 10_000, 10))
    with pytest.raises(UnavailableError, match="could not replay 45 rows in 60 s"):
        replay(TOY, HOLDOUT, stable=[_server()], candidate=[_server()], clock=lambda: next(times))
