"""Counts and durations of predictions per protocol, for Prometheus."""

import time
from collections.abc import Callable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest

from mlops_pipeline.serving.custom.metrics import CustomMetrics
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Handler, Request

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's counters. `exposition` returns the answer of `/metrics` and `/prometheus`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._refused = Counter(
            "mlops_refused_predictions",
            "Refused predictions: the request was invalid",
            ["protocol", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "mlops_prediction_seconds",
            "Seconds from a request's last byte to its answer, per successful prediction",
            ["protocol"],
            registry=registry,
            buckets=_BUCKETS,
        )
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

    def counted(self, protocol: str) -> Callable[[Handler], Handler]:
        """Return a decorator that counts and times a handler under `protocol`."""
        observe = self._seconds.labels(protocol).observe

        def decorate(handler: Handler) -> Handler:
            async def counting(request: Request) -> Answer:
                begin = time.perf_counter()
                try:
                    answer = await handler(request)
                except RequestError as error:
                    self._refused.labels(protocol, error.reason).inc()
                    raise
                observe(time.perf_counter() - begin)
                return answer

            return counting

        return decorate

    def exposition(self) -> Answer:
        """Return all metrics of the process in Prometheus' text format."""
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        return Answer(200, generate_latest(self._registry), kind)
