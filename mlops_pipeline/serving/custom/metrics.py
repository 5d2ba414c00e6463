"""Metrics that a custom component returns with its answers, for Prometheus.

A COUNTER is added up, a GAUGE keeps its last value, a TIMER is in milliseconds and becomes a
histogram of seconds. Names, labels and buckets are those of Seldon's wrapper.

python/seldon_core/metrics.py of seldon-core 1.17.1
"""

import bisect
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

logger = logging.getLogger(__name__)

BUCKETS = (*(0.001 * (30 / 0.001) ** (step / 49) for step in range(50)), float("inf"))
"""Upper limits in seconds: 50 from 0.001 to 30 at equal distances of their logarithm."""
MOST_SERIES = 1000
"""Combinations of names and labels that are kept, because each one takes memory for ever."""
_KINDS = {"COUNTER": "counter", "GAUGE": "gauge", "TIMER": "histogram"}
_VARIABLES = {
    "deployment_name": "SELDON_DEPLOYMENT_ID",
    "predictor_name": "PREDICTOR_ID",
    "model_name": "PREDICTIVE_UNIT_ID",
    "model_image": "PREDICTIVE_UNIT_IMAGE",
}

Labels = tuple[tuple[str, str], ...]


class CustomMetrics(Collector):
    """The sums of all metrics that a component has returned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, Labels], list[float]] = {}
        self._kinds: dict[str, str] = {}
        self._usual = {name: os.environ.get(key, "") for name, key in _VARIABLES.items()}
        self._has_warned = False

    def clear(self) -> None:
        """Forget everything: the answers so far were the warm-up's."""
        with self._lock:
            self._series.clear()
            self._kinds.clear()

    def add(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        """Add the metrics of an answer."""
        if not metrics:
            return
        with self._lock:
            for metric in metrics:
                self._add(metric)

    def _add(self, metric: Mapping[str, Any]) -> None:
        name, kind, value = metric["key"], metric["type"], float(metric["value"])
        if kind == "COUNTER":  # Its sample gets this end.
            name = name.removesuffix("_total")
        labels = {**metric.get("tags", {}), "method": "predict"}
        key = (name, tuple(sorted(labels.items())))
        if self._kinds.get(name, kind) != kind or (
            key not in self._series and len(self._series) >= MOST_SERIES
        ):
            if not self._has_warned:
                logger.warning(
                    "The metric %s is left out: it has another type than before, or there are "
                    "%d series of metrics already",
                    name,
                    len(self._series),
                )
                self._has_warned = True
            return
        self._kinds[name] = kind
        if kind == "TIMER":
            series = self._series.setdefault(key, [0.0] * (len(BUCKETS) + 1))
            series[bisect.bisect_left(BUCKETS, value / 1000)] += 1
            series[-1] += value / 1000
        else:
            series = self._series.setdefault(key, [0.0])
            series[0] = series[0] + value if kind == "COUNTER" else value

    def collect(self) -> Iterable[Metric]:
        """Yield every metric, in Prometheus' types."""
        with self._lock:
            families = {
                name: Metric(name, "Of the custom component", _KINDS[kind])
                for name, kind in self._kinds.items()
            }
            for (name, labels), series in self._series.items():
                every = {**dict(labels), **self._usual}
                for suffix, more, value in _samples(self._kinds[name], series):
                    families[name].add_sample(f"{name}{suffix}", {**every, **more}, value)
        yield from families.values()


def _samples(kind: str, series: list[float]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield (end of the name, further labels, value) of a series."""
    if kind != "TIMER":
        yield ("_total" if kind == "COUNTER" else ""), {}, series[0]
        return
    total = 0.0
    for limit, count in zip(BUCKETS, series[:-1], strict=True):
        total += count
        yield "_bucket", {"le": _limit(limit)}, total
    yield "_count", {}, total
    yield "_sum", {}, series[-1]


def _limit(limit: float) -> str:
    text: str = floatToGoString(limit)  # type: ignore[no-untyped-call]
    return text
