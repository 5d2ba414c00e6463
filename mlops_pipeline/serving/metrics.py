"""Counts and durations of predictions per protocol, for Prometheus."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from mlops_pipeline.serving.custom.metrics import CustomMetrics
from mlops_pipeline.serving.messages import Answer
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording.exchange import Known, Source
from mlops_pipeline.serving.recording.watch import OUTCOMES, Watch

if TYPE_CHECKING:
    from mlops_pipeline.serving.recording.recorder import Recorder

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

MOST_PREDICTORS = 32
"""Predictors that have labels of their own; the answers of further ones are counted together."""
OTHER = "(other)"


class Metrics:
    """The server's counters. `exposition` returns the answer of `/metrics` and `/prometheus`."""

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, recorder: "Recorder | None" = None
    ) -> None:
        """`recorder` records the answers that are counted; None: only the counters exist."""
        self._registry = registry
        self.recorder = recorder
        self._predictors: set[str] = set()
        self._answers = Counter(
            "mlops_answers",
            "Predictions: answered, refused (4xx), failed (5xx), or abandoned by the client",
            ["predictor", "digest", "protocol", "transport", "outcome"],
            registry=registry,
        )
        self._feedback = Counter(
            "mlops_feedback",
            "Feedback messages that were accepted",
            ["predictor", "digest", "transport"],
            registry=registry,
        )
        self._refused = Counter(
            "mlops_refused_predictions",
            "Refused predictions: the request was invalid",
            ["protocol", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "mlops_prediction_seconds",
            "Seconds from a request's last byte to its answer, per prediction counted as answered",
            ["protocol"],
            registry=registry,
            buckets=_BUCKETS,
        )
        _tell_process(registry)
        self._rows = Histogram(
            "mlops_batch_rows",
            "Rows that one call of the model computed for the requests that shared it",
            registry=registry,
            buckets=_ROWS,
        )
        self._waits = Histogram(
            "mlops_batch_wait_seconds",
            "Seconds that a request waited for the call of the model that computed it",
            registry=registry,
            buckets=_BUCKETS,
        )

    def called(self, rows: int, waits: Sequence[float]) -> None:
        """Count a call of the model; each of its requests has waited that many seconds."""
        self._rows.observe(rows)
        for seconds in waits:
            self._waits.observe(seconds)

    def collect(self, custom: CustomMetrics) -> None:
        """Expose the metrics of a custom component too, from now on."""
        custom.clear()
        self._registry.register(custom)

    def watch(self, unit: Unit, protocol: str, transport: str = "rest") -> Watch:
        """Return what counts and times the answers of a unit, by a protocol over a transport.

        Create it once, not for each request.
        """
        source = Source(unit.predictor, unit.model.digest, protocol, transport)
        labels = source._replace(predictor=self._predictor(unit))
        own = unit.model.default
        schema = own.schema.names if own.schema is not None else ()
        known = Known(own.columns or tuple(schema), unit.model.manifest.output_names)
        name = source.protocol if source.transport == "rest" else f"{source.protocol}-grpc"
        return Watch(
            source,
            counters={outcome: self._answers.labels(*labels, outcome) for outcome in OUTCOMES},
            answered=self._seconds.labels(name).observe,
            refused=lambda reason: self._refused.labels(name, reason).inc(),
            recorder=self.recorder,
            known=known,
        )

    def count_feedback(self, unit: Unit, transport: str) -> None:
        """Count a feedback that was accepted."""
        self._feedback.labels(self._predictor(unit), unit.model.digest, transport).inc()

    def _predictor(self, unit: Unit) -> str:
        """Return the label of a unit; a forwarder's header may name any number of predictors."""
        if unit.predictor not in self._predictors:
            if len(self._predictors) >= MOST_PREDICTORS:
                return OTHER
            self._predictors.add(unit.predictor)
        return unit.predictor

    def exposition(self) -> Answer:
        """Return all metrics of the process in Prometheus' text format."""
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        return Answer(200, generate_latest(self._registry), kind)


def _tell_process(registry: CollectorRegistry) -> None:
    """Expose which process counts, and since when: a reader compares two looks at its counters.

    Prometheus' own collector tells the start on Linux alone.
    """
    process = Gauge("mlops_process_id", "Id of the server's process", registry=registry)
    process.set(os.getpid())
    if registry.get_sample_value("process_start_time_seconds") is None:
        name, help_ = "process_start_time_seconds", "Start of the server, seconds since 1970"
        Gauge(name, help_, registry=registry).set(time.time())
