"""A model in memory: the score of a row is its sum."""

import json

from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import DIGEST_TAG

ROWS = [[1.0, 2.0], [0.5, 0.25]]
SCORES = [[3.0], [0.75]]


def answer(body: bytes, *, digest: str) -> HttpAnswer:
    """Answer a request of Seldon's protocol as a server of the artifact does."""
    rows = json.loads(body)["data"]["ndarray"]
    answered = {
        "data": {"ndarray": [[sum(row)] for row in rows]},
        "meta": {"tags": {DIGEST_TAG: digest}},
    }
    return HttpAnswer(200, {"x-model-digest": digest}, json.dumps(answered).encode())
