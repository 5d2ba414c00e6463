"""A model in memory: the score of a row is its sum."""

import json

from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import DIGEST_TAG

LIMITS = ("0.1", "1.0")
"""Of the histogram on `metrics_page`, whose answers all take half a second."""

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


def metrics_page(
    *, answered: int, started: float, digest: str = "d", failed: int = 0, more: str = ""
) -> str:
    """Return what a server with these counts shows to Prometheus, and other metrics."""
    labels = f'predictor="default",digest="{digest}",protocol="seldon",transport="rest"'
    counted = {"answered": answered, "failed": failed, "refused": 7, "unlogged": 8}
    within = {**dict(zip(LIMITS, (0, answered), strict=True)), "+Inf": answered}
    lines = [
        *(f'mlops_answers_total{{{labels},outcome="{o}"}} {n}.0' for o, n in counted.items()),
        *(
            f'mlops_prediction_seconds_bucket{{le="{limit}",protocol="seldon"}} {n}.0'
            for limit, n in within.items()
        ),
        f"process_start_time_seconds {started}",
        more,
    ]
    return "\n".join(lines) + "\n"
